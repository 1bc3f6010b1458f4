"""Unary calls: from the event that reports a call to its status, with the least work that gRPC's core needs.

gRPC's own Python code makes a state, a context, a condition, four closures and a future for each call, and occupies a
thread before the request arrives. Here a call is one object: it requests its message, is submitted to an executor with
it, and ends with one batch of operations. Depends on private names of grpcio, which `polling` checks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn, Protocol

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from storekeep.server.runtime.tasks import Task
from storekeep.server.transport.call_statuses import NO_REQUEST, CallStatus, Metadata, get_status_number

NO_FLAGS = 0
NO_TEXT = b""
FAILED = b"the call failed"
NO_INITIAL_METADATA = cygrpc.SendInitialMetadataOperation(None, NO_FLAGS)
AWAIT_CLOSE = cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS)

log = logging.getLogger("storekeep.server")


class Lane(Protocol):
    """Chooses the executor for the calls of one method.

    A call is submitted to the usual executor first.
    """

    def serve(self, call: UnaryCall, /) -> None:
        """Serve a call in the current thread, or submit it to a separate executor."""


Limit = Callable[[Any, "UnaryCall"], CallStatus | None]
"""Takes a request's bytes and its call. Returns the status if a limit rejects the call, or else None."""


class Route(NamedTuple):
    """Functions that serve the calls of one method.

    Attributes:
        submit_task: queues a task and returns True, or returns False to reject it; must not block.
        admits: returns whether admission control admits another call.
        serve: takes the request's bytes and the call, and returns the reply. Raises `Aborted`.
        serialize: returns the bytes of a reply.
        reject: takes the metadata of a call, and returns the status that rejects it.
        lane: chooses the executor of its calls; None if there is only one.
        check: takes the request's bytes and the call, and returns the input of `finish`. Raises `Aborted`. None if
            calls are not checked in a separate thread.
        finish: takes the result of `check` and the call, and returns the reply. Raises `Aborted`.
        reject_checked: takes the result of `check` and the call, and rejects the call with full details. Raises
            `Aborted`.
        limit: rejects calls above a limit, in the polling thread; None without limits.
    """

    submit_task: Callable[[Task], bool]
    admits: Callable[[], bool]
    serve: Callable[[Any, Any], Any]
    serialize: Callable[[Any], bytes]
    reject: Callable[[Metadata], CallStatus]
    lane: Lane | None = None
    check: Callable[[Any, Any], Any] | None = None
    finish: Callable[[Any, Any], Any] | None = None
    reject_checked: Callable[[Any, Any], Any] | None = None
    limit: Limit | None = None


OK = get_status_number(grpc.StatusCode.OK)
UNKNOWN = get_status_number(grpc.StatusCode.UNKNOWN)


class Aborted(Exception):
    """A handler has ended the call with a status other than OK."""


def cancel_call(event: Any, status: CallStatus) -> None:
    """Cancel a call with a status code and message. A cancelled call cannot send trailing metadata."""
    event.call.cancel(status.code, status.text)


class RejectedCall:
    """A call that was rejected on arrival. It is the tag of the single batch that sends its status.

    It costs no more than `cancel_call`, and a fifth less than `UnaryCall.reject`: it needs no `UnaryCall`, and all
    rejected calls share two of the operations, which have no state.

    Args:
        event: the event that reported the call.
        status: the status of the call.
    """

    __slots__ = ("_call",)

    def __init__(self, event: Any, status: CallStatus) -> None:
        self._call = event.call  # not the event: its metadata may take megabytes
        send_status = cygrpc.SendStatusFromServerOperation(status.trailing_metadata, status.code, status.text, NO_FLAGS)
        event.call.start_server_batch((NO_INITIAL_METADATA, AWAIT_CLOSE, send_status), self)

    def end(self) -> None:
        """Release gRPC's call object. This must happen before the polling thread waits for the next event."""
        self._call = None


