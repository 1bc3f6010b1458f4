"""A file that a form sends."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Upload:
    """A file of a form.

    Attributes:
        filename: its name on the person's computer, for display only.
    """

    filename: str
    content: bytes
