"""A network path that a test can slow down to one byte a second."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

PAUSE_S = 1.0
BUFFER_BYTES = 4_096


@dataclass
class Trickle:
    """The path.

    Attributes:
        address: another address of the server.
        is_slow: set it to slow the path down.
    """

    address: str
    is_slow: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)


@contextmanager
def trickle(address: str) -> Iterator[Trickle]:
    """Open a path for one connection. What the caller sends is never slowed down."""
    host, _, port = address.rpartition(":")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        path = Trickle(f"127.0.0.1:{listener.getsockname()[1]}")
        threading.Thread(target=_carry, args=[path, listener, (host, int(port))], daemon=True).start()
        yield path
        path.closing.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _carry(path: Trickle, listener: socket.socket, server: tuple[str, int]) -> None:
    with suppress(OSError):
        caller, _ = listener.accept()
        with caller, socket.socket() as upstream:
            upstream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            upstream.connect(server)
            threading.Thread(target=_carry_requests, args=[caller, upstream], daemon=True).start()
            while not path.closing.is_set():
                content = upstream.recv(1 if path.is_slow.is_set() else BUFFER_BYTES)
                if not content:
                    return
                caller.sendall(content)
                if path.is_slow.is_set():
                    path.closing.wait(PAUSE_S)


def _carry_requests(caller: socket.socket, upstream: socket.socket) -> None:
    with suppress(OSError):
        while content := caller.recv(BUFFER_BYTES):
            upstream.sendall(content)
        upstream.shutdown(socket.SHUT_WR)
