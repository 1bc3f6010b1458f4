"""The thread that hears of gRPC's events. It knows how late it is, and refuses calls before anything is made of them.

Refusals are held for a moment: many in a row cost less than each by itself, and who tries again at once comes back less
often.

Calls of the methods that it has routes for are served as `unary` has it; all others, such as streams, as gRPC does. It
leans on names in `grpc._server`; with a grpcio that lacks them gRPC's own loop serves everything, more slowly, and what
is too much is refused once there are as many calls as there may be.
"""

from __future__ import annotations

import inspect
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from grpc import _server as grpc_server
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from storekeep.server.unary import Route, UnaryCall, shed

LOOK_EVERY_S = 0.001
"""How often it looks whether there is nothing more to hear, before it waits for more."""
LOOK_OFTEN_S = 0.00025
"""The same while calls are refused: who is let in depends on how late it is."""
AHEAD = 8
"""How many calls of a method gRPC may announce before it is asked for more; it keeps the others waiting at a cost."""
HOLD_S = 0.003
"""How long a refusal is held at most, where it is not late itself."""
CHECK_EVERY_S = 1.0
"""How long it waits at most; then it looks whether the server object is still there, as gRPC's own loop does."""
NEEDED = (
    "_ServerStage",
    "_begin_shutdown_once",
    "_process_event_and_continue",
    "_request_call",
    "_request_registered_call",
    "_stop_serving",
)
STATE_NEEDED = (
    "active_rpc_count",
    "completion_queue",
    "due",
    "lock",
    "maximum_concurrent_rpcs",
    "registered_method_handlers",
    "rpc_states",
    "server",
    "stage",
)
STARTED = grpc_server._ServerStage.STARTED if hasattr(grpc_server, "_ServerStage") else None
TIMED_OUT = cygrpc.CompletionType.queue_timeout

Routes = Callable[[Mapping[str, Any]], Mapping[str, Route]]
"""Given gRPC's handlers by the paths of their methods, how calls are served of those that are not left to gRPC."""

log = logging.getLogger("storekeep.server")


def knows(server: grpc.Server) -> bool:
    """Whether the installed grpcio works as this module knows it."""
    state = getattr(server, "_state", None)
    if state is None or any(not hasattr(grpc_server, name) for name in NEEDED):
        return False
    if any(not hasattr(state, name) for name in STATE_NEEDED):
        return False
    return list(inspect.signature(grpc_server._process_event_and_continue).parameters) == ["state", "event"]


class Polling:
    """Hears of the events of one server, all of them in one thread."""

    def __init__(self) -> None:
        self._looked_s = math.inf
        self._look_every_s = LOOK_EVERY_S
        self._held: deque[tuple[float, Any, Route]] = deque()
        self._routes: Mapping[str, Route] = {}
        self._asked: dict[str, int] = {}
        self._state: Any = None

    def lag_s(self) -> float:
        """How long ago there was nothing more to hear: no call waits longer for this thread. In seconds."""
        return max(0.0, time.monotonic() - self._looked_s)

    def start(self, server: grpc.Server, *, routes: Routes) -> None:
        """Start a server, in place of its own `start`.

        Args:
            routes: see `Routes`; an unknown grpcio serves all calls itself.
        """
        if not knows(server):
            log.warning("this grpcio is not known: calls cost more, and overload is noticed late")
            server.start()
            return
        self._state = state = server._state  # type: ignore[attr-defined]
        self._routes = routes(state.registered_method_handlers)
        with state.lock:
            state.server.start()
            state.stage = STARTED
            for path in state.registered_method_handlers:
                self._asked[path] = AHEAD if path in self._routes else 1
                for _ in range(self._asked[path]):
                    grpc_server._request_registered_call(state, path)
            grpc_server._request_call(state)
        threading.Thread(target=self._serve, name="grpc-polling", daemon=True).start()

    def _serve(self) -> None:
        """The loop that gRPC has, which also looks now and then whether there is nothing more to hear."""
        state, goes_on = self._state, True
        self._looked_s = time.monotonic()
        while goes_on:
            event = self._next(state.completion_queue.poll)
            if state.server_deallocated:
                grpc_server._begin_shutdown_once(state)
            if event.completion_type != TIMED_OUT:
                goes_on = self._process(event)
            event = None  # it may hold a call that is over, which has to go before the next is waited for

    def _next(self, poll: Callable[[float], Any]) -> Any:
        """The next event, or that there is none."""
        now_s = time.monotonic()
        if self._held and self._held[0][0] <= now_s:
            self._refuse_held(until_s=now_s + HOLD_S / 2)
        event = poll(0 if now_s - self._looked_s > self._look_every_s else time.time() + LOOK_EVERY_S)
        if event.completion_type == TIMED_OUT:
            self._looked_s = math.inf  # nobody waits for a thread that waits itself
            event = poll(time.time() + (HOLD_S if self._held else CHECK_EVERY_S))
            self._looked_s = time.monotonic()
            self._look_every_s = LOOK_EVERY_S
        return event

    def _process(self, event: Any) -> bool:
        """Take or refuse a call, end one, or have gRPC do what there is to do; False when that was the last."""
        tag = event.tag
        if type(tag) is UnaryCall:
            return not tag.on_event(event) or self._end(tag)
        if isinstance(event, cygrpc.RequestCallEvent):
            route = self._routes.get(tag)
            if route is not None:
                return self._begin(event, route)
        goes_on: bool = grpc_server._process_event_and_continue(self._state, event)
        return goes_on

    def _begin(self, event: Any, route: Route) -> bool:
        """Take a call or hold it, and ask for the next one; False when it is none, and the server ends with that."""
        state, path = self._state, event.tag
        most = state.maximum_concurrent_rpcs
        with state.lock:
            if not event.success:
                pass
            elif not route.is_full() and (most is None or state.active_rpc_count < most):
                self._count_up(UnaryCall(event, route)).receive()
            else:
                self._look_every_s = LOOK_OFTEN_S
                self._held.append((time.monotonic() + HOLD_S, event, route))
            if state.stage is STARTED:
                grpc_server._request_registered_call(state, path)
                return True
            self._refuse_held(until_s=math.inf)
            self._asked[path] -= 1
            if not self._asked[path]:
                state.due.remove(path)
            return not grpc_server._stop_serving(state)

    def _refuse_held(self, *, until_s: float) -> None:
        """Refuse the calls that are held no longer than until then."""
        with self._state.lock:
            while self._held and self._held[0][0] <= until_s:
                _, event, route = self._held.popleft()
                self._refuse(event, route)

    def _refuse(self, event: Any, route: Route) -> None:
        """Refuse a call, at the least cost where nothing goes along with the status."""
        refusal = route.refuse(event.invocation_metadata)
        if refusal.trailing_metadata:
            self._count_up(UnaryCall(event, route)).refuse(refusal)
        else:
            shed(event, refusal)

    def _count_up(self, call: UnaryCall) -> UnaryCall:
        """Have the server not be at its end before a call is over."""
        self._state.rpc_states.add(call)
        self._state.active_rpc_count += 1
        return call

    def _end(self, call: UnaryCall) -> bool:
        """A call is over; False when it was the last of a server that ends."""
        state = self._state
        with state.lock:
            state.rpc_states.remove(call)
            state.active_rpc_count -= 1
            return state.stage is STARTED or not grpc_server._stop_serving(state)
