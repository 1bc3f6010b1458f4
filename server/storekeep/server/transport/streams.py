"""Streaming calls without threads: events of gRPC's core are passed to a service in the polling thread.

A service requests and sends one message at a time, so that a client that does not read costs one message. `send` and
`end` may be called from any thread. All callbacks of a service run in the polling thread. Depends on private names of
grpcio, which `polling` checks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from grpc._cython import cygrpc  # type: ignore[attr-defined]

from storekeep.server.transport.call_statuses import CallStatus
from storekeep.server.transport.unary import NO_FLAGS, NO_TEXT, OK

ENDED = CallStatus(OK, NO_TEXT, ())
FLUSH_S = 1.0
"""Time that an ending stream has to send its last message before it is cancelled."""


class StreamService(Protocol):
    """Serves the streams of one method. No method may block or raise."""

    def on_message(self, call: StreamCall, message: bytes | None) -> None:
        """Handle a requested message; None if the client sends no more or has disconnected."""

    def on_sent(self, call: StreamCall) -> None:
        """Handle the completion of `send`: another message can be sent."""

    def on_end(self, call: StreamCall) -> None:
        """Handle the end of the stream. Called once for each call that had an `on_message`."""


class StreamRoute(NamedTuple):
    """The service and limits of the streams of one method.

    Attributes:
        name: full name of the method, without a leading slash.
        service: serves the streams.
        streams_max: the most streams at a time. Above it, the longest idle streams of the largest address are ended.
        per_address_max: the most streams of one address; further ones are rejected. 0 means no limit.
        idle_max_s: seconds without a message in either direction before a stream is ended. 0 means no limit.
        rejects_newest: whether further streams above `streams_max` are rejected, and none is ended for them.
    """

    name: str
    service: StreamService
    streams_max: int
    per_address_max: int
    idle_max_s: float
    rejects_newest: bool = False


class StreamTag(NamedTuple):
    """The tag that gRPC returns when a batch of operations of a stream completes."""

    call: StreamCall
    on_event: Callable[[Any], None]


class StreamCall:
    """One streaming call.

    Args:
        event: the event that reported the call.
        route: its service and limits.
    """

    __slots__ = (
        "_core",
        "_end",
        "_ending_since_s",
        "_event",
        "_has_begun",
        "_has_received",
        "_has_sent_status",
        "_is_open",
        "_is_sending",
        "_lock",
        "_pending",
        "route",
    )

    def __init__(self, event: Any, route: StreamRoute) -> None:
        self._event = event
        self._core = event.call
        self.route = route
        self._lock = threading.Lock()
        self._pending = 0
        self._has_begun = self._has_received = self._is_sending = self._has_sent_status = False
        self._is_open = True
        self._end: CallStatus | None = None
        self._ending_since_s = 0.0

    def begin(self) -> None:
        """Request the first message, and watch for the end of the call."""
        with self._lock:
            self._start([cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS)], self._on_close)
            self._start([cygrpc.ReceiveMessageOperation(NO_FLAGS)], self._on_message)

    def request_message(self) -> None:
        """Request the next message. The service must have handled the previous one."""
        with self._lock:
            if self._is_open and self._end is None:
                self._start([cygrpc.ReceiveMessageOperation(NO_FLAGS)], self._on_message)

    def send(self, message: bytes) -> bool:
        """Send a message. Return False if the previous one is still being sent, or the stream is ending."""
        with self._lock:
            if not self._is_open or self._end is not None or self._is_sending:
                return False
            self._is_sending = True
            operations = [cygrpc.SendMessageOperation(message, NO_FLAGS)]
            if not self._has_begun:
                self._has_begun = True
                operations.insert(0, cygrpc.SendInitialMetadataOperation(None, NO_FLAGS))
            self._start(operations, self._on_sent)
            return True

    def end(self, status: CallStatus = ENDED) -> None:
        """End the stream after the message that is being sent. Further calls have no effect."""
        with self._lock:
            if self._end is not None or not self._is_open:
                return
            self._end = status
            self._ending_since_s = time.monotonic()
            if not self._is_sending:
                self._send_status(status)

    def drop(self, status: CallStatus) -> None:
        """End the stream immediately. The status has no details if a message is being sent."""
        with self._lock:
            if self._is_open and not self._has_sent_status:
                if not self._is_sending:
                    self._send_status(status)
                self._is_open = False
                self._core.cancel(status.code, status.text)

    def is_stuck(self, *, now_s: float) -> bool:
        """Return whether the stream should have ended, but its client does not read."""
        return self._end is not None and self._is_sending and now_s - self._ending_since_s > FLUSH_S

    def peer(self) -> str:
        """Return the client's address, such as `ipv4:127.0.0.1:40404`."""
        peer: bytes = self._core.peer()
        return peer.decode(errors="replace")

    @property
    def path(self) -> str:
        """The gRPC path of its method."""
        return f"/{self.route.name}"

    @property
    def event(self) -> Any:
        """The event that reported the call, with its metadata; None after its end, and after `forget_event`."""
        return self._event

    def forget_event(self) -> None:
        """Release the metadata of the request, some 2 KiB."""
        self._event = None

    @property
    def end_status(self) -> CallStatus | None:
        """The status with which the stream is ending; None if it is not."""
        return self._end

    # -- in the polling thread

    def is_message(self, tag: StreamTag) -> bool:
        """Return whether a tag belongs to a requested message."""
        return tag.on_event == self._on_message

    def finish_batch(self) -> bool:
        """Record the completion of a batch. Return whether it was the last; the call is released then."""
        with self._lock:
            self._pending -= 1
            if self._pending:
                return False
        if self._has_received:
            self.route.service.on_end(self)
        self._event = self._core = None
        return True

    def _start(self, operations: list[Any], on_event: Callable[[Any], None]) -> None:
        self._pending += 1
        self._core.start_server_batch(operations, StreamTag(self, on_event))

    def _send_status(self, status: CallStatus) -> None:
        self._has_sent_status = True
        code, text, trailing_metadata = status
        operations = [cygrpc.SendStatusFromServerOperation(trailing_metadata, code, text, NO_FLAGS)]
        if not self._has_begun:
            self._has_begun = True
            operations.insert(0, cygrpc.SendInitialMetadataOperation(None, NO_FLAGS))
        self._start(operations, self._on_end)

    def _on_message(self, event: Any) -> None:
        self._has_received = True
        self.route.service.on_message(self, event.batch_operations[0].message())

    def _on_sent(self, _event: Any) -> None:
        with self._lock:
            self._is_sending = False
            end = self._end
            if end is not None and self._is_open:
                self._send_status(end)
        if end is None:
            self.route.service.on_sent(self)

    def _on_close(self, _event: Any) -> None:
        with self._lock:
            self._is_open = False

    def _on_end(self, _event: Any) -> None:
        """Ignore the completion of the status; `finish_batch` handles it."""
