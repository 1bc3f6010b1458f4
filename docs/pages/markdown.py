"""Markdown as the reference pages use it: a head that says where a page comes from, tables, anchors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def head(title: str, *, source: str) -> str:
    """The title, under a note for whoever opens the file to change it."""
    return f"<!-- Written by `make generate` from {source}. Change it there. -->\n\n# {title}\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with left-aligned columns; `|` in a cell is escaped."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(text) for text in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """One cell, on one line."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """Text as code; nothing for nothing."""
    return f"`{text}`" if text else ""


def link(text: str, target: str) -> str:
    """A link whose text is code."""
    return f"[`{text}`]({target})"


def anchor(title: str) -> str:
    """The fragment under which a heading of one word is found."""
    return "#" + title.lower().replace(".", "")
