"""Markdown for the reference pages: page heads, tables, code, links and anchors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def head(title: str, *, source: str) -> str:
    """Return the title, below a comment that names the page's source."""
    return f"<!-- Written by `make generate` from {source}. Change it there. -->\n\n# {title}\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table with left-aligned columns. `|` in a cell is escaped."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(text) for text in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """Return the text of a cell, escaped and on one line."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """Return text as code; empty text stays empty."""
    return f"`{text}`" if text else ""


def link(text: str, target: str) -> str:
    """Return a link with its text as code."""
    return f"[`{text}`]({target})"


def anchor(title: str) -> str:
    """Return the URL fragment of a one-word heading."""
    return "#" + title.lower().replace(".", "")
