"""Whole numbers as users write them."""

from __future__ import annotations

INTEGER_CHARS_MAX = 18
"""Characters of an integer, sign included, that always fit in 64 bits."""
SHOWN_CHARS_MAX = 40


def parse_integer(text: str) -> int:
    """Parse an integer of ASCII digits, with an optional sign, that fits in 64 bits.

    Raises: ValueError with the reason.
    """
    digits = text[1:] if text.startswith(("-", "+")) else text
    if not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{text!r} is not a whole number")
    if len(text) > INTEGER_CHARS_MAX:
        shown = text if len(text) <= SHOWN_CHARS_MAX else f"{text[:SHOWN_CHARS_MAX]}..."
        raise ValueError(f"{shown} does not fit in 64 bits")
    return int(text)
