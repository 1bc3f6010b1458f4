"""Escaping of CSV reports, so that no cell runs as a formula in a spreadsheet (CWE-1236).

A spreadsheet may divide a file at other characters than the commas it was written with: semicolons, tabs and line
breaks inside a cell. So each part of a cell is escaped as a cell is. It may also ignore spaces and marks at the start.
"""

from __future__ import annotations

import re
import unicodedata

FORMULA_SIGNS = "=+-@"
"""First characters of formulas (OWASP, CSV Injection). Full-width and other equivalent characters count as well."""
MINUS_SIGN = "\u2212"
_SEPARATORS = re.compile("([;\t\n\x0b\x0c\r\x1c-\x1e\x85\u2028\u2029])")
_QUOTES = "\"'"
_IGNORED = frozenset({"Zs", "Cf", "Cc"})
"""Categories of spaces, and of characters that are not shown."""


def escape_formula(value: object) -> str:
    """Return the text of a cell, with an apostrophe before each formula. Integers do not change."""
    text = str(value)
    if isinstance(value, int):
        return text
    return "".join(f"'{part}" if _is_formula(part) else part for part in _SEPARATORS.split(text))


def unescape_formula(text: str) -> str:
    """Return the text of a cell that `escape_formula` wrote, exactly."""
    parts = _SEPARATORS.split(text)
    return "".join(part[1:] if part.startswith("'") and _is_formula(part) else part for part in parts)


def _is_formula(part: str) -> bool:
    """Return whether a text begins as a formula, after quotes and what is not shown."""
    for char in part:
        if char == MINUS_SIGN or unicodedata.normalize("NFKC", char)[0] in FORMULA_SIGNS:
            return True
        if char not in _QUOTES and unicodedata.category(char) not in _IGNORED:
            return False
    return False
