"""Whether a database is sound: invariants and reconciliation."""
