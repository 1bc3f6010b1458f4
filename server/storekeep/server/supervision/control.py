"""The control channel between the supervisor and a worker: JSON lines over a socket pair.

A worker exits when the channel closes, because its supervisor is gone.
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
"""Maximum size of a message in bytes. A report takes some 200 bytes for each method and status, far less in all."""


class StartWorker(msgspec.Struct, frozen=True, tag=True):
    """Tells a new process to start as a worker.

    Attributes:
        number: see `Worker`.
        cpu: the core to pin the process to.
        settings: the validated settings, with the reserved port.
    """

    number: int
    cpu: int
    settings: dict[str, Any]


class GetReport(msgspec.Struct, frozen=True, tag=True):
    """Asks a worker for a `Report`."""


class Retire(msgspec.Struct, frozen=True, tag=True):
    """Tells a worker to drain and exit, because its successor serves."""


class ReopenLog(msgspec.Struct, frozen=True, tag=True):
    """Tells a worker that its log file may have been replaced."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Tells the supervisor that the worker accepts calls."""


class StartFailed(msgspec.Struct, frozen=True, tag=True):
    """Tells the supervisor that the worker cannot start, and why, in one line."""

    problem: str


Message = StartWorker | GetReport | Retire | ReopenLog | Ready | StartFailed | Report
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Message).decode


class Control:
    """One end of the control channel. One thread may receive, any thread may send."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._lines = end.makefile("rb")
        self._sending = threading.Lock()

    def send(self, message: Message) -> None:
        """Send a message. It is lost if the other end is closed."""
        with self._sending, contextlib.suppress(OSError):
            self._end.sendall(_encode(message) + b"\n")

    def receive(self) -> Message | None:
        """Wait for the next message and return it; None if the other end is closed."""
        try:
            line = self._lines.readline(LINE_BYTES_MAX)
        except (OSError, ValueError):
            return None
        return _decode(line) if line.endswith(b"\n") else None

    def close(self) -> None:
        """Close this end."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()


def pack_settings(settings: Settings, **changes: Any) -> dict[str, Any]:
    """Return settings for `StartWorker`, with secrets unmasked: only processes of the same user see them."""
    packed = settings.model_copy(update=changes).model_dump(mode="json", exclude_defaults=True)
    for name in ("secret", "secret_previous"):
        if name in packed:
            packed[name] = getattr(settings, name).get_secret_value()
    return packed


def unpack_settings(packed: dict[str, Any]) -> Settings:
    """Return the settings of a `StartWorker` message."""
    return Settings(**packed)
