"""A receiver of webhooks: a real HTTPS server that accepts messages, or misbehaves as a test asks."""

from __future__ import annotations

import ssl
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from standardwebhooks import Webhook

from tests.support.tls_receivers import TlsReceiver

GIGABYTE = 2**30
Answer = Callable[["Receiver", ssl.SSLSocket], None]


def answer_with(status: str, *headers: str, body: bytes = b"") -> Answer:
    """Return an answer with a status such as `500 Internal Server Error`."""
    head = "\r\n".join([f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers, "", ""])
    return lambda _receiver, connection: connection.sendall(head.encode() + body)


def hang(receiver: Receiver, _connection: ssl.SSLSocket) -> None:
    """Answer nothing until the receiver closes."""
    receiver.closing.wait(60)


def drip(receiver: Receiver, connection: ssl.SSLSocket) -> None:
    """Send one byte of a header at a time."""
    for byte in b"HTTP/1.1 200 OK\r\nx-slow: " + b"y" * 10_000:
        connection.sendall(bytes([byte]))
        if receiver.closing.wait(0.05):
            return


def close_early(_receiver: Receiver, connection: ssl.SSLSocket) -> None:
    """Close after half a reply."""
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-le")


def send_gigabyte(receiver: Receiver, connection: ssl.SSLSocket) -> None:
    """Send a body of 1 GiB, and count what is taken of it."""
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % GIGABYTE)
    chunk = b"x" * 65_536
    for _ in range(GIGABYTE // len(chunk)):
        connection.sendall(chunk)
        receiver.body_bytes_sent += len(chunk)


def flood_interim_replies(receiver: Receiver, connection: ssl.SSLSocket) -> None:
    """Send interim replies (1xx) until the connection ends."""
    _flood(receiver, connection, b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 1_000)


def flood_headers(receiver: Receiver, connection: ssl.SSLSocket) -> None:
    """Send headers until the connection ends."""
    _flood(receiver, connection, b"HTTP/1.1 200 OK\r\n", b"x-more: more\r\n" * 1_000)


def _flood(receiver: Receiver, connection: ssl.SSLSocket, start: bytes, piece: bytes) -> None:
    connection.sendall(start)
    while not receiver.closing.is_set():
        connection.sendall(piece)
        receiver.body_bytes_sent += len(piece)


ACCEPT = answer_with("200 OK", body=b"thank you")


class Receiver(TlsReceiver):
    """A receiver on 127.0.0.1 that takes one message per connection.

    Attributes:
        answers: path -> answers for its next requests; the last stays. A path without any accepts.
        received: path -> the (headers, body) of each request, in order.
        ids: how often each message was accepted, by its id.
    """

    protocols = ("http/1.1",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.closing = threading.Event()
        self.changed = threading.Condition()
        self.answers: dict[str, list[Answer]] = {}
        self.received: dict[str, list[tuple[dict[str, str], bytes]]] = defaultdict(list)
        self.ids: Counter[str] = Counter()
        self.body_bytes_sent = 0

    def wait_for(self, condition: Callable[[], bool], *, timeout_s: float = 60) -> None:
        """Wait until a condition about what was received is true."""
        with self.changed:
            assert self.changed.wait_for(condition, timeout_s), dict(self.ids)

    def close(self) -> None:
        """Stop listening, and end hanging answers."""
        self.closing.set()
        super().close()

    def serve(self, connection: ssl.SSLSocket) -> None:
        """Read a message, note it, and answer it."""
        path, headers, body = _read_request(connection)
        with self.changed:
            answers = self.answers.get(path, [ACCEPT])
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            self.received[path].append((headers, body))
            if answer is ACCEPT:
                self.ids[headers.get("webhook-id", "")] += 1
            self.changed.notify_all()
        answer(self, connection)


def _read_request(connection: ssl.SSLSocket) -> tuple[str, dict[str, str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65_536)
        if not chunk:
            raise ConnectionResetError
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65_536)
    return first.split(" ")[1], headers, body


@contextmanager
def receive(folder: Path) -> Iterator[Receiver]:
    """Run a receiver."""
    with Receiver(folder) as receiver:
        yield receiver


def verify_signature(secret: str, headers: dict[str, str], body: bytes) -> None:
    """Verify a message as a receiver does, with the package `standardwebhooks`. Raises if it is forged or too old."""
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 300
    Webhook(secret).verify(body, headers)
