"""Imports of CSV files, for the command line and the console: reading, mapping of columns, writes of each row."""
