"""One call of a unary method, from the event that announces it to its status, with as little as gRPC's core needs.

gRPC's own Python makes a state, a context, a condition, four closures and a future for each call, and hands it to a
thread before its request is there. Here a call is one object that asks for its request, is handed over with it, and
ends in one batch of operations. It leans on gRPC's events and operations as `polling` does, which knows whether the
installed grpcio has them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn, Protocol

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from storekeep.server.runtime.tasks import Task

NO_FLAGS = 0
NO_TEXT = b""
FAILED = b"the call failed"
NO_INITIAL_METADATA = cygrpc.SendInitialMetadataOperation(None, NO_FLAGS)
AWAIT_CLOSE = cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS)

Metadata = tuple[tuple[str, str | bytes], ...]

log = logging.getLogger("storekeep.server")


class Refusal(NamedTuple):
    """What a call is answered that is not served.

    Attributes:
        code: the number of the gRPC status.
        text: its text.
        trailing_metadata: with its details.
    """

    code: int
    text: bytes
    trailing_metadata: Metadata


class Lane(Protocol):
    """Where the calls of one method run.

    Attributes:
        is_heavy: whether they run apart from those of other methods.
    """

    is_heavy: bool

    def divert(self, call: UnaryCall, /) -> None:
        """Have a call run there that was handed over before it was known."""


Limit = Callable[[Any, "UnaryCall"], Refusal | None]
"""Given a request's bytes and its call, gives what the call is answered where a limit refuses it."""


class Route(NamedTuple):
    """How the calls of one method are served.

    Attributes:
        hand_over: has a task run soon, and says whether it will; must not block.
        is_full: whether no further calls are to be served now.
        serve: given the request's bytes and the call, gives the reply; raises what `UnaryCall.abort` raises.
        serialize: gives the bytes of a reply.
        refuse: given a call's metadata, what it is answered where it is not served.
        lane: where its calls run; None where all run alike.
        check: given the request's bytes and the call, gives what `finish` serves; raises as `serve`. None where calls
            are not checked apart.
        finish: serves what has been checked, as `serve` does both.
        reject: refuses what has been checked but is not served, in all the words of its checks; raises as `serve`.
        limit: given the request's bytes and the call, what it is answered where a limit refuses it; runs in the polling
            thread. None where nothing is limited.
    """

    hand_over: Callable[[Task], bool]
    is_full: Callable[[], bool]
    serve: Callable[[Any, Any], Any]
    serialize: Callable[[Any], bytes]
    refuse: Callable[[Metadata], Refusal]
    lane: Lane | None = None
    check: Callable[[Any, Any], Any] | None = None
    finish: Callable[[Any, Any], Any] | None = None
    reject: Callable[[Any, Any], Any] | None = None
    limit: Limit | None = None


def number_of(code: grpc.StatusCode) -> int:
    """The number by which a status travels."""
    number: int = code.value[0]
    return number


OK = number_of(grpc.StatusCode.OK)
UNKNOWN = number_of(grpc.StatusCode.UNKNOWN)
NO_REQUEST = Refusal(number_of(grpc.StatusCode.UNIMPLEMENTED), b"the call has no request", ())


class Aborted(Exception):
    """The call ends with the status that it was given."""


def shed(event: Any, refusal: Refusal) -> None:
    """End a call by a status and a text alone, which is all that goes along where a call is cancelled."""
    event.call.cancel(refusal.code, refusal.text)


class RejectedCall:
    """A call that was never taken up: the tag of the one batch that ends it with a status and its details.

    It takes no more of a core than `shed` does, and a fifth less than `UnaryCall.refuse`: no `UnaryCall` is made, and
    two of its operations are shared by all calls, as they hold nothing of any.

    Args:
        event: announces it.
        refusal: what it is answered.
    """

    __slots__ = ("_call",)

    def __init__(self, event: Any, refusal: Refusal) -> None:
        self._call = event.call  # not the event: its metadata may take megabytes
        send_status = cygrpc.SendStatusFromServerOperation(
            refusal.trailing_metadata, refusal.code, refusal.text, NO_FLAGS
        )
        event.call.start_server_batch((NO_INITIAL_METADATA, AWAIT_CLOSE, send_status), self)

    def end(self) -> None:
        """Let go of gRPC's call, which must happen before the next event is waited for."""
        self._call = None


