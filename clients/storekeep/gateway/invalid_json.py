"""The errors of the conversion between JSON and messages, with the path of the field that is wrong."""

from __future__ import annotations

from typing import Any

SHOWN_CHARS_MAX = 80
"""Characters of a caller's text that an error repeats."""


class InvalidJson(ValueError):
    """A body, query or path does not convert to the request message.

    Attributes:
        path: the field as the caller wrote it, such as `order.lines[2].quantity`; empty for the whole body.
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


def explain_oneof(message: Any, oneof: str, other: str) -> str:
    """Return the problem of a second field of a oneof.

    Args:
        message: the message with the fields.
        oneof: name of the oneof in the contract.
        other: name in the contract of the field that is set.
    """
    descriptor = message.DESCRIPTOR
    names = ", ".join(field.json_name for field in descriptor.oneofs_by_name[oneof].fields)
    return f"only one of {names} can be set; {descriptor.fields_by_name[other].json_name} is too"
