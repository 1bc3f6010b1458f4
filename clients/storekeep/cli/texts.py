"""Text that a terminal shows as it is: control and invisible characters are replaced or escaped."""

from __future__ import annotations

import json

ELLIPSIS = "…"
"""Ends, or begins, a text that is shortened."""
JOINERS = frozenset("\u200c\u200d")
"""Invisible joiners, which Persian, Hindi and emoji require."""


def replace_unprintable(text: str) -> str:
    """Return `text` with control and invisible characters replaced, except line feeds."""
    return "".join(char if is_displayable(char) or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def escape_document(document: str) -> str:
    """Return an equivalent JSON document with control and invisible characters escaped."""
    if document.isprintable():
        return document
    return "".join(char if is_displayable(char) or char == "\n" else json.dumps(char)[1:-1] for char in document)


def is_displayable(char: str) -> bool:
    """Return whether a terminal shows a character as itself: no control character and no text direction mark."""
    return char.isprintable() or char in JOINERS
