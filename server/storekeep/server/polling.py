"""The thread that hears of gRPC's events. It knows how late it is, and refuses calls before anything is made of them.

gRPC's own loop makes a state, a context and two batches of operations for a call that is then refused: too much for
what comes in beyond what can be served. It leans on names in `grpc._server`; with a grpcio that lacks them gRPC's own
loop runs, which is never late as far as it knows, and the pools refuse what is too much when it is handed to them.
"""

from __future__ import annotations

import inspect
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from grpc import _common
from grpc import _server as grpc_server
from grpc._cython import cygrpc  # type: ignore[attr-defined]

LOOK_EVERY_S = 0.001
"""How often it looks whether there is nothing more to hear, before it waits for more."""
CHECK_EVERY_S = 1.0
"""How long it waits at most; then it looks whether the server object is still there, as gRPC's own loop does."""
NEEDED = (
    "_ServerStage",
    "_begin_shutdown_once",
    "_process_event_and_continue",
    "_request_call",
    "_request_registered_call",
)
STATE_NEEDED = ("completion_queue", "due", "lock", "registered_method_handlers", "rpc_states", "server", "stage")
NO_FLAGS = 0
TIMED_OUT = cygrpc.CompletionType.queue_timeout

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


Admit = Callable[[str, Metadata], Refusal | None]
"""Given a call's path and its metadata, refuses it, or lets it in with None. Runs in the polling thread."""


def knows(server: grpc.Server) -> bool:
    """Whether the installed grpcio works as this module knows it."""
    state = getattr(server, "_state", None)
    if state is None or any(not hasattr(grpc_server, name) for name in NEEDED):
        return False
    if any(not hasattr(state, name) for name in STATE_NEEDED):
        return False
    return list(inspect.signature(grpc_server._process_event_and_continue).parameters) == ["state", "event"]


class Polling:
    """Hears of the events of one server."""

    def __init__(self) -> None:
        self._looked_s = math.inf
        self._admit: Admit = lambda path, metadata: None

    def lag_s(self) -> float:
        """How long ago there was nothing more to hear: no call waits longer for this thread. In seconds."""
        return max(0.0, time.monotonic() - self._looked_s)

    def start(self, server: grpc.Server, *, admit: Admit) -> bool:
        """Start a server, in place of its own `start`.

        Args:
            admit: see `Admit`.

        Returns: whether `admit` is asked; with an unknown grpcio nobody asks.
        """
        if not knows(server):
            log.warning("this grpcio is not known: overload is noticed later, and refusals cost more")
            server.start()
            return False
        self._admit = admit
        state = server._state  # type: ignore[attr-defined]
        with state.lock:
            state.server.start()
            state.stage = grpc_server._ServerStage.STARTED
            for method in state.registered_method_handlers:
                grpc_server._request_registered_call(state, method)
            grpc_server._request_call(state)
        threading.Thread(target=self._serve, args=(state,), name="grpc-polling", daemon=True).start()
        return True

    def _serve(self, state: Any) -> None:
        """The loop that gRPC has, which also looks now and then whether there is nothing more to hear."""
        goes_on = True
        self._looked_s = time.monotonic()
        while goes_on:
            event = self._next(state)
            if state.server_deallocated:
                grpc_server._begin_shutdown_once(state)
            if event.completion_type != TIMED_OUT:
                goes_on = self._process(state, event)
            event = None  # it may hold a call that is over, which has to go before the next is waited for

    def _next(self, state: Any) -> Any:
        """The next event, or that there is none."""
        poll = state.completion_queue.poll
        event = poll(0 if self.lag_s() > LOOK_EVERY_S else time.time() + LOOK_EVERY_S)
        if event.completion_type == TIMED_OUT:
            self._looked_s = math.inf  # nobody waits for a thread that waits itself
            event = poll(time.time() + CHECK_EVERY_S)
            self._looked_s = time.monotonic()
        return event

    def _process(self, state: Any, event: Any) -> bool:
        """Refuse a call, or have gRPC do what there is to do; False when that was the last."""
        if isinstance(event, cygrpc.RequestCallEvent) and event.success:
            registered = event.tag if event.tag in state.registered_method_handlers else ""
            path = registered or event.call_details.method.decode(errors="replace")
            refusal = self._admit(path, event.invocation_metadata)
            if refusal is not None:
                _refuse(state, event, refusal, registered=registered)
                return True
        goes_on: bool = grpc_server._process_event_and_continue(state, event)
        return goes_on


def _refuse(state: Any, event: Any, refusal: Refusal, *, registered: str) -> None:
    """End a call before anything is made of it, and ask for the next one while the server goes on."""
    call = object()
    code = _common.STATUS_CODE_TO_CYGRPC_STATUS_CODE[refusal.code]
    operations = (
        cygrpc.SendInitialMetadataOperation(None, NO_FLAGS),
        cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS),
        cygrpc.SendStatusFromServerOperation(refusal.trailing_metadata, code, refusal.text, NO_FLAGS),
    )
    with state.lock:
        state.due.remove(event.tag)
        event.call.start_server_batch(operations, lambda _event: (call, ()))
        state.rpc_states.add(call)  # the server is not at its end before that is done
        if state.stage is not grpc_server._ServerStage.STARTED:
            return  # whoever ends it waits for the call
        if registered:
            grpc_server._request_registered_call(state, registered)
        else:
            grpc_server._request_call(state)
