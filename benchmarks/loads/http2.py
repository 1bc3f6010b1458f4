"""As much of HTTP/2 as it takes to make gRPC calls at little cost: RFC 9113, with RFC 7541 for the headers.

A call of gRPC's own Python client costs about 0.13 ms, more than many of the calls that are measured; this one costs a
tenth. A call's headers are sent whole once and then as indexes, as any client does. The server is told to use no table
for its own, so that the status of a call stands in its trailers as plain bytes.
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
"""Length and type in one, flags, stream."""
FRAME_BYTES = FRAME.size
SETTING = struct.Struct(">HI")
NUMBER = struct.Struct(">I")
WINDOW_MAX = 2**31 - 1
WINDOW_DEFAULT = 65_535
TOP_UP_BYTES = 2**30
"""The server's window is filled again after so many bytes."""
RECEIVE_BYTES = 256 * 1024
CONNECT_TIMEOUT_S = 10.0
GRPC_HEAD_BYTES = 5

POST, SCHEME_HTTP = 0x83, 0x86
"""Headers that HPACK has whole, as indexes (RFC 7541, appendix A)."""
NAMES = {":authority": 1, ":path": 4, "authorization": 23, "content-type": 31}
"""Names that HPACK has."""
FIRST_OWN = 62
"""The first index that is not in HPACK's own table."""
STATUS = re.compile(rb"grpc-status[\x01\x02](\d{1,2})")
"""The status of a call, where no table and no Huffman code is used: gRPC's servers use none for it."""
OK = 0
RESOURCE_EXHAUSTED = 8
INTERNAL = 13
STATUS_OF_RESET = {0x7: 14, 0x8: 1, 0xB: RESOURCE_EXHAUSTED}
"""gRPC's status of a stream that was reset: REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM; INTERNAL otherwise."""


class ConnectionBroken(Exception):
    """The server did what it should not, or what this client does not know."""


def integer(value: int, prefix_bits: int, flags: int) -> bytes:
    """An integer as HPACK has it (RFC 7541, 5.1)."""
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes([flags | value])
    encoded = [flags | limit]
    value -= limit
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def text(value: str) -> bytes:
    """A string as HPACK has it, without Huffman's code."""
    return integer(len(value), 7, 0) + value.encode()


def header_blocks(headers: dict[str, str]) -> tuple[bytes, bytes]:
    """The headers of a connection's first request, which the server is to remember, and those of all further ones."""
    first = last = bytes([POST, SCHEME_HTTP])
    for place, (name, value) in enumerate(headers.items()):
        known = NAMES.get(name, 0)
        first += integer(known, 6, 0x40) + (b"" if known else text(name)) + text(value)
        last += integer(FIRST_OWN + len(headers) - 1 - place, 7, 0x80)
    return first, last


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame (RFC 9113, 4.1)."""
    return FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


def status_of(trailers: bytes) -> int:
    """The gRPC status in a block of trailers.

    Raises: ConnectionBroken when there is none.
    """
    found = STATUS.search(trailers)
    if found is None:
        raise ConnectionBroken(f"trailers without a status: {trailers!r}")
    return int(found[1])


OnAnswer = Callable[[int, int, bytes], None]
"""Hears of each answer: the call's number, its gRPC status, and the message where it was asked for, else nothing."""


class Connection:
    """One connection that makes calls of one method.

    Args:
        address: HOST:PORT.
        path: `/package.Service/Method`.
        token: the bearer token.
        timeout: the calls' deadline as gRPC has it, such as `30S`.
        on_answer: see `OnAnswer`.
    """

    def __init__(self, address: str, path: str, *, token: str, timeout: str, on_answer: OnAnswer) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._first, self._block = header_blocks(
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
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings) + _window_update(WINDOW_MAX - WINDOW_DEFAULT))
        while not self._settled:  # they come first, and say how many calls it takes at once (RFC 9113, 3.4)
            self._parse(self.socket.recv(RECEIVE_BYTES))
        self.socket.setblocking(False)

    @property
    def wants_to_write(self) -> bool:
        """Whether there is output that the socket did not take yet."""
        return bool(self._output)

    def call(self, number: int, message: bytes, *, keep: bool) -> None:
        """Make a call at the next `flush`, or as soon as the server's limits let it.

        Args:
            number: what `on_answer` will be told.
            keep: whether it is also to be told the message of the answer.
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
        """Send what there is, as far as the socket takes it."""
        if self._output:
            try:
                sent = self.socket.send(self._output)
            except BlockingIOError:
                return
            del self._output[:sent]

    def receive(self) -> None:
        """Read what came, and tell of each answer.

        Raises: ConnectionBroken.
        """
        try:
            came = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not came:
            raise ConnectionBroken("the server closed the connection")
        self._parse(came)

    def _parse(self, came: bytes) -> None:
        data = self._rest + came
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
                self._end(stream, status_of(payload))
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
            self._output += _window_update(self._received)
            self._received = 0

    def _set(self, flags: int, _stream: int, payload: bytes) -> None:
        if flags & ACK:
            return
        settings = dict(SETTING.iter_unpack(payload))
        self._settled = True
        self._streams_max = settings.get(MAX_CONCURRENT_STREAMS, self._streams_max)
        self._output += frame(SETTINGS, ACK, 0)

    def _answer_ping(self, flags: int, _stream: int, payload: bytes) -> None:
        if not flags & ACK:
            self._output += frame(PING, ACK, 0, payload)

    def _widen(self, _flags: int, stream: int, payload: bytes) -> None:
        if not stream:
            self._window += NUMBER.unpack(payload)[0]
            self._start_waiting()

    def _reset(self, _flags: int, stream: int, payload: bytes) -> None:
        if stream in self._calls:  # else it was answered before its request was read (RFC 9113, 8.1)
            self._end(stream, STATUS_OF_RESET.get(NUMBER.unpack(payload)[0], INTERNAL))

    def _fail(self, _flags: int, _stream: int, payload: bytes) -> None:
        raise ConnectionBroken(f"the server ended the connection: {payload!r}")

    def close(self) -> None:
        """Close it."""
        self.socket.close()


_CONTROL: dict[int, Callable[[Connection, int, int, bytes], None]] = {
    SETTINGS: Connection._set,
    PING: Connection._answer_ping,
    WINDOW_UPDATE: Connection._widen,
    RST_STREAM: Connection._reset,
    GOAWAY: Connection._fail,
    CONTINUATION: Connection._fail,
}


def _window_update(size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, 0, NUMBER.pack(size))
