"""The audit log: its entries and the signed checkpoints of its chain."""
