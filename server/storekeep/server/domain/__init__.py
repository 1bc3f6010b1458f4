"""The rules: what may happen to products, stock, customers, orders and accounts, and what it leads to."""
