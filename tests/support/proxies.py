"""What stands between a server and its database in some tests: it listens in, speaks TLS, or breaks off."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""What a client that wants TLS says first (PostgreSQL, "Message Formats": SSLRequest)."""
CHUNK_BYTES = 65_536


class Proxy:
    """Passes bytes on between its port on 127.0.0.1 and another one.

    Args:
        port: of the database, or of another server.
        source: the address that it calls from, in 127.0.0.0/8.
        tls: with it, clients get TLS from the proxy, as from a PostgreSQL that speaks it.

    Attributes:
        port: its own.
        break_at: once the database answers this, the answer is swallowed and the connection closed; for one time.
        broken: set when that was done.
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
        """Close all."""
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
                client = self._wrapped(client, self._tls)
            server = socket.create_connection(("127.0.0.1", self._target), source_address=(self._source, 0))
            self._sockets += [client, server]
            threading.Thread(target=self._pump, args=[server, client], daemon=True).start()
            with contextlib.suppress(OSError):
                while data := client.recv(CHUNK_BYTES):
                    server.sendall(data)
            server.close()

    @staticmethod
    def _wrapped(client: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
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
