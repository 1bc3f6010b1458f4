"""The tables, one file a subject, with the statements of the hot paths."""
