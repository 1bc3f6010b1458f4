"""Categories, products, variants and the search over them."""
