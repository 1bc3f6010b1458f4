"""A flood of logins with wrong keys, as its own process: it costs the test's process nothing.

Usage: python -m tests.support.hostile.logins_flood HOST:PORT CONNECTIONS. It ends when it is terminated.
"""

from __future__ import annotations

import itertools
import secrets
import socket
import struct
import sys
import threading
from collections.abc import Iterator

from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame, WindowUpdateFrame

from storekeep.v1 import auth_pb2
from tests.support.hostile.wire import ISSUE, PREFACE, WINDOW_MAX, frame_message

AT_ONCE = 50
HEADERS_FRAME, END_STREAM = 1, 1
HEADERS = {
    ":method": "POST",
    ":scheme": "http",
    ":path": ISSUE,
    ":authority": "localhost",
    "te": "trailers",
    "content-type": "application/grpc",
}


def encode_literally(text: str) -> bytes:
    """Encode a header string in HPACK without compression."""
    return bytes([len(text)]) + text.encode()


# Literal fields that are not indexed (RFC 7541, section 6.2.2), so the block stays the same for all calls.
BLOCK = b"".join(b"\0" + encode_literally(name) + encode_literally(value) for name, value in HEADERS.items())


def build_call(stream: int) -> bytes:
    """Return the frames of a login with a random key."""
    key = f"sk_{secrets.token_hex(8)}_{secrets.token_hex(21)}b"
    message = frame_message(auth_pb2.IssueTokenRequest(api_key=key).SerializeToString())
    headers = HeadersFrame(stream, BLOCK, flags=["END_HEADERS"])
    return headers.serialize() + DataFrame(stream, message, flags=["END_STREAM"]).serialize()


def read_frames(connection: socket.socket) -> Iterator[tuple[int, int]]:
    """Yield type and flags of each frame that the server sends."""
    buffer = b""
    while received := connection.recv(65_536):
        buffer += received
        start = 0
        while len(buffer) - start >= 9:
            length = int.from_bytes(buffer[start : start + 3], "big")
            if len(buffer) - start < 9 + length:
                break
            yield struct.unpack_from("BB", buffer, start + 3)
            start += 9 + length
        buffer = buffer[start:]


def flood(address: str) -> None:
    """Send batches of logins over one connection, each when the one before is answered."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(PREFACE + SettingsFrame(0).serialize() + SettingsFrame(0, flags=["ACK"]).serialize())
        connection.sendall(WindowUpdateFrame(0, window_increment=WINDOW_MAX - 65_535).serialize())
        frames = read_frames(connection)
        for first in itertools.count(1, 2 * AT_ONCE):
            connection.sendall(b"".join(build_call(first + 2 * number) for number in range(AT_ONCE)))
            ended = 0
            while ended < AT_ONCE:
                kind, flags = next(frames)
                ended += kind == HEADERS_FRAME and bool(flags & END_STREAM)


if __name__ == "__main__":
    floods = [threading.Thread(target=flood, args=(sys.argv[1],)) for _ in range(int(sys.argv[2]))]
    for thread in floods:
        thread.start()
