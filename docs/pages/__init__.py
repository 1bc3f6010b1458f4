"""The generators of the reference pages, one module each. `docs/generate.py` runs them."""
