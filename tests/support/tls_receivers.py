"""What receivers of webhooks share: a TLS server on 127.0.0.1 that serves each connection in a thread of its own."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.support.authorities import issue, make_authority


class TlsReceiver:
    """A TLS server that runs in a `with` block. A subclass serves the connections.

    Attributes:
        ca_file: the certificate of its authority.
        protocols: the protocols that it offers (ALPN); none by default.
    """

    protocols: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        authority = make_authority(folder, "authority")
        identity = issue(folder, "receiver", by=authority)
        self.ca_file = authority.file
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(identity.certificate, identity.private_key)
        if self.protocols:
            self._tls.set_alpn_protocols(list(self.protocols))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.listen(200)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def url(self, path: str = "/") -> str:
        """Return the URL of a path."""
        return f"https://127.0.0.1:{self.port}{path}"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._secure, args=(connection,), daemon=True).start()

    def _secure(self, connection: socket.socket) -> None:
        with connection, suppress(OSError), self._tls.wrap_socket(connection, server_side=True) as secured:
            secured.settimeout(60)
            self.serve(secured)

    def serve(self, connection: ssl.SSLSocket) -> None:
        """Serve one connection, which ends when this returns or raises OSError."""
        raise NotImplementedError
