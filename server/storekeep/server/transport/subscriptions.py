"""Server streams of the contract: the opening of each passes the interceptor chain, and then it occupies no thread.

The request is checked in a thread of the executor, like a read. The servicer returns a `Subscription`, which sends
messages from then on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from storekeep.server.transport.call_statuses import NO_REQUEST, CallStatus, Metadata, get_status_number
from storekeep.server.transport.streams import StreamCall
from storekeep.server.transport.unary import FAILED, UNKNOWN, Aborted, Route

log = logging.getLogger("storekeep.server")


class Subscription(Protocol):
    """An open stream. No method may block or raise; `on_sent` and `on_end` run in the polling thread."""

    def begin(self, call: StreamCall) -> None:
        """Start to send messages with the call."""

    def on_sent(self) -> None:
        """Handle the completion of a message: another one can be sent."""

    def on_end(self) -> None:
        """Handle the end of the stream. It may come before `begin`."""


class Opening:
    """The opening of one stream: a task of the executor, and the context of the servicer.

    Args:
        call: the stream.
        event: the event that reported it.
        request: the bytes of the request.
        route: the functions that serve it; `serve` returns a `Subscription`.

    Attributes:
        flow, has_priority: see `UnaryCall`.
        subscription: the open stream; None before it is open.
    """

    __slots__ = (
        "_call",
        "_event",
        "_has_ended",
        "_lock",
        "_request",
        "_route",
        "_status",
        "flow",
        "has_priority",
        "subscription",
    )

    def __init__(self, call: StreamCall, event: Any, request: bytes, route: Route) -> None:
        self._call = call
        self._event: Any = event
        self._request = request
        self._route = route
        self._status = CallStatus(UNKNOWN, FAILED, ())
        self._lock = threading.Lock()
        self._has_ended = False
        self.flow = ""
        self.has_priority = False
        self.subscription: Subscription | None = None

    def start(self) -> None:
        """Apply the limits of the method, and queue the opening. Runs in the polling thread."""
        limit = self._route.limit
        status = None if limit is None else limit(self._request, self)  # type: ignore[arg-type]  # it uses the context
        if status is not None:
            self._end(status)
        elif not (self._route.admits() and self._route.submit_task(self)):
            self.give_up()

    def __call__(self) -> None:
        """Open the stream, or end it with an error. Never raises."""
        subscription: Subscription | None = None
        try:
            subscription = self._route.serve(self._request, self)
        except Aborted:
            pass
        except Exception:
            log.exception("a stream could not be opened")
        if subscription is None:
            self._end(self._status)
            return
        self._event, self._request = None, b""
        self._call.forget_event()
        with self._lock:
            self.subscription = subscription
            has_ended = self._has_ended
        if has_ended:
            subscription.on_end()
        else:
            subscription.begin(self._call)

    def give_up(self) -> None:
        """Reject the stream: no executor took it, or it waited too long. Never raises."""
        self._end(self._route.reject(self.invocation_metadata()))

    def close(self) -> None:
        """Handle the end of the stream."""
        with self._lock:
            self._has_ended = True
            subscription = self.subscription
        if subscription is not None:
            subscription.on_end()

    def _end(self, status: CallStatus) -> None:
        self._call.end(status)
        self._event = None

    # -- for its handler, with the names of `grpc.ServicerContext`

    def invocation_metadata(self) -> Metadata:
        """Return the metadata that the client sent."""
        metadata: Metadata = self._event.invocation_metadata
        return metadata

    def peer(self) -> str:
        """Return the client's address, such as `ipv4:127.0.0.1:40404`."""
        return self._call.peer()

    def auth_context(self) -> Mapping[str, Any]:
        """Return the TLS properties of the client; empty without TLS."""
        context: Mapping[Any, Any] = cygrpc.auth_context(self._event.call)
        return {key.decode() if isinstance(key, bytes) else key: value for key, value in context.items()}

    def time_remaining(self) -> float:
        """Return the seconds until the deadline; a very large number without one."""
        deadline: float = self._event.call_details.deadline
        return max(deadline - time.time(), 0.0)

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Set the metadata that is sent with the status of an error."""
        self._status = self._status._replace(trailing_metadata=trailing_metadata)

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """End the stream with a status other than OK.

        Raises: Aborted, always.
        """
        self._status = self._status._replace(code=get_status_number(code), text=details.encode())
        raise Aborted


class Subscriptions:
    """Serves the streams of one method of the contract; a `StreamService`.

    Args:
        route: the functions that open a stream.
    """

    def __init__(self, route: Route) -> None:
        self._route = route
        self._openings: dict[StreamCall, Opening] = {}
        self._open: dict[StreamCall, Subscription] = {}

    def on_message(self, call: StreamCall, message: bytes | None) -> None:
        """Open the stream with the request."""
        if message is None:
            call.end(NO_REQUEST)
            return
        opening = self._openings[call] = Opening(call, call.event, message, self._route)
        opening.start()

    def on_sent(self, call: StreamCall) -> None:
        """Let the open stream send its next message."""
        subscription = self._open.get(call)
        if subscription is None:
            subscription = self._openings[call].subscription
            if subscription is None:
                return
            self._open[call] = subscription
            del self._openings[call]  # some 300 bytes, which an open stream does not need
        subscription.on_sent()

    def on_end(self, call: StreamCall) -> None:
        """Forget the stream."""
        subscription, opening = self._open.pop(call, None), self._openings.pop(call, None)
        if subscription is not None:
            subscription.on_end()
        elif opening is not None:
            opening.close()
