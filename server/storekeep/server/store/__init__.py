"""Database access: drivers, transactions, tables and the statements of the hot paths. Contains no domain rules."""