class UnaryCall:
    """One call. It is the task that serves it, the tag of its events, and all that a handler gets to know of it.

    Args:
        event: announces it.
        route: how it is served.

    Attributes:
        is_under_way: whether its request has arrived, so that it counts among the calls under way.
        flow: to whose share of a queue it counts, where that is known.
        reply_bytes: size of its reply; 0 until it has one.
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
        self.reply_bytes = 0
        self._code = OK
        self._text = NO_TEXT
        self._trailing_metadata: Metadata | None = None

    def receive(self) -> None:
        """Ask for the request; with it the call is handed over to be served."""
        self._event.call.start_server_batch((cygrpc.ReceiveMessageOperation(NO_FLAGS),), self)

    def refuse(self, refusal: Refusal) -> None:
        """End it without serving it."""
        self._request = None
        self._code, self._text, self._trailing_metadata = refusal
        self._send(None)

    def drop(self, refusal: Refusal) -> None:
        """End it at once: its request has not arrived, or its reply is not read.

        To cancel it lets go of what gRPC holds of it, whether or not its caller reads. The status goes ahead, unless
        one was sent, as a call that is cancelled gets no details.
        """
        if not self._is_ending:
            self._is_dropped = True
            self._code, self._text, self._trailing_metadata = refusal
            self._send(None)
        shed(self._event, refusal)

    @property
    def is_ending(self) -> bool:
        """Whether it has been answered: all that is left is that its caller reads."""
        return self._is_ending

    @property
    def path(self) -> str:
        """The path of its method."""
        path: str = self._event.tag
        return path

    def on_event(self, event: Any) -> bool:
        """What it asked gRPC for has happened. Runs in the polling thread.

        Returns: whether it is over.
        """
        if self._is_dropped:  # it was still waiting for its request: what it had asked for before ends first
            self._is_dropped = False
            return False
        if self._is_ending:
            self._event = None  # gRPC's own call has to go before the next event is waited for
            return True
        self._request = event.batch_operations[0].message()
        if self._request is None or not self.is_under_way:  # it was cancelled, ended without one, or was dropped
            self.refuse(NO_REQUEST)
            return False
        refusal = None if self._route.limit is None else self._route.limit(self._request, self)
        if refusal is not None:
            self.refuse(refusal)
        elif not self._route.hand_over(self):
            self.give_up()
        return False

    def check(self) -> bool:
        """Check it, where that is done apart, so that it has only to be finished; False where that ended it.

        Never raises.
        """
        check, finish = self._route.check, self._route.finish
        if check is None or finish is None:
            return True
        try:
            self._request, self._serve = check(self._request, self), finish
            return True
        except Aborted:
            pass
        except Exception:  # noqa: BLE001 - it is logged
            self._fail()
        self._request = None
        self._send(None)
        return False

    def __call__(self) -> None:
        """Serve it, or have it served where calls of its method run by now. Never raises."""
        lane = self._route.lane
        if lane is not None and lane.is_heavy:
            lane.divert(self)
        else:
            self.serve()

    def serve(self) -> None:
        """Serve it here and now. Never raises."""
        reply = None
        try:
            reply = self._route.serialize(self._serve(self._request, self))
        except Aborted:
            pass
        except Exception:  # noqa: BLE001 - it is logged
            self._fail()
        self._request = None
        self._send(reply)

    def _fail(self) -> None:
        """Note that it ends by a defect of its handler; only while that is handled."""
        log.exception("a handler failed")
        self._code, self._text = UNKNOWN, FAILED

    def give_up(self) -> None:
        """Refuse it though it was let in: nobody takes it, or it has waited too long. Never raises."""
        reject = self._route.reject
        if reject is not None and self._serve is not self._route.serve:  # its checks have begun to count and log it
            self._serve = reject
            self.serve()
        else:
            self.refuse(self._route.refuse(self.invocation_metadata()))

    def _send(self, reply: bytes | None) -> None:
        """End it with its status, and with a reply unless it was refused or aborted."""
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

    # -- for its handler, named as in `grpc.ServicerContext`

    def invocation_metadata(self) -> Metadata:
        """What came with the call."""
        metadata: Metadata = self._event.invocation_metadata
        return metadata

    def peer(self) -> str:
        """Return the caller's address, such as `ipv4:127.0.0.1:40404`."""
        peer: bytes = self._event.call.peer()
        return peer.decode(errors="replace")

    def auth_context(self) -> Mapping[str, Any]:
        """Return what TLS says of the caller; empty without TLS."""
        context: Mapping[Any, Any] = cygrpc.auth_context(self._event.call)
        return {key.decode() if isinstance(key, bytes) else key: value for key, value in context.items()}

    def time_remaining(self) -> float:
        """Seconds until its deadline; very many where it has none."""
        deadline: float = self._event.call_details.deadline
        return max(deadline - time.time(), 0.0)

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """What goes with its status."""
        self._trailing_metadata = trailing_metadata

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """End it with a status other than OK.

        Raises: Aborted, always.
        """
        self._code, self._text = number_of(code), details.encode()
        raise Aborted
