"""Control: what a supervisor and a worker tell each other, as JSON lines over a pair of sockets.

The pair is the worker's life: when it closes, its supervisor is gone, and the worker ends.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import msgspec

from storekeep.server.config import Settings
from storekeep.server.telemetry.status import Report

LINE_BYTES_MAX = 16 * 1024 * 1024
"""A report has some 200 bytes for each method and way to end; this is far beyond all of them."""


class Order(msgspec.Struct, frozen=True, tag=True):
    """What a worker is to be.

    Attributes:
        number: see `Worker`.
        cpu: the core that it stays on.
        settings: all of them, as they were found good, with the port that is reserved.
    """

    number: int
    cpu: int
    settings: dict[str, Any]


class Question(msgspec.Struct, frozen=True, tag=True):
    """Asks a worker for a report."""


class Leave(msgspec.Struct, frozen=True, tag=True):
    """Tells a worker that another one serves in its place."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """A worker takes calls."""


class Refusal(msgspec.Struct, frozen=True, tag=True):
    """A worker cannot be what it should, and why, in one line."""

    problem: str


Message = Order | Question | Leave | Ready | Refusal | Report
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Message).decode


class Control:
    """One end of the pair. One thread receives; any may send."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._lines = end.makefile("rb")
        self._sending = threading.Lock()

    def send(self, message: Message) -> None:
        """Tell the other side; nobody hears it where it is gone."""
        with self._sending, contextlib.suppress(OSError):
            self._end.sendall(_encode(message) + b"\n")

    def receive(self) -> Message | None:
        """What the other side tells next; None when it is gone."""
        try:
            line = self._lines.readline(LINE_BYTES_MAX)
        except (OSError, ValueError):
            return None
        return _decode(line) if line.endswith(b"\n") else None

    def close(self) -> None:
        """Tell and hear no more."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()


def pack_settings(settings: Settings, **changes: Any) -> dict[str, Any]:
    """Settings as an `Order` has them, secrets open: they travel between two processes of one user only."""
    packed = settings.model_copy(update=changes).model_dump(mode="json", exclude_defaults=True)
    for name in ("secret", "secret_previous"):
        if name in packed:
            packed[name] = getattr(settings, name).get_secret_value()
    return packed


def unpack_settings(packed: dict[str, Any]) -> Settings:
    """The settings of an `Order`."""
    return Settings(**packed)
