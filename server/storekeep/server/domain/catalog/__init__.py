"""Categories, products, variants and product search."""
