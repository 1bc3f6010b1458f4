"""Proxies between a server and its database: they record traffic, speak TLS, or break connections."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""First message of a client that wants TLS (PostgreSQL, "Message Formats": SSLRequest)."""
CHUNK_BYTES = 65_536


class Proxy:
    """Forwards bytes between its port on 127.0.0.1 and another port.

    Args:
        port: Port of the database or another server.
        source: Address that it connects from, in 127.0.0.0/8.
        tls: Context for TLS to clients, as of a PostgreSQL server that supports it; None for plain connections.

    Attributes:
        port: Its own port.
        break_at: When the database sends this reply, drop the reply and close the connection, once.
        broken: Set when that was done.
    """

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None, source: str = "127.0.0.1") -> None:
        self._target = port
        self._source = source
        self._tls = tls
        self.break_at: bytes | None = None
        self.broken = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Close all connections."""
        for one in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._tls is not None:
                client = self._wrap_tls(client, self._tls)
            server = socket.create_connection(("127.0.0.1", self._target), source_address=(self._source, 0))
            self._sockets += [client, server]
            threading.Thread(target=self._pump, args=[server, client], daemon=True).start()
            with contextlib.suppress(OSError):
                while data := client.recv(CHUNK_BYTES):
                    server.sendall(data)
            server.close()

    @staticmethod
    def _wrap_tls(client: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
        if client.recv(len(SSL_REQUEST)) != SSL_REQUEST:
            client.close()
            raise ConnectionError("the client asks for no TLS")
        client.sendall(b"S")
        return tls.wrap_socket(client, server_side=True)

    def _pump(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(CHUNK_BYTES):
                if self.break_at is not None and self.break_at in data:
                    self.break_at = None
                    self.broken.set()
                    break
                client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
        client.close()
