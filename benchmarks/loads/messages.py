"""Files of serialised messages, each preceded by its length."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

LENGTH_BYTES = 4


def write_messages(path: Path, messages: Iterable[bytes]) -> None:
    """Write the messages to a file."""
    path.write_bytes(b"".join(len(message).to_bytes(LENGTH_BYTES, "big") + message for message in messages))


def read_messages(path: Path) -> list[bytes]:
    """Return all messages of a file."""
    data, at, messages = path.read_bytes(), 0, []
    while at < len(data):
        begin = at + LENGTH_BYTES
        at = begin + int.from_bytes(data[at:begin], "big")
        messages.append(data[begin:at])
    return messages
