"""The audit log and the signed checkpoints of its hash chain."""
