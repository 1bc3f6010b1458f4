"""A receiver of webhooks whose connections serve several messages, as a script says."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

from tests.support.tls_receivers import TlsReceiver

ACCEPT = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nthank you"


class ScriptedReceiver(TlsReceiver):
    """A receiver on 127.0.0.1.

    Attributes:
        script: the pieces of the reply to each request, in order, over all connections; afterwards `ACCEPT`. No piece
            closes the connection without a reply.
        served: the number of the connection of each request.
        connections: all connections, in order.
        closed: is released at the end of each connection.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.script: list[tuple[bytes, ...]] = []
        self.served: list[int] = []
        self.connections: list[ssl.SSLSocket] = []
        self.closed = threading.Semaphore(0)

    def serve(self, connection: ssl.SSLSocket) -> None:
        """Serve messages until the script or the sender ends the connection."""
        number = len(self.connections)
        self.connections.append(connection)
        try:
            while read_request(connection):
                self.served.append(number)
                pieces = self.script.pop(0) if self.script else (ACCEPT,)
                for piece in pieces:
                    connection.sendall(piece)
                if not pieces or b"connection: close" in pieces[0]:
                    break
        finally:
            self.closed.release()


def read_request(connection: ssl.SSLSocket) -> bool:
    """Read a request whose body has 2 bytes. Return whether there was one."""
    data = b""
    while not data.endswith(b"\r\n\r\n{}"):
        chunk = connection.recv(65_536)
        if not chunk:
            return False
        data += chunk
    return True