class UnaryCall:
    """One unary call: the task that serves it, the tag of its events, and the context of its handler.

    Args:
        event: the event that reported the call.
        route: the functions that serve it.

    Attributes:
        is_under_way: whether its request has arrived, so that it counts as a call in progress.
        flow: the flow that it belongs to in a fair queue; empty if unknown.
        has_priority: whether its caller is below its fair share, so that it is not rejected for waiting.
        reply_bytes: the size of its reply in bytes; 0 before the reply.
    """

    __slots__ = (
        "_code",
        "_event",
        "_is_dropped",
        "_is_ending",
        "_request",
        "_route",
        "_serve",
        "_text",
        "_trailing_metadata",
        "flow",
        "has_priority",
        "is_under_way",
        "reply_bytes",
    )

    def __init__(self, event: Any, route: Route) -> None:
        self._event = event
        self._route = route
        self._request: Any = None
        self._serve = route.serve
        self._is_ending = self._is_dropped = False
        self.is_under_way = False
        self.flow = ""
        self.has_priority = False
        self.reply_bytes = 0
        self._code = OK
        self._text = NO_TEXT
        self._trailing_metadata: Metadata | None = None

    def receive(self) -> None:
        """Request the call's message. When it arrives, the call is submitted to its executor."""
        self._event.call.start_server_batch((cygrpc.ReceiveMessageOperation(NO_FLAGS),), self)

    def reject(self, status: CallStatus) -> None:
        """End the call with a status, without serving it."""
        self._request = None
        self._code, self._text, self._trailing_metadata = status
        self._send(None)

    def drop(self, status: CallStatus) -> None:
        """End the call immediately, because its request is incomplete or its client does not read the reply.

        Cancelling the call releases its memory in gRPC's core, even if the client does not read. The status is sent
        first, unless one was sent already, because a cancelled call cannot send error details.
        """
        if not self._is_ending:
            self._is_dropped = True
            self._code, self._text, self._trailing_metadata = status
            self._send(None)
        cancel_call(self._event, status)

    @property
    def is_ending(self) -> bool:
        """Whether the call has been answered and only waits for the client to read."""
        return self._is_ending

    @property
    def path(self) -> str:
        """The gRPC path of its method."""
        path: str = self._event.tag
        return path

    def on_event(self, event: Any) -> bool:
        """Handle the completion of a batch of operations. Runs in the polling thread.

        Returns: whether the call is finished.
        """
        if self._is_dropped:  # its receive operation completes before the batch with the status
            self._is_dropped = False
            return False
        if self._is_ending:
            self._event = None  # must be released before the polling thread waits for the next event
            return True
        self._request = event.batch_operations[0].message()
        if self._request is None or not self.is_under_way:  # cancelled, without a request, or dropped
            self.reject(NO_REQUEST)
            return False
        status = None if self._route.limit is None else self._route.limit(self._request, self)
        if status is not None:
            self.reject(status)
        elif not self._route.submit_task(self):
            self.give_up()
        return False

    def check(self) -> bool:
        """Check the call in a separate thread, if its route has a `check`. Never raises.

        Returns: False if the check ended the call.
        """
        check, finish = self._route.check, self._route.finish
        if check is None or finish is None:
            return True
        try:
            self._request, self._serve = check(self._request, self), finish
            return True
        except Aborted:
            pass
        except Exception:  # noqa: BLE001 - `_fail` logs it
            self._fail()
        self._request = None
        self._send(None)
        return False

    def __call__(self) -> None:
        """Serve the call, or let its lane choose another executor. Never raises."""
        lane = self._route.lane
        if lane is None:
            self.serve()
        else:
            lane.serve(self)

    def serve(self) -> None:
        """Serve the call in the current thread. Never raises."""
        reply = None
        try:
            reply = self._route.serialize(self._serve(self._request, self))
        except Aborted:
            pass
        except Exception:  # noqa: BLE001 - `_fail` logs it
            self._fail()
        self._request = None
        self._send(reply)

    def _fail(self) -> None:
        """Log the current exception of a handler, and set the status UNKNOWN."""
        log.exception("a handler failed")
        self._code, self._text = UNKNOWN, FAILED

    def give_up(self) -> None:
        """Reject the call after it was admitted: no executor took it, or it waited too long. Never raises."""
        reject = self._route.reject_checked
        if reject is not None and self._serve is not self._route.serve:  # its checks already count and log the call
            self._serve = reject
            self.serve()
        else:
            self.reject(self._route.reject(self.invocation_metadata()))

    def _send(self, reply: bytes | None) -> None:
        """Send the status, preceded by the reply if there is one."""
        self._is_ending = True
        operations = [
            cygrpc.SendInitialMetadataOperation(None, NO_FLAGS),
            cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS),
            cygrpc.SendStatusFromServerOperation(self._trailing_metadata, self._code, self._text, NO_FLAGS),
        ]
        if reply is not None:
            self.reply_bytes = len(reply)
            operations.append(cygrpc.SendMessageOperation(reply, NO_FLAGS))
        self._event.call.start_server_batch(operations, self)

    # -- for its handler, with the names of `grpc.ServicerContext`

    def invocation_metadata(self) -> Metadata:
        """Return the metadata that the client sent."""
        metadata: Metadata = self._event.invocation_metadata
        return metadata

    def peer(self) -> str:
        """Return the client's address, such as `ipv4:127.0.0.1:40404`."""
        peer: bytes = self._event.call.peer()
        return peer.decode(errors="replace")

    def auth_context(self) -> Mapping[str, Any]:
        """Return the TLS properties of the client; empty without TLS."""
        context: Mapping[Any, Any] = cygrpc.auth_context(self._event.call)
        return {key.decode() if isinstance(key, bytes) else key: value for key, value in context.items()}

    def time_remaining(self) -> float:
        """Return the seconds until the deadline; a very large number without one."""
        deadline: float = self._event.call_details.deadline
        return max(deadline - time.time(), 0.0)

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Set the metadata that is sent with the status."""
        self._trailing_metadata = trailing_metadata

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """End the call with a status other than OK.

        Raises: Aborted, always.
        """
        self._code, self._text = get_status_number(code), details.encode()
        raise Aborted
