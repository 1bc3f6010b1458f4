"""Events: the committed changes of the contract's resources, read from the ledger."""
