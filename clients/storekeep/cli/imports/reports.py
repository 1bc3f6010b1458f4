"""Escaping of CSV reports, so that no cell runs as a formula in a spreadsheet (CWE-1236)."""

from __future__ import annotations

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters of formulas (OWASP, CSV Injection), including the full-width forms of the signs."""


def escape_formula(value: object) -> str:
    """Return the text of a cell, with an apostrophe before a formula. Integers do not change."""
    text = str(value)
    if isinstance(value, int) or not text.lstrip(" ").startswith(FORMULA_STARTS):
        return text
    return f"'{text}"


def unescape_formula(text: str) -> str:
    """Return the text of a cell that `escape_formula` wrote."""
    return text[1:] if text.startswith("'") and text[1:].lstrip(" ").startswith(FORMULA_STARTS) else text
