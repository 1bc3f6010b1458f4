"""One call of a unary method, from the event that announces it to its status, with as little as gRPC's core needs.

gRPC's own Python makes a state, a context, a condition, four closures and a future for each call, and hands it to a
thread before its request is there. Here a call is one object that asks for its request, is handed over with it, and
ends in one batch of operations. It leans on gRPC's events and operations as `polling` does, which knows whether the
installed grpcio has them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from grpc import _common
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from storekeep.server.waiting import Task

NO_FLAGS = 0
NO_TEXT = b""
FAILED = b"the call failed"

Metadata = tuple[tuple[str, str | bytes], ...]

log = logging.getLogger("storekeep.server")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a call is answered that is not served.

    Attributes:
        code: the gRPC status.
        text: its text.
        trailing_metadata: with its details.
    """

    code: grpc.StatusCode
    text: bytes
    trailing_metadata: Metadata


@dataclass(frozen=True, slots=True)
class Route:
    """How the calls of one method are served.

    Attributes:
        hand_over: has a task run soon, and says whether it will; must not block.
        serve: given the request's bytes and the call, gives the reply; raises what `UnaryCall.abort` raises.
        serialize: gives the bytes of a reply.
        refuse: given a call's metadata, what it is answered that was not taken.
    """

    hand_over: Callable[[Task], bool]
    serve: Callable[[Any, Any], Any]
    serialize: Callable[[Any], bytes]
    refuse: Callable[[Metadata], Refusal]


NO_REQUEST = Refusal(grpc.StatusCode.UNIMPLEMENTED, b"the call has no request", ())


class Aborted(Exception):
    """The call ends with the status that it was given."""


class UnaryCall:
    """One call. It is the task that serves it, and all that a handler gets to know of it.

    Args:
        event: announces it.
        ended: told once it is over, in the polling thread.
    """

    __slots__ = ("_code", "_ended", "_event", "_request", "_route", "_text", "_trailing_metadata")
    _route: Route

    def __init__(self, event: Any, *, ended: Callable[[], None]) -> None:
        self._event = event
        self._ended = ended
        self._request: bytes | None = None
        self._code = cygrpc.StatusCode.ok
        self._text = NO_TEXT
        self._trailing_metadata: Metadata | None = None

    def receive(self, route: Route) -> None:
        """Ask for the request; with it the call is handed over to be served."""
        self._route = route
        self._event.call.start_server_batch((cygrpc.ReceiveMessageOperation(NO_FLAGS),), self._on_request)

    def _on_request(self, event: Any) -> tuple[None, tuple[()]]:
        """Hand the call over. Runs in the polling thread, to which what it returns says that the call goes on."""
        self._request = event.batch_operations[0].message()
        if self._request is None:  # it was cancelled, or ended without one
            self.refuse(NO_REQUEST)
        elif not self._route.hand_over(self):
            self.refuse(self._route.refuse(self.invocation_metadata()))
        return None, ()

    def refuse(self, refusal: Refusal) -> None:
        """End it without serving it."""
        self._request = None
        self._trailing_metadata = refusal.trailing_metadata
        self._end_as(refusal.code, refusal.text)
        self._send(None)

    def __call__(self) -> None:
        """Serve it. Never raises."""
        route, reply = self._route, None
        try:
            reply = route.serialize(route.serve(self._request, self))
        except Aborted:
            pass
        except Exception:
            log.exception("a handler failed")
            self._end_as(grpc.StatusCode.UNKNOWN, FAILED)
        self._request = None
        self._send(reply)

    def _end_as(self, code: grpc.StatusCode, text: bytes) -> None:
        self._code = _common.STATUS_CODE_TO_CYGRPC_STATUS_CODE[code]
        self._text = text

    def _send(self, reply: bytes | None) -> None:
        """End it with its status, and with a reply unless it was aborted."""
        operations = [
            cygrpc.SendInitialMetadataOperation(None, NO_FLAGS),
            cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS),
            cygrpc.SendStatusFromServerOperation(self._trailing_metadata, self._code, self._text, NO_FLAGS),
        ]
        if reply is not None:
            operations.append(cygrpc.SendMessageOperation(reply, NO_FLAGS))
        self._event.call.start_server_batch(operations, self._on_end)

    def _on_end(self, _event: Any) -> tuple[UnaryCall, tuple[()]]:
        """Runs in the polling thread, to which what it returns says that the call is over."""
        self._event = None  # gRPC's own call has to go before the next event is waited for
        self._ended()
        return self, ()

    # -- for its handler, named as in `grpc.ServicerContext`

    def invocation_metadata(self) -> Metadata:
        """What came with the call."""
        metadata: Metadata = self._event.invocation_metadata
        return metadata

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
        self._end_as(code, details.encode())
        raise Aborted
