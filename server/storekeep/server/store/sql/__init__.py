"""SQL: dialects, statements, rows, listings and transactions."""
