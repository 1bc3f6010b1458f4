"""One call of a streaming method, without a thread: what gRPC's core reports is handed to the service as it comes.

A service asks for one message at a time and sends one at a time, so that a client that does not read costs one message.
`end` may be called from any thread, as may `send`; a service hears of everything else in the polling thread. It leans
on gRPC's events and operations as `polling` does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from grpc._cython import cygrpc  # type: ignore[attr-defined]

from storekeep.server.transport.unary import NO_FLAGS, NO_TEXT, OK, Refusal

ENDED = Refusal(OK, NO_TEXT, ())
FLUSH_S = 1.0
"""How long a stream that is ending may take to have its last message sent; then it is cut off."""


class StreamService(Protocol):
    """Serves the streams of one method. No method may block or raise."""

    def receive(self, call: StreamCall, message: bytes | None) -> None:
        """Take a message that was asked for, or that there will be none: the client sends no more, or has gone."""

    def sent(self, call: StreamCall) -> None:
        """Hear that another message can be sent."""

    def ended(self, call: StreamCall) -> None:
        """Hear that the stream is over; called once for each call whose `receive` was called."""


class StreamRoute(NamedTuple):
    """How the streams of one method are served.

    Attributes:
        name: full name of the method, without a leading slash.
        service: serves them.
        streams_max: how many there may be at a time; beyond it those are ended that are idle longest, of the address
            that has most.
        per_address_max: how many of one address; further ones are rejected. 0: no limit.
        idle_max_s: how long one may neither receive nor send anything. 0: no limit.
    """

    name: str
    service: StreamService
    streams_max: int
    per_address_max: int
    idle_max_s: float


class StreamTag(NamedTuple):
    """What gRPC gives back when one batch of operations of a stream is done."""

    call: StreamCall
    on_event: Callable[[Any], None]


class StreamCall:
    """One stream.

    Args:
        event: announces it.
        route: how it is served.
    """

    __slots__ = (
        "_begun",
        "_end",
        "_ending_since_s",
        "_event",
        "_heard",
        "_is_open",
        "_is_sending",
        "_lock",
        "_pending",
        "_status_sent",
        "route",
    )

    def __init__(self, event: Any, route: StreamRoute) -> None:
        self._event = event
        self.route = route
        self._lock = threading.Lock()
        self._pending = 0
        self._begun = self._heard = self._is_sending = self._status_sent = False
        self._is_open = True
        self._end: Refusal | None = None
        self._ending_since_s = 0.0

    def begin(self) -> None:
        """Listen for the client's end, and ask for the first message."""
        with self._lock:
            self._start([cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS)], self._on_close)
            self._start([cygrpc.ReceiveMessageOperation(NO_FLAGS)], self._on_message)

    def ask(self) -> None:
        """Ask for the next message; the service has taken the one before."""
        with self._lock:
            if self._is_open and self._end is None:
                self._start([cygrpc.ReceiveMessageOperation(NO_FLAGS)], self._on_message)

    def send(self, message: bytes) -> bool:
        """Send a message; False where the one before is still under way, or the stream is over."""
        with self._lock:
            if not self._is_open or self._end is not None or self._is_sending:
                return False
            self._is_sending = True
            operations = [cygrpc.SendMessageOperation(message, NO_FLAGS)]
            if not self._begun:
                self._begun = True
                operations.insert(0, cygrpc.SendInitialMetadataOperation(None, NO_FLAGS))
            self._start(operations, self._on_sent)
            return True

    def end(self, status: Refusal = ENDED) -> None:
        """End the stream once the message under way is sent; a second time does nothing."""
        with self._lock:
            if self._end is not None or not self._is_open:
                return
            self._end = status
            self._ending_since_s = time.monotonic()
            if not self._is_sending:
                self._send_status(status)

    def drop(self, refusal: Refusal) -> None:
        """End the stream at once, whatever is under way; while a message is, its details cannot go along."""
        with self._lock:
            if self._is_open and not self._status_sent:
                if not self._is_sending:
                    self._send_status(refusal)
                self._is_open = False
                self._event.call.cancel(refusal.code, refusal.text)

    def is_stuck(self, *, now_s: float) -> bool:
        """Whether it should have ended by now, but its client does not read."""
        return self._end is not None and self._is_sending and now_s - self._ending_since_s > FLUSH_S

    def peer(self) -> str:
        """Return the caller's address, such as `ipv4:127.0.0.1:40404`."""
        peer: bytes = self._event.call.peer()
        return peer.decode(errors="replace")

    @property
    def path(self) -> str:
        """The path of its method."""
        return f"/{self.route.name}"

    # -- in the polling thread

    def heard(self, tag: StreamTag) -> bool:
        """Whether an event brings a message, or that there will be none."""
        return tag.on_event == self._on_message

    def finished(self) -> bool:
        """Note that a batch is done; whether it was the last, after which gRPC's own call is let go."""
        with self._lock:
            self._pending -= 1
            if self._pending:
                return False
        if self._heard:
            self.route.service.ended(self)
        self._event = None
        return True

    def _start(self, operations: list[Any], on_event: Callable[[Any], None]) -> None:
        self._pending += 1
        self._event.call.start_server_batch(operations, StreamTag(self, on_event))

    def _send_status(self, status: Refusal) -> None:
        self._status_sent = True
        code, text, trailing_metadata = status
        operations = [cygrpc.SendStatusFromServerOperation(trailing_metadata, code, text, NO_FLAGS)]
        if not self._begun:
            self._begun = True
            operations.insert(0, cygrpc.SendInitialMetadataOperation(None, NO_FLAGS))
        self._start(operations, self._on_end)

    def _on_message(self, event: Any) -> None:
        self._heard = True
        self.route.service.receive(self, event.batch_operations[0].message())

    def _on_sent(self, _event: Any) -> None:
        with self._lock:
            self._is_sending = False
            end = self._end
            if end is not None and self._is_open:
                self._send_status(end)
        if end is None:
            self.route.service.sent(self)

    def _on_close(self, _event: Any) -> None:
        with self._lock:
            self._is_open = False

    def _on_end(self, _event: Any) -> None:
        """The status is on its way."""
