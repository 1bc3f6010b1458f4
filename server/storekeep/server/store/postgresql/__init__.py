"""The PostgreSQL driver and its connection."""
