"""The pages of the reference, one module each; `docs/generate.py` writes them."""
