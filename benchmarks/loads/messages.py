"""Files of serialised messages, each after its length."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

LENGTH_BYTES = 4


def write_messages(path: Path, messages: Iterable[bytes]) -> None:
    """Write them in their order."""
    path.write_bytes(b"".join(len(message).to_bytes(LENGTH_BYTES, "big") + message for message in messages))


def read_messages(path: Path) -> list[bytes]:
    """Read them all."""
    data, at, messages = path.read_bytes(), 0, []
    while at < len(data):
        begin = at + LENGTH_BYTES
        at = begin + int.from_bytes(data[at:begin], "big")
        messages.append(data[begin:at])
    return messages
