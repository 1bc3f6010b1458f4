"""The thread that hears of gRPC's events. It knows how late it is, and refuses calls before anything is made of them.

Unary calls are served as `unary` has it, streams as `streams` has it; those whose request is incomplete hold no thread
and have a budget and a time limit of their own. Refusals are held for a moment: many in a row cost less than each by
itself. It leans on names in `grpc._server`; with a grpcio that lacks them gRPC's own loop serves everything, more
slowly, and what is too much is refused once there are as many calls as there may be.
"""

from __future__ import annotations

import inspect
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import grpc
from grpc import _server as grpc_server
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from storekeep.server.transport.budgets import Budget, address_of
from storekeep.server.transport.streams import FLUSH_S, StreamCall, StreamRoute, StreamTag
from storekeep.server.transport.unary import NO_TEXT, Metadata, Refusal, RejectedCall, Route, UnaryCall, number_of

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
SWEEP_EVERY_S = 0.25
"""How often it looks for calls and streams whose time is up; it costs as much as there are."""
UNREAD_BYTES_MIN = 256 * 1024
"""As how large a reply counts, at least, that its caller has not read: the call costs memory as well. So there are no
more than 1,024 of them in 256 MiB."""
EVICTED_SHARE = 8
"""One of so many calls whose request is not there is evicted at a time, so that it costs little for each newcomer."""
UNREAD_MAX_S = 60.0
"""How long a reply may wait to be read: 3 MiB, the largest page, take that long at 50 KB a second."""
UNREAD_DRAIN_S = 5.0
"""The same where the server stops: nobody holds up its end for long by reading nothing."""
SET_ASIDE_EVERY_S = 0.01
"""How often it looks which calls only wait to be read, where there seem to be too many calls."""
UNREAD = Refusal(
    number_of(grpc.StatusCode.DEADLINE_EXCEEDED), b"the reply was not read in time; what was asked for may be done", ()
)
"""What ends a call whose reply nobody reads. It has been counted and logged as it was answered."""
FAREWELL = Refusal(number_of(grpc.StatusCode.OK), NO_TEXT, ())
"""How streams end where the server stops: they are told nothing else, as with `grpc_health`."""
NEEDED = (
    "_REQUEST_CALL_TAG",
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
TESTED_SERIES = frozenset({"1.85"})
"""Release series of grpcio that the fast path was tested with. It leans on names inside `grpc._server`, so a series is
added only after all tests have passed with it."""
STARTED = grpc_server._ServerStage.STARTED if hasattr(grpc_server, "_ServerStage") else None
UNKNOWN_TAG = getattr(grpc_server, "_REQUEST_CALL_TAG", "")
TIMED_OUT = cygrpc.CompletionType.queue_timeout

UNEXPLAINED = Refusal(number_of(grpc.StatusCode.RESOURCE_EXHAUSTED), b"the request is not there", ())

Routes = Callable[[Mapping[str, Any]], Mapping[str, Route]]
"""Given gRPC's handlers by the paths of their methods, how calls are served of those that are not left to gRPC."""

Received = UnaryCall | StreamCall
Ending = Received | RejectedCall

log = logging.getLogger("storekeep.server")


class Limits(NamedTuple):
    """What is granted to calls: to those whose callers have shown no token yet, and to those whose callers do not read.

    Attributes:
        request_timeout_s: how long the request of a call may take to arrive.
        unfinished_max: calls whose request has not arrived.
        unread_max_bytes: replies that callers have not read, of all of them; beyond it the address with the most loses
            its oldest. Callers may have shown a token by then.
        metadata_max_bytes: of one call. gRPC's core holds only those connections to its own limit that have
            acknowledged its SETTINGS.
    """

    request_timeout_s: float = 10.0
    unfinished_max: int = 128
    unread_max_bytes: int = 256 * 1024 * 1024
    metadata_max_bytes: int = 16 * 1024


class Refusals(Protocol):
    """Says what calls are told that end before they are served, and counts them. Paths are as in HTTP/2's `:path`."""

    def late(self, path: str) -> Refusal:
        """Its request did not arrive in time."""

    def crowded_out(self, path: str) -> Refusal:
        """Its address holds more than all others, and the budget is used up."""

    def metadata_too_large(self, path: str) -> Refusal:
        """Its metadata have too many bytes."""

    def stopping(self, path: str) -> Refusal:
        """Its request is not there yet, and the server stops."""

    def unknown(self, metadata: Metadata) -> Refusal:
        """There is no such method."""


def knows(server: grpc.Server) -> bool:
    """Whether the installed grpcio works as this module knows it."""
    if ".".join(grpc.__version__.split(".")[:2]) not in TESTED_SERIES:
        return False
    state = getattr(server, "_state", None)
    if state is None or any(not hasattr(grpc_server, name) for name in NEEDED):
        return False
    if any(not hasattr(state, name) for name in STATE_NEEDED):
        return False
    return list(inspect.signature(grpc_server._process_event_and_continue).parameters) == ["state", "event"]


class Polling:
    """Hears of the events of one server, all of them in one thread.

    Args:
        limits: of calls without a token, and of replies that nobody reads.
        fast_path: whether calls take the fast path when the installed grpcio is one that it was tested with.
    """

    def __init__(self, limits: Limits = Limits(), *, fast_path: bool = True) -> None:  # noqa: B008 - it is frozen
        self._fast_path = fast_path
        self._request_timeout_s = limits.request_timeout_s
        self._metadata_max_bytes = limits.metadata_max_bytes
        self._looked_s = math.inf
        self._look_every_s = LOOK_EVERY_S
        self._swept_s = 0.0
        self._held: deque[tuple[float, Any, Route]] = deque()
        self._routes: Mapping[str, Route] = {}
        self._streams: Mapping[str, StreamRoute] = {}
        self._stream_budgets: dict[str, Budget[StreamCall]] = {}
        self._takers: dict[str, Callable[[Any], None]] = {}
        self._always: frozenset[str] = frozenset()
        self._refusals: Refusals | None = None
        self._asked: dict[str, int] = {}
        self._unfinished: Budget[Received] = Budget(
            limits.unfinished_max,
            peer_of=lambda call: call.peer(),
            evicted_min=max(1, limits.unfinished_max // EVICTED_SHARE),
        )
        self._under_way: dict[UnaryCall, None] = {}
        self._unread: Budget[UnaryCall] = Budget(
            limits.unread_max_bytes,
            peer_of=lambda call: call.peer(),
            size_of=lambda call: max(call.reply_bytes, UNREAD_BYTES_MIN),
        )
        self._set_aside_s = 0.0
        self._drains = False
        self._state: Any = None

    def lag_s(self) -> float:
        """How long ago there was nothing more to hear: no call waits longer for this thread. In seconds."""
        return max(0.0, time.monotonic() - self._looked_s)

    def start(
        self,
        server: grpc.Server,
        *,
        routes: Routes,
        streams: Mapping[str, StreamRoute] | None = None,
        always: frozenset[str] = frozenset(),
        refusals: Refusals | None = None,
    ) -> None:
        """Start a server, in place of its own `start`.

        Args:
            routes: see `Routes`; an unknown grpcio serves all calls itself.
            streams: how the streams of a method are served, by its path.
            always: paths of the methods that are served however many calls are under way.
            refusals: what calls are told that end before they are served. Without it gRPC answers unknown methods.
        """
        if not self._fast_path:
            log.info("the fast path is off: gRPC serves all calls itself")
            server.start()
            return
        if not knows(server):
            log.warning(
                "this grpcio was not tested with the fast path: calls cost more, overload is noticed late, and callers "
                "without a token have no budgets"
            )
            server.start()
            return
        self._state = state = server._state  # type: ignore[attr-defined]
        self._routes = routes(state.registered_method_handlers)
        self._streams = streams or {}
        for path, route in self._streams.items():
            self._stream_budgets[path] = Budget(route.streams_max, peer_of=StreamCall.peer, groups_addresses=True)
        self._always, self._refusals = always, refusals
        self._takers = dict.fromkeys(self._routes, self._begin) | dict.fromkeys(self._streams, self._begin_stream)
        if refusals is not None:  # calls of unknown methods are gRPC's otherwise
            self._takers[UNKNOWN_TAG] = self._refuse_unknown
        with state.lock:
            state.server.start()
            state.stage = STARTED
            for path in state.registered_method_handlers:
                self._ask(path, AHEAD if path in self._routes or path in self._streams else 1)
            self._ask(UNKNOWN_TAG, 1 if refusals is None else AHEAD)
        threading.Thread(target=self._serve, name="grpc-polling", daemon=True).start()

    def drain(self) -> None:
        """Have streams end, which have told all they had to, and calls whose request is not there: the server stops.

        Otherwise either would hold it up for as long as calls under way may take.
        """
        self._drains = True

    def _ask(self, path: str, count: int) -> None:
        """Ask gRPC for the next calls of a method, or of all unknown ones."""
        self._asked[path] = count
        for _ in range(count):
            self._ask_again(path)

    def _ask_again(self, path: str) -> None:
        if path is UNKNOWN_TAG:
            grpc_server._request_call(self._state)
        else:
            grpc_server._request_registered_call(self._state, path)

    def _serve(self) -> None:
        """The loop that gRPC has, which also looks now and then whether there is nothing more to hear."""
        state, goes_on = self._state, True
        poll = state.completion_queue.poll
        self._looked_s = time.monotonic()
        while goes_on:
            event = self._next(poll)
            if state.server_deallocated:
                grpc_server._begin_shutdown_once(state)
            if event is not None:
                goes_on = self._process(event)
            event = None  # it may hold a call that is over, which has to go before the next is waited for

    def _next(self, poll: Callable[[float], Any]) -> Any:
        """The next event; None where there was none for as long as it may wait."""
        now_s = time.monotonic()
        if self._held and self._held[0][0] <= now_s:
            self._refuse_held(until_s=now_s + HOLD_S / 2)
        if now_s - self._swept_s > SWEEP_EVERY_S:
            self._sweep(now_s)
        event = poll(0 if now_s - self._looked_s > self._look_every_s else time.time() + LOOK_EVERY_S)
        if event.completion_type != TIMED_OUT:
            return event
        self._looked_s = math.inf  # nobody waits for a thread that waits itself
        event = poll(time.time() + self._wait_max_s())
        self._looked_s = time.monotonic()
        self._look_every_s = LOOK_EVERY_S
        return None if event.completion_type == TIMED_OUT else event

    def _wait_max_s(self) -> float:
        """How long it may wait for an event: until a refusal is due, or it is time to sweep where there is cause."""
        if self._held:
            return HOLD_S
        calls = (self._unfinished, self._unread, self._under_way, *self._stream_budgets.values())
        return SWEEP_EVERY_S if self._drains or any(calls) else CHECK_EVERY_S

    def _process(self, event: Any) -> bool:
        """Take or refuse a call, end one, or have gRPC do what there is to do; False when that was the last."""
        tag = event.tag
        if type(tag) is UnaryCall:
            return self._go_on(tag, event)
        if type(tag) is RejectedCall:
            tag.end()
            return self._end(tag)
        if type(tag) is StreamTag:
            return self._go_on_with_stream(tag, event)
        if isinstance(event, cygrpc.RequestCallEvent):
            take = self._takers.get(tag)
            if take is not None:
                return self._take_up(event, take)
        goes_on: bool = grpc_server._process_event_and_continue(self._state, event)
        return goes_on

    def _take_up(self, event: Any, take: Callable[[Any], None]) -> bool:
        """Take up a call, and ask for the next one; False when it is none, and the server ends with that."""
        state, path = self._state, event.tag
        with state.lock:
            if event.success:
                take(event)
            if state.stage is STARTED:
                self._ask_again(path)
                return True
            self._refuse_held(until_s=math.inf)
            self._asked[path] -= 1
            if not self._asked[path]:
                state.due.remove(path)
            return not grpc_server._stop_serving(state)

    # -- calls of unary methods

    def _begin(self, event: Any) -> None:
        """Ask for the request of a call, or hold it to be refused."""
        path, route = event.tag, self._routes[event.tag]
        if self._is_too_large(event.invocation_metadata):
            self._reject(event, self._told(path, "metadata_too_large"))
        elif path in self._always or not (route.is_full() or self._has_too_many()):
            call = UnaryCall(event, route)
            self._await_request(call)
            call.receive()
        else:
            self._look_every_s = LOOK_OFTEN_S
            self._held.append((time.monotonic() + HOLD_S, event, route))

    def _has_too_many(self) -> bool:
        state = self._state
        most = state.maximum_concurrent_rpcs
        if most is None or len(self._under_way) + state.active_rpc_count < most:
            return False
        self._set_unread_aside(time.monotonic())
        has_too_many: bool = len(self._under_way) + state.active_rpc_count >= most
        return has_too_many

    def _set_unread_aside(self, now_s: float) -> None:
        """Take calls for no longer under way that have been answered and only wait for their callers to read."""
        if now_s - self._set_aside_s < SET_ASIDE_EVERY_S:
            return
        self._set_aside_s = now_s
        for call in [call for call in self._under_way if call.is_ending]:
            del self._under_way[call]
            self._unread.add(call, now_s=now_s)
        for call in self._unread.overflow(now_s=now_s):
            call.drop(UNREAD)

    def _is_too_large(self, metadata: Metadata) -> bool:
        """Whether metadata have too many bytes, as gRPC counts them: those of names and values."""
        size = 0
        for name, value in metadata:
            size += len(name) + len(value)
        return size > self._metadata_max_bytes

    def _await_request(self, call: Received) -> None:
        """Note a call whose request is not there; where there are too many, others have to go."""
        now_s = time.monotonic()
        self._state.rpc_states.add(call)
        self._unfinished.add(call, now_s=now_s)
        if self._unfinished.is_over:
            self._evict(now_s)

    def _evict(self, now_s: float) -> bool:
        """End some of the calls whose request is not there, of the address that has most; False where none has to."""
        evicted = self._unfinished.overflow(now_s=now_s)
        for call in evicted:
            call.drop(self._told(call.path, "crowded_out"))
        return bool(evicted)

    def _go_on(self, call: UnaryCall, event: Any) -> bool:
        """Go on with a call of a unary method; False when it was the last of a server that ends."""
        if not call.is_under_way and self._unfinished.remove(call):
            self._under_way[call] = None
            call.is_under_way = True
        if not call.on_event(event):
            return True
        if call in self._under_way:
            del self._under_way[call]
        else:
            self._unread.remove(call)
        return self._end(call)

    def _refuse_held(self, *, until_s: float) -> None:
        """Refuse the calls that are held no longer than until then."""
        with self._state.lock:
            while self._held and self._held[0][0] <= until_s:
                _, event, route = self._held.popleft()
                self._reject(event, route.refuse(event.invocation_metadata))

    def _reject(self, event: Any, refusal: Refusal) -> None:
        """End a call that was not taken up."""
        self._state.rpc_states.add(RejectedCall(event, refusal))

    def _refuse_unknown(self, event: Any) -> None:
        """Refuse a call of an unknown method."""
        if self._refusals is None or self._is_too_large(event.invocation_metadata):
            self._reject(event, self._told("", "metadata_too_large"))
        else:
            self._reject(event, self._refusals.unknown(event.invocation_metadata))

    def _told(self, path: str, what: str) -> Refusal:
        """What a call is told that ends for this reason."""
        if self._refusals is None:
            return UNEXPLAINED
        refusal: Refusal = getattr(self._refusals, what)(path)
        return refusal

    # -- streams

    def _begin_stream(self, event: Any) -> None:
        """Begin a stream, unless its address has as many as it may; where there are too many, others have to go."""
        path, route = event.tag, self._streams[event.tag]
        budget = self._stream_budgets[path]
        call = StreamCall(event, route)
        if self._is_too_large(event.invocation_metadata):
            self._reject(event, self._told(path, "metadata_too_large"))
        elif route.per_address_max and budget.count_of(address_of(call.peer())) >= route.per_address_max:
            self._reject(event, self._told(path, "crowded_out"))
        else:
            budget.add(call, now_s=time.monotonic())
            self._await_request(call)
            call.begin()
            for evicted in budget.overflow(now_s=math.inf):
                evicted.drop(self._told(path, "crowded_out"))

    def _go_on_with_stream(self, tag: StreamTag, event: Any) -> bool:
        """Go on with a stream; False when it was the last of a server that ends."""
        call = tag.call
        if call.heard(tag):
            self._unfinished.remove(call)
        self._stream_budgets[call.path].touch(call)
        tag.on_event(event)
        if not call.finished():
            return True
        self._unfinished.remove(call)
        self._stream_budgets[call.path].remove(call)
        return self._end(call)

    # -- ends

    def _sweep(self, now_s: float) -> None:
        """End the calls whose request is late, idle streams, and all streams where the server stops."""
        self._swept_s = now_s
        for call in self._unfinished.expired(before_s=now_s - self._request_timeout_s):
            call.drop(self._told(call.path, "late"))
        if self._drains:
            for call in self._unfinished.expired(before_s=now_s - FLUSH_S):
                call.drop(self._told(call.path, "stopping"))
        while self._unfinished.is_over and self._evict(now_s):
            pass
        self._set_unread_aside(now_s)
        for call in self._unread.expired(before_s=now_s - (UNREAD_DRAIN_S if self._drains else UNREAD_MAX_S)):
            call.drop(UNREAD)
        for path, budget in self._stream_budgets.items():
            idle_max_s = self._streams[path].idle_max_s
            if idle_max_s:
                for stream in budget.expired(before_s=now_s - idle_max_s):
                    stream.drop(self._told(path, "late"))
            if self._drains:
                self._end_streams(budget, now_s)

    def _end_streams(self, budget: Budget[StreamCall], now_s: float) -> None:
        for stream in budget:
            if stream.is_stuck(now_s=now_s):
                stream.drop(FAREWELL)
            stream.end(FAREWELL)

    def _end(self, call: Ending) -> bool:
        """A call is over; False when it was the last of a server that ends."""
        state = self._state
        with state.lock:
            state.rpc_states.remove(call)
            return state.stage is STARTED or not grpc_server._stop_serving(state)
