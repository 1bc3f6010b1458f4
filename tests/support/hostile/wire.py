"""Raw HTTP/2 on a socket: frames and incomplete calls that no client library would send.

An `Attacker` is one connection. It waits for the server only on request, and keeps no state except that of HPACK.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from google.rpc import error_details_pb2, status_pb2
from hpack import Decoder, Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WAIT_S = 60.0
FRAME_BYTES_MAX = 16_384
WINDOW_MAX = 2**31 - 1
DEFAULT_WINDOW = 65_535

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
LIST = "/grpc.health.v1.Health/List"
REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
GET = "/storekeep.v1.ProductService/GetProduct"
PLACE = "/storekeep.v1.OrderService/PlaceOrder"
ISSUE = "/storekeep.v1.AuthService/IssueToken"
UNKNOWN = "/storekeep.v1.OrderService/Nothing"


def frame_message(message: bytes, *, compressed: bool = False) -> bytes:
    """Frame a message for gRPC: a flag, the length, the bytes."""
    return struct.pack(">BI", compressed, len(message)) + message


def wait_until(condition: Callable[[], bool], *, what: str, timeout_s: float = WAIT_S) -> None:
    """Wait for a condition.

    Raises: TimeoutError.
    """
    give_up = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(what)
        time.sleep(0.01)


@dataclass
class Heard:
    """What a connection received on one stream.

    Attributes:
        headers: Headers of all HEADERS frames, including trailers.
        data: Its message bytes, with gRPC framing.
        is_over: Whether the server has ended the stream.
        reset: Error code of a RST_STREAM; None if there was none.
    """

    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    is_over: bool = False
    reset: int | None = None

    @property
    def status(self) -> int | None:
        """gRPC status; None if there is none yet."""
        value = self.headers.get("grpc-status")
        return None if value is None else int(value)

    @property
    def reason(self) -> str:
        """Error reason in the details of the status; empty if there are none."""
        packed = self.headers.get("grpc-status-details-bin", "")
        status = status_pb2.Status.FromString(base64.b64decode(packed + "=" * (-len(packed) % 4)))
        info = error_details_pb2.ErrorInfo()
        return next((info.reason for detail in status.details if detail.Unpack(info)), "")


class Attacker:
    """A plaintext connection.

    Args:
        address: `host:port`, or `unix:/path`.
        preface: Whether to send the HTTP/2 preface.
        reads: Whether a thread reads what the server sends.
        acknowledges: Whether to acknowledge SETTINGS and answer pings.
        source: Local address to connect from, such as `127.0.0.2`.
        window: Stream window to offer.
    """

    def __init__(
        self,
        address: str,
        *,
        preface: bool = True,
        reads: bool = True,
        acknowledges: bool = True,
        source: str = "",
        window: int = DEFAULT_WINDOW,
    ) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection(
            (host, int(port)), timeout=WAIT_S, source_address=(source, 0) if source else None
        )
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.encoder = Encoder()
        self.streams: dict[int, Heard] = {}
        self.goaway: int | None = None
        self.is_closed = False
        self._acknowledges = acknowledges
        self._next_stream = 1
        self._decoder = Decoder()
        self._lock = threading.Lock()
        self._sent_bytes: collections.Counter[int] = collections.Counter()
        self._granted_bytes: collections.Counter[int] = collections.Counter()
        self._stream_window = DEFAULT_WINDOW
        if preface:
            settings = SettingsFrame(0)
            settings.settings = {SettingsFrame.INITIAL_WINDOW_SIZE: window}
            self.send_raw(PREFACE + settings.serialize())
        if reads:
            threading.Thread(target=self._read, name="attacker", daemon=True).start()

    def __enter__(self) -> Attacker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    # -- sending

    def send_raw(self, raw: bytes) -> bool:
        """Send raw bytes; return False if the connection is closed."""
        try:
            with self._lock:
                self.socket.sendall(raw)
        except OSError:
            self.is_closed = True
            return False
        return True

    def send(self, *frames: Frame) -> bool:
        """Send frames."""
        return self.send_raw(b"".join(frame.serialize() for frame in frames))

    def block(self, path: str, extra: list[tuple[str, str]] | None = None) -> bytes:
        """Build the header block of a call."""
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *(extra or []),
        ]
        return self.encoder.encode(headers)

    def open(
        self, path: str, message: bytes | None = None, *, extra: list[tuple[str, str]] | None = None, ends: bool = False
    ) -> int:
        """Open a stream with HEADERS, and with DATA if bytes are given; return its number."""
        frames = self.build_header_frames(path, extra=extra, block=None)
        stream = frames[0].stream_id
        if message is not None:
            frames += list(data_frames(stream, message, ends=ends))
        self.send(*frames)
        return stream

    def build_header_frames(
        self, path: str, *, extra: list[tuple[str, str]] | None = None, block: bytes | None = None
    ) -> list[Frame]:
        """Build the frames of a call's header block, or of a given one."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self.streams[stream] = Heard()
        block = block if block is not None else self.block(path, extra)
        parts = [block[start : start + FRAME_BYTES_MAX] for start in range(0, len(block), FRAME_BYTES_MAX)]
        frames: list[Frame] = [HeadersFrame(stream, parts[0])]
        frames += [ContinuationFrame(stream, part) for part in parts[1:]]
        frames[-1].flags.add("END_HEADERS")
        return frames

    def open_block(self, path: str) -> int:
        """Begin the header block of a call and do not end it; return the number of the stream."""
        frame = self.build_header_frames(path)[0]
        frame.flags.discard("END_HEADERS")
        self.send(frame)
        return frame.stream_id

    def data(self, stream: int, raw: bytes, *, ends: bool = False) -> bool:
        """Send bytes on a stream."""
        return self.send(*data_frames(stream, raw, ends=ends))

    def reset(self, stream: int) -> bool:
        """Reset a stream."""
        return self.send(RstStreamFrame(stream, error_code=8))

    def call(self, path: str, message: bytes = b"", **more: object) -> Heard:
        """Make one complete call and wait for its end. Send no more than the server's windows allow."""
        stream = self.open(path, **more)  # type: ignore[arg-type]
        for frame in data_frames(stream, frame_message(message), ends=True):
            self._await_window(stream, len(frame.data))
            self.send(frame)
        return self.await_end(stream)

    def _await_window(self, stream: int, size: int) -> None:
        """Wait until both windows allow a frame, or the stream or the connection ends. Then count the frame."""
        granted, sent = self._granted_bytes, self._sent_bytes

        def is_allowed() -> bool:
            windows = self._stream_window + granted[stream] - sent[stream], DEFAULT_WINDOW + granted[0] - sent[0]
            return min(windows) >= size or self.streams[stream].is_over or self.is_closed

        if not is_allowed():
            wait_until(is_allowed, what=f"window of stream {stream}")
        for number in (0, stream):
            sent[number] += size

    def await_end(self, stream: int, *, timeout_s: float = WAIT_S) -> Heard:
        """Wait until the server has ended a stream or the connection."""
        heard = self.streams[stream]
        wait_until(lambda: heard.is_over or self.is_closed, what=f"end of stream {stream}", timeout_s=timeout_s)
        return heard

    def await_closed(self, *, timeout_s: float = WAIT_S) -> None:
        """Wait until the server has closed the connection."""
        wait_until(lambda: self.is_closed, what="the server closes the connection", timeout_s=timeout_s)

    # -- receiving

    def _read(self) -> None:
        buffer = b""
        while True:
            try:
                received = self.socket.recv(65_536)
            except OSError:
                received = b""
            if not received:
                self.is_closed = True
                return
            buffer += received
            while len(buffer) >= 9:
                frame, length = Frame.parse_frame_header(memoryview(buffer[:9]))
                if len(buffer) < 9 + length:
                    break
                frame.parse_body(memoryview(buffer[9 : 9 + length]))
                buffer = buffer[9 + length :]
                self._take(frame)

    def _take(self, frame: Frame) -> None:
        if isinstance(frame, GoAwayFrame):
            self.goaway = frame.error_code
        if isinstance(frame, SettingsFrame):
            self._stream_window = frame.settings.get(SettingsFrame.INITIAL_WINDOW_SIZE, self._stream_window)
        elif isinstance(frame, WindowUpdateFrame):
            self._granted_bytes[frame.stream_id] += frame.window_increment
        if self._acknowledges:
            self._acknowledge(frame)
        heard = self.streams.get(frame.stream_id)
        if heard is None:
            return
        if isinstance(frame, HeadersFrame):
            for name, value in self._decoder.decode(frame.data, raw=True):
                heard.headers[bytes(name).decode()] = bytes(value).decode(errors="replace")
        elif isinstance(frame, DataFrame):
            heard.data += frame.data
        elif isinstance(frame, RstStreamFrame):
            heard.reset = frame.error_code
        heard.is_over = heard.is_over or heard.reset is not None or "END_STREAM" in frame.flags

    def _acknowledge(self, frame: Frame) -> None:
        if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            self.send(SettingsFrame(0, flags=["ACK"]))
        elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            self.send(PingFrame(0, opaque_data=frame.opaque_data, flags=["ACK"]))
        elif isinstance(frame, DataFrame) and frame.data:
            self.send(*(WindowUpdateFrame(stream, window_increment=len(frame.data)) for stream in (0, frame.stream_id)))


def data_frames(stream: int, raw: bytes, *, ends: bool = False) -> Iterator[DataFrame]:
    """Yield the DATA frames of some bytes."""
    parts = [raw[start : start + FRAME_BYTES_MAX] for start in range(0, len(raw), FRAME_BYTES_MAX)] or [b""]
    for number, part in enumerate(parts, start=1):
        yield DataFrame(stream, part, flags=["END_STREAM"] if ends and number == len(parts) else [])
