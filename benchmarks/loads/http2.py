"""The subset of HTTP/2 that cheap gRPC calls need: RFC 9113, with RFC 7541 for the headers.

A call of gRPC's own Python client costs about 0.13 ms, more than many of the measured calls; this client costs a tenth.
The headers of a call are sent in full once and then as indexes, as in any client. The server is configured to use no
dynamic table, so that the status of a call is plain bytes in its trailers.
"""

from __future__ import annotations

import re
import socket
import struct
from collections import deque
from collections.abc import Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
HEADER_TABLE_SIZE, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 1, 3, 4
FRAME = struct.Struct(">IBI")
"""Length and type in one number, flags, stream."""
FRAME_BYTES = FRAME.size
SETTING = struct.Struct(">HI")
NUMBER = struct.Struct(">I")
WINDOW_MAX = 2**31 - 1
WINDOW_DEFAULT = 65_535
TOP_UP_BYTES = 2**30
"""Received bytes after which the server's window is enlarged again."""
RECEIVE_BYTES = 256 * 1024
CONNECT_TIMEOUT_S = 10.0
GRPC_HEAD_BYTES = 5

POST, SCHEME_HTTP = 0x83, 0x86
"""Indexes of headers in HPACK's static table (RFC 7541, appendix A)."""
NAMES = {":authority": 1, ":path": 4, "authorization": 23, "content-type": 31}
"""Indexes of header names in HPACK's static table."""
FIRST_OWN = 62
"""The first index after HPACK's static table."""
STATUS = re.compile(rb"grpc-status[\x01\x02](\d{1,2})")
"""The status of a call, without dynamic table and Huffman code. gRPC's servers do not use Huffman code for it."""
OK = 0
RESOURCE_EXHAUSTED = 8
INTERNAL = 13
STATUS_OF_RESET = {0x7: 14, 0x8: 1, 0xB: RESOURCE_EXHAUSTED}
"""gRPC status of a reset stream: REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM. Other resets are INTERNAL."""


class ConnectionBroken(Exception):
    """The server broke the protocol, or used a feature that this client lacks."""


def encode_integer(value: int, prefix_bits: int, flags: int) -> bytes:
    """Return an integer in HPACK encoding (RFC 7541, 5.1)."""
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes([flags | value])
    encoded = [flags | limit]
    value -= limit
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def encode_text(value: str) -> bytes:
    """Return a string in HPACK encoding, without Huffman code."""
    return encode_integer(len(value), 7, 0) + value.encode()


def encode_headers(headers: dict[str, str]) -> tuple[bytes, bytes]:
    """Return the header blocks of a connection's first request, which fill the table, and of all later requests."""
    first = last = bytes([POST, SCHEME_HTTP])
    for index, (name, value) in enumerate(headers.items()):
        known = NAMES.get(name, 0)
        first += encode_integer(known, 6, 0x40) + (b"" if known else encode_text(name)) + encode_text(value)
        last += encode_integer(FIRST_OWN + len(headers) - 1 - index, 7, 0x80)
    return first, last


