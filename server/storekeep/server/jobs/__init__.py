"""Background jobs: most run in the leader, which writes to the database, and `ProviderKeysJob` in every process."""
