"""Background jobs of the process that writes to the database."""
