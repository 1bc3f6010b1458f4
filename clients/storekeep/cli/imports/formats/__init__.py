"""Exports of known programs: their columns, mapped to the targets of the imports."""
