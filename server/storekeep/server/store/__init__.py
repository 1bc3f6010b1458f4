"""The database: tables, transactions and the statements of the hot paths. Knows no rule of the domain."""
