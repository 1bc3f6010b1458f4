"""Verification of a database, and reconciliation of its stock."""