def encode_frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame (RFC 9113, 4.1)."""
    return FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


def read_status(trailers: bytes) -> int:
    """Return the gRPC status in a block of trailers.

    Raises: ConnectionBroken if it has none.
    """
    match = STATUS.search(trailers)
    if match is None:
        raise ConnectionBroken(f"trailers without a status: {trailers!r}")
    return int(match[1])


OnAnswer = Callable[[int, int, bytes], None]
"""Receives the number of each answered call, its gRPC status, and the reply if it was requested, else empty bytes."""


class Connection:
    """One connection that makes calls of one method.

    Args:
        address: HOST:PORT.
        path: `/package.Service/Method`.
        token: the bearer token.
        timeout: deadline of each call in gRPC's format, such as `30S`.
        on_answer: see `OnAnswer`.
    """

    def __init__(self, address: str, path: str, *, token: str, timeout: str, on_answer: OnAnswer) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._first, self._block = encode_headers(
            {
                ":path": path,
                ":authority": address,
                "content-type": "application/grpc",
                "te": "trailers",
                "authorization": f"Bearer {token}",
                "grpc-timeout": timeout,
                "user-agent": "storekeep-benchmarks",
            }
        )
        self._on_answer = on_answer
        self._stream = 1
        self._settled = False
        self._streams_max = 100
        self._calls: dict[int, int] = {}
        self._bodies: dict[int, bytes] = {}
        self._waiting: deque[tuple[int, bytes, bool]] = deque()
        self._window = WINDOW_DEFAULT
        self._received = 0
        self._rest = b""
        self._output = bytearray()
        settings = SETTING.pack(HEADER_TABLE_SIZE, 0) + SETTING.pack(INITIAL_WINDOW_SIZE, WINDOW_MAX)
        self.socket.sendall(
            PREFACE + encode_frame(SETTINGS, 0, 0, settings) + _encode_window_update(WINDOW_MAX - WINDOW_DEFAULT)
        )
        while not self._settled:  # the server's settings come first and limit concurrent calls (RFC 9113, 3.4)
            self._parse(self.socket.recv(RECEIVE_BYTES))
        self.socket.setblocking(False)

    @property
    def wants_to_write(self) -> bool:
        """Whether some output was not yet accepted by the socket."""
        return bool(self._output)

    def call(self, number: int, message: bytes, *, keep: bool) -> None:
        """Queue a call for the next `flush`, or for when the server's limits allow it.

        Args:
            number: the number to pass to `on_answer`.
            keep: whether to pass the reply message to `on_answer` too.
        """
        self._waiting.append((number, message, keep))
        self._start_waiting()

    def _start_waiting(self) -> None:
        while self._waiting and len(self._calls) < self._streams_max:
            number, message, keep = self._waiting[0]
            length = GRPC_HEAD_BYTES + len(message)
            if length > self._window:
                return
            self._waiting.popleft()
            stream, self._stream = self._stream, self._stream + 2
            block = self._block if stream > 1 else self._first
            self._calls[stream] = number
            if keep:
                self._bodies[stream] = b""
            self._window -= length
            self._output += FRAME.pack(len(block) << 8 | HEADERS, END_HEADERS, stream) + block
            self._output += FRAME.pack(length << 8 | DATA, END_STREAM, stream) + b"\0" + NUMBER.pack(len(message))
            self._output += message

    def flush(self) -> None:
        """Send as much of the output as the socket accepts."""
        if self._output:
            try:
                sent = self.socket.send(self._output)
            except BlockingIOError:
                return
            del self._output[:sent]

    def receive(self) -> None:
        """Read from the socket and call `on_answer` for each reply.

        Raises: ConnectionBroken.
        """
        try:
            received = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not received:
            raise ConnectionBroken("the server closed the connection")
        self._parse(received)

    def _parse(self, received: bytes) -> None:
        data = self._rest + received
        at, end = 0, len(data)
        while end - at >= FRAME_BYTES:
            head, flags, stream = FRAME.unpack_from(data, at)
            next_at = at + FRAME_BYTES + (head >> 8)
            if next_at > end:
                break
            self._take(head & 0xFF, flags, stream, data[at + FRAME_BYTES : next_at])
            at = next_at
        self._rest = data[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == HEADERS:
            if not flags & END_HEADERS:
                raise ConnectionBroken("headers in several frames")
            if flags & END_STREAM:
                self._end(stream, read_status(payload))
        elif kind == DATA:
            self._count(len(payload))
            if stream in self._bodies:
                self._bodies[stream] += payload
        elif kind in _CONTROL:
            _CONTROL[kind](self, flags, stream, payload)

    def _end(self, stream: int, status: int) -> None:
        number = self._calls.pop(stream)
        body = self._bodies.pop(stream, b"")
        self._on_answer(number, status, body[GRPC_HEAD_BYTES:])
        if self._waiting:
            self._start_waiting()

    def _count(self, length: int) -> None:
        self._received += length
        if self._received >= TOP_UP_BYTES:
            self._output += _encode_window_update(self._received)
            self._received = 0

    def _set(self, flags: int, _stream: int, payload: bytes) -> None:
        if flags & ACK:
            return
        settings = dict(SETTING.iter_unpack(payload))
        self._settled = True
        self._streams_max = settings.get(MAX_CONCURRENT_STREAMS, self._streams_max)
        self._output += encode_frame(SETTINGS, ACK, 0)

    def _answer_ping(self, flags: int, _stream: int, payload: bytes) -> None:
        if not flags & ACK:
            self._output += encode_frame(PING, ACK, 0, payload)

    def _widen(self, _flags: int, stream: int, payload: bytes) -> None:
        if not stream:
            self._window += NUMBER.unpack(payload)[0]
            self._start_waiting()

    def _reset(self, _flags: int, stream: int, payload: bytes) -> None:
        if stream in self._calls:  # otherwise the reply came before the request was read (RFC 9113, 8.1)
            self._end(stream, STATUS_OF_RESET.get(NUMBER.unpack(payload)[0], INTERNAL))

    def _fail(self, _flags: int, _stream: int, payload: bytes) -> None:
        raise ConnectionBroken(f"the server ended the connection: {payload!r}")

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()


_CONTROL: dict[int, Callable[[Connection, int, int, bytes], None]] = {
    SETTINGS: Connection._set,
    PING: Connection._answer_ping,
    WINDOW_UPDATE: Connection._widen,
    RST_STREAM: Connection._reset,
    GOAWAY: Connection._fail,
    CONTINUATION: Connection._fail,
}


def _encode_window_update(size: int) -> bytes:
    return encode_frame(WINDOW_UPDATE, 0, 0, NUMBER.pack(size))
