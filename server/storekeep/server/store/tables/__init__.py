"""The tables by subject, with the statements of the hot paths."""
