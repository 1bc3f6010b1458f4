"""The errors of the conversion between JSON and messages, with the path of the field that is wrong."""

from __future__ import annotations

SHOWN_CHARS_MAX = 80
"""Characters of a caller's text that an error repeats."""


class InvalidJson(ValueError):
    """A body, query or path does not convert to the request message.

    Attributes:
        path: the field in the contract's spelling, such as `order.lines[2].quantity`; empty for the whole body.
        problem: what is wrong, for the caller.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem

    def prefix(self, parent: str) -> InvalidJson:
        """Put the parent's name, key or index before the path, and return the error."""
        separator = "." if self.path and not self.path.startswith("[") else ""
        self.path = f"{parent}{separator}{self.path}"
        return self


class UnwritableMessage(ValueError):
    """A reply of the server has a value that proto3 JSON cannot express, such as a time after the year 9999."""


def show(value: object) -> str:
    """Return a caller's value for an error: short, and printable in UTF-8."""
    text = value if isinstance(value, str) else repr(value)
    if len(text) > SHOWN_CHARS_MAX:
        text = f"{text[:SHOWN_CHARS_MAX]}..."
    return text.encode("utf-8", "backslashreplace").decode()
