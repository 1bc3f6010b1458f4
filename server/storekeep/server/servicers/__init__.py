"""Servicers: each RPC parses its request, calls the domain and builds its response."""
