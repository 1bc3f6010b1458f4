"""A receiver of webhooks over HTTP/2, which accepts one message per connection or floods the sender."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h2.config
import h2.connection
import h2.events

from tests.support.tls_receivers import TlsReceiver


class Http2Receiver(TlsReceiver):
    """A receiver on 127.0.0.1.

    Attributes:
        received: the (headers, body) of each request, in order.
        status: the status of the replies.
        flood: the frames that are sent without an end in place of a reply; empty to accept messages.
        bytes_sent: bytes of the flood that were taken.
    """

    protocols = ("h2",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.status = "200"
        self.flood = b""
        self.bytes_sent = 0

    def close(self) -> None:
        """Stop listening, and end the flood."""
        self.flood = b""
        super().close()

    def serve(self, connection: ssl.SSLSocket) -> None:
        """Read a message and answer it."""
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        state.initiate_connection()
        headers, body = dict[str, str](), b""
        while True:
            connection.sendall(state.data_to_send())
            for event in state.receive_data(connection.recv(65_536)):
                if isinstance(event, h2.events.RequestReceived):
                    headers = dict(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    body += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    self._answer(connection, state, event.stream_id, (headers, body))
                    return

    def _answer(
        self,
        secured: ssl.SSLSocket,
        state: h2.connection.H2Connection,
        stream: int,
        request: tuple[dict[str, str], bytes],
    ) -> None:
        self.received.append(request)
        while self.flood:
            secured.sendall(self.flood)
            self.bytes_sent += len(self.flood)
        state.send_headers(stream, [(":status", self.status)])
        state.send_data(stream, b"thank you", end_stream=True)
        secured.sendall(state.data_to_send())
        while secured.recv(65_536):
            pass


@contextmanager
def receive_http2(folder: Path) -> Iterator[Http2Receiver]:
    """Run a receiver."""
    with Http2Receiver(folder) as receiver:
        yield receiver
