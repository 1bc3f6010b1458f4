"""A walk through a shop over HTTP: each operation of the contract once, in an order that works on an empty database."""
