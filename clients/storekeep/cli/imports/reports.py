"""Reports: cells of CSV files that a spreadsheet takes for text, whatever was put into them (CWE-1236)."""

from __future__ import annotations

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""With which a spreadsheet begins a formula (OWASP, CSV Injection), the full-width forms of the signs too."""


def safe_cell(value: object) -> str:
    """Return a cell of a report; an apostrophe comes before what would be a formula. Numbers stay as they are."""
    text = str(value)
    if isinstance(value, int) or not text.lstrip(" ").startswith(FORMULA_STARTS):
        return text
    return f"'{text}"
