"""A slow network path to a server, as across an ocean or from a busy machine."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def slow_road(address: str, *, delay_s: float) -> Iterator[str]:
    """Return another address of the same server whose connections delay the server's first bytes by `delay_s`."""
    host, _, port = address.rpartition(":")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=[listener, (host, int(port)), delay_s], daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, server: tuple[str, int], delay_s: float) -> None:
    while True:
        try:
            caller, _ = listener.accept()
        except OSError:  # the path is closed
            return
        upstream = socket.create_connection(server)
        threading.Thread(target=_carry, args=[caller, upstream, 0.0], daemon=True).start()
        threading.Thread(target=_carry, args=[upstream, caller, delay_s], daemon=True).start()


def _carry(source: socket.socket, target: socket.socket, delay_s: float) -> None:
    try:
        while content := source.recv(65_536):
            time.sleep(delay_s)
            delay_s = 0.0
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)
    except OSError:  # one side has disconnected
        return
