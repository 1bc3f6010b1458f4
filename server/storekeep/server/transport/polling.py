"""The thread that polls gRPC's events. It measures its lag, and rejects calls before any work is done for them.

Unary calls are served by `unary`, streams by `streams`. Calls with incomplete requests occupy no thread, and have a
budget and a time limit. Rejections are delayed briefly, because a batch of them costs less. Depends on private names in
`grpc._server`. With other releases of grpcio, or if the setting switches it off, gRPC's own loop serves all calls, more
slowly, and nothing is rejected before its request is read.
"""

from __future__ import annotations

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

from storekeep.server.transport.budgets import Budget, get_peer_address
from storekeep.server.transport.call_statuses import UNEXPLAINED, UNREAD_REPLY, CallStatus, Metadata, get_status_number
from storekeep.server.transport.fair_shares import FairShares
from storekeep.server.transport.grpcio_support import is_supported
from storekeep.server.transport.metadata_limits import MetadataLimit
from storekeep.server.transport.streams import FLUSH_S, StreamCall, StreamRoute, StreamTag
from storekeep.server.transport.unary import NO_TEXT, RejectedCall, Route, UnaryCall

LAG_CHECK_INTERVAL_S = 0.001
"""Interval at which the thread checks whether its event queue is empty."""
REJECTING_CHECK_INTERVAL_S = 0.00025
"""The same while calls are rejected: admission then depends on an exact lag."""
PRIORITY_S = 0.02
"""How much longer calls with priority may wait under overload: those of callers below their fair share, who did not
cause it. Threads that contend for the interpreter with a flood wait in steps of 5 ms."""
REQUESTED_CALLS = 8
"""Calls of each method that gRPC may report before it must be asked for more. It queues the others, at a cost."""
REJECTION_DELAY_MAX_S = 0.003
"""Longest delay of a rejection, unless the thread itself lags."""
IDLE_WAIT_MAX_S = 1.0
"""Longest wait for an event. Then the thread checks that the server object still exists, as gRPC's own loop does."""
SWEEP_INTERVAL_S = 0.25
"""Interval at which expired calls and streams are ended. The cost grows with their number."""
UNREAD_BYTES_MIN = 256 * 1024
"""Smallest size that an unread reply counts with, because the call itself uses memory too. It limits unread replies to
1,024 in 256 MiB."""
EVICTION_DIVISOR = 8
"""An eviction ends at least this fraction (1/8) of the incomplete calls, which keeps the cost per new call low."""
UNREAD_MAX_S = 60.0
"""Longest time that a reply may stay unread. 3 MiB, the largest page, take that long at 50 KB per second."""
UNREAD_DRAIN_S = 5.0
"""The same while the server drains, so that clients that do not read cannot delay its end."""
BUSY_INTERVAL_S = 0.01
"""Interval at which the busy peers are listed while the server drains."""
UNREAD_SCAN_INTERVAL_S = 0.01
"""Shortest interval of scans for unread replies, which start when the limit of concurrent calls is reached."""
STREAM_END = CallStatus(get_status_number(grpc.StatusCode.OK), NO_TEXT, ())
"""Status of streams that end when the server drains, as in `grpc_health`."""
STARTED = grpc_server._ServerStage.STARTED if hasattr(grpc_server, "_ServerStage") else None
UNKNOWN_TAG = getattr(grpc_server, "_REQUEST_CALL_TAG", "")
TIMED_OUT = cygrpc.CompletionType.queue_timeout

Routes = Callable[[Mapping[str, Any]], Mapping[str, Route]]
"""Takes gRPC's handlers by path. Returns the routes of the methods that are served here; gRPC serves all others."""
StreamRoutes = Callable[[Mapping[str, Any]], Mapping[str, StreamRoute]]
"""The same for streams."""

Received = UnaryCall | StreamCall
Ending = Received | RejectedCall

log = logging.getLogger("storekeep.server")


class ReceiveLimits(NamedTuple):
    """Limits for calls before authentication, and for clients that do not read.

    Attributes:
        request_timeout_s: longest time for a request to arrive, in seconds.
        unfinished_max: the most calls with incomplete requests.
        unread_max_bytes: largest total size of unread replies, including those of authenticated clients. Above it, the
            oldest ones of the address with the most are ended.
        metadata_max_bytes: largest metadata of a call. gRPC's core enforces its own limit only on connections that
            have acknowledged its SETTINGS.
    """

    request_timeout_s: float = 10.0
    unfinished_max: int = 128
    unread_max_bytes: int = 256 * 1024 * 1024
    metadata_max_bytes: int = 16 * 1024


class Rejections(Protocol):
    """Makes and counts the statuses of calls that end before they are served. Paths are as in HTTP/2's `:path`."""

    def late(self, path: str) -> CallStatus:
        """Return the status of a call whose request did not arrive in time."""

    def crowded_out(self, path: str) -> CallStatus:
        """Return the status of a call that is evicted, because its address has the most and the budget is used up."""

    def metadata_too_large(self, path: str) -> CallStatus:
        """Return the status of a call whose metadata has too many bytes."""

    def stopping(self, path: str) -> CallStatus:
        """Return the status of a call that arrives while the server drains, or whose request has not arrived then."""

    def unknown(self, metadata: Metadata) -> CallStatus:
        """Return the status of a call of an unknown method."""


def get_peer(event: Any) -> str:
    """Return the peer of a new call, such as `ipv4:127.0.0.1:40404`."""
    peer: bytes = event.call.peer()
    return peer.decode(errors="replace")


class Polling:
    """Polls the events of one server in its own thread.

    Args:
        limits: for calls before authentication, and for clients that do not read.
        fast_path: whether to use the fast path when it was tested with the installed grpcio.
    """

    def __init__(self, limits: ReceiveLimits = ReceiveLimits(), *, fast_path: bool = True) -> None:  # noqa: B008 - it is frozen
        self._fast_path = fast_path
        self._request_timeout_s = limits.request_timeout_s
        self._metadata_limit = MetadataLimit(limits.metadata_max_bytes)
        self._empty_at_s = math.inf
        self._lag_check_interval_s = LAG_CHECK_INTERVAL_S
        self._shares = FairShares()
        self._has_priority = False
        self._swept_at_s = 0.0
        self._delayed: deque[tuple[float, Any, Route]] = deque()
        self._routes: Mapping[str, Route] = {}
        self._streams: Mapping[str, StreamRoute] = {}
        self._stream_budgets: dict[str, Budget[StreamCall]] = {}
        self._acceptors: dict[str, Callable[[Any], None]] = {}
        self._exempt_paths: frozenset[str] = frozenset()
        self._rejections: Rejections | None = None
        self._close_connection: Callable[[str], None] = lambda peer: None
        self._requested: dict[str, int] = {}
        self._unfinished: Budget[Received] = Budget(
            limits.unfinished_max,
            get_peer=lambda call: call.peer(),
            evicted_min=max(1, limits.unfinished_max // EVICTION_DIVISOR),
        )
        self._under_way: dict[UnaryCall, None] = {}
        self._unread: Budget[UnaryCall] = Budget(
            limits.unread_max_bytes,
            get_peer=lambda call: call.peer(),
            get_size=lambda call: max(call.reply_bytes, UNREAD_BYTES_MIN),
        )
        self._unread_scanned_s = 0.0
        self._is_draining = False
        self._listed_s = 0.0
        self._busy_peers: frozenset[str] | None = None
        self._state: Any = None

    def lag_s(self) -> float:
        """Return the seconds since the event queue was last empty, which bounds how long a call waits in it.

        While a call with priority is considered, return a negative lag, so that it may wait longer than others.
        """
        return -PRIORITY_S if self._has_priority else max(0.0, time.monotonic() - self._empty_at_s)

    def start(
        self,
        server: grpc.Server,
        *,
        routes: Routes,
        streams: StreamRoutes = lambda _handlers: {},
        exempt_paths: frozenset[str] = frozenset(),
        rejections: Rejections | None = None,
        close_connection: Callable[[str], None] = lambda peer: None,
    ) -> None:
        """Start a server; replaces its own `start`.

        Args:
            routes: see `Routes`. An unsupported grpcio serves all calls itself.
            streams: returns the routes of streaming methods, like `routes`.
            exempt_paths: paths of methods exempt from admission control and from the limit of concurrent calls.
            rejections: makes the statuses of calls that end before they are served. Without it, gRPC answers calls of
                unknown methods.
            close_connection: ends the connection of a peer that sends far too much metadata; must not block.
        """
        self._close_connection = close_connection
        if not self._fast_path:
            log.info("the fast path is off: gRPC serves all calls itself")
            server.start()
            return
        if not is_supported(server):
            log.warning(
                "the fast path was not tested with this grpcio: calls cost more, overload is detected late, and "
                "callers without a token have no budgets"
            )
            server.start()
            return
        self._state = state = server._state  # type: ignore[attr-defined]
        self._routes = routes(state.registered_method_handlers)
        self._streams = streams(state.registered_method_handlers)
        for path, route in self._streams.items():
            self._stream_budgets[path] = Budget(route.streams_max, get_peer=StreamCall.peer, groups_addresses=True)
        self._exempt_paths, self._rejections = exempt_paths, rejections
        self._acceptors = dict.fromkeys(self._routes, self._begin_call) | dict.fromkeys(
            self._streams, self._begin_stream
        )
        if rejections is not None:  # otherwise gRPC answers calls of unknown methods
            self._acceptors[UNKNOWN_TAG] = self._reject_unknown
        with state.lock:
            state.server.start()
            state.stage = STARTED
            for path in state.registered_method_handlers:
                self._request_calls(path, REQUESTED_CALLS if path in self._routes or path in self._streams else 1)
            self._request_calls(UNKNOWN_TAG, 1 if rejections is None else REQUESTED_CALLS)
        threading.Thread(target=self._serve, name="grpc-polling", daemon=True).start()

    def drain(self) -> None:
        """Reject new calls. End streams and calls with incomplete requests, which would delay the end of the server."""
        self._is_draining = True

    @property
    def is_fast(self) -> bool:
        """Whether the fast path serves the calls."""
        return self._state is not None

    @property
    def busy_peers(self) -> frozenset[str] | None:
        """The clients of calls that have been accepted and not answered; None before `drain` has taken effect.

        While the thread waits, it sees `drain` before it accepts another call, so that no calls remain no calls.
        """
        if self._is_draining and self._empty_at_s == math.inf and not self._has_calls():
            return frozenset()
        return self._busy_peers

    def _request_calls(self, path: str, count: int) -> None:
        """Request calls of a method from gRPC, or calls of all unknown methods."""
        self._requested[path] = count
        for _ in range(count):
            self._request_call(path)

    def _request_call(self, path: str) -> None:
        if path is UNKNOWN_TAG:
            grpc_server._request_call(self._state)
        else:
            grpc_server._request_registered_call(self._state, path)

    def _serve(self) -> None:
        """Run gRPC's event loop, and also measure the lag."""
        state, goes_on = self._state, True
        poll = state.completion_queue.poll
        self._empty_at_s = time.monotonic()
        while goes_on:
            event = self._poll_event(poll)
            if state.server_deallocated:
                grpc_server._begin_shutdown_once(state)
            if event is not None:
                goes_on = self._process(event)
            event = None  # it may hold a finished call, which must be released before the next wait

    def _poll_event(self, poll: Callable[[float], Any]) -> Any:
        """Wait for the next event and return it; None if the wait times out."""
        now_s = time.monotonic()
        if self._delayed and self._delayed[0][0] <= now_s:
            self._reject_delayed(until_s=now_s + REJECTION_DELAY_MAX_S / 2)
        if now_s - self._swept_at_s > SWEEP_INTERVAL_S:
            self._sweep(now_s)
        if self._is_draining and now_s - self._listed_s > BUSY_INTERVAL_S:
            self._list_busy(now_s)
        event = poll(0 if now_s - self._empty_at_s > self._lag_check_interval_s else time.time() + LAG_CHECK_INTERVAL_S)
        if event.completion_type != TIMED_OUT:
            return event
        self._empty_at_s = math.inf  # no lag while this thread waits
        event = poll(time.time() + self._wait_max_s())
        self._empty_at_s = time.monotonic()
        self._lag_check_interval_s = LAG_CHECK_INTERVAL_S
        return None if event.completion_type == TIMED_OUT else event

    def _wait_max_s(self) -> float:
        """Return the longest wait for an event: until the next delayed rejection, or until a sweep that is needed."""
        if self._delayed:
            return REJECTION_DELAY_MAX_S
        if self._is_draining:
            return BUSY_INTERVAL_S
        return SWEEP_INTERVAL_S if self._has_calls() else IDLE_WAIT_MAX_S

    def _has_calls(self) -> bool:
        return any((self._unfinished, self._unread, self._under_way, *self._stream_budgets.values()))

    def _process(self, event: Any) -> bool:
        """Process an event of a new or running call, or pass it to gRPC. Return False after the last event."""
        tag = event.tag
        if type(tag) is UnaryCall:
            return self._continue_call(tag, event)
        if type(tag) is RejectedCall:
            tag.end()
            return self._end(tag)
        if type(tag) is StreamTag:
            return self._continue_stream(tag, event)
        if isinstance(event, cygrpc.RequestCallEvent):
            take = self._acceptors.get(tag)
            if take is not None:
                return self._accept(event, take)
        goes_on: bool = grpc_server._process_event_and_continue(self._state, event)
        return goes_on

    def _accept(self, event: Any, take: Callable[[Any], None]) -> bool:
        """Accept a call, and request the next one. Return False after the last event of a stopping server."""
        state, path = self._state, event.tag
        with state.lock:
            if event.success:
                self._has_priority = self._shares.is_active() and self._shares.count(get_peer(event))
                take(event)
                self._has_priority = False
            if state.stage is STARTED:
                self._request_call(path)
                return True
            self._reject_delayed(until_s=math.inf)
            self._requested[path] -= 1
            if not self._requested[path]:
                state.due.remove(path)
            return not grpc_server._stop_serving(state)

    # -- calls of unary methods

    def _begin_call(self, event: Any) -> None:
        """Start to receive the request of a call, or schedule its rejection."""
        path, route = event.tag, self._routes[event.tag]
        if self._metadata_limit.is_exceeded(event.invocation_metadata):
            self._reject_too_large(event, path)
        elif self._is_draining and path not in self._exempt_paths:
            self._reject(event, self._make_status(path, "stopping"))
        elif path in self._exempt_paths or (route.admits() and not self._has_too_many()):
            call = UnaryCall(event, route)
            call.has_priority = self._has_priority
            self._await_request(call)
            call.receive()
        else:
            self._shares.activate()
            self._lag_check_interval_s = REJECTING_CHECK_INTERVAL_S
            self._delayed.append((time.monotonic() + REJECTION_DELAY_MAX_S, event, route))

    def _has_too_many(self) -> bool:
        state = self._state
        calls_max = state.maximum_concurrent_rpcs
        if calls_max is None or len(self._under_way) + state.active_rpc_count < calls_max:
            return False
        self._move_unread(time.monotonic())
        has_too_many: bool = len(self._under_way) + state.active_rpc_count >= calls_max
        return has_too_many

    def _move_unread(self, now_s: float) -> None:
        """Move answered calls that only wait for their clients to read from the calls in progress to their budget."""
        if now_s - self._unread_scanned_s < UNREAD_SCAN_INTERVAL_S:
            return
        self._unread_scanned_s = now_s
        for call in [call for call in self._under_way if call.is_ending]:
            del self._under_way[call]
            self._unread.add(call, now_s=now_s)
        for call in self._unread.pop_overflow(now_s=now_s):
            call.drop(UNREAD_REPLY)

    def _reject_too_large(self, event: Any, path: str) -> None:
        """Reject a call with too much metadata, and end its connection if that was no mistake."""
        self._reject(event, self._make_status(path, "metadata_too_large"))
        peer = get_peer(event)
        if self._metadata_limit.ends_connection(peer, event.invocation_metadata):
            self._close_connection(peer)

    def _await_request(self, call: Received) -> None:
        """Add a call to those with incomplete requests, and evict others if there are too many."""
        now_s = time.monotonic()
        self._state.rpc_states.add(call)
        self._unfinished.add(call, now_s=now_s)
        if self._unfinished.is_exceeded:
            self._evict(now_s)

    def _evict(self, now_s: float) -> bool:
        """End incomplete calls of the address that has the most. Return False if none can be evicted."""
        evicted = self._unfinished.pop_overflow(now_s=now_s)
        for call in evicted:
            call.drop(self._make_status(call.path, "crowded_out"))
        return bool(evicted)

    def _continue_call(self, call: UnaryCall, event: Any) -> bool:
        """Process an event of a unary call. Return False after the last event of a stopping server."""
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

    def _reject_delayed(self, *, until_s: float) -> None:
        """Reject the delayed calls that are due until a time."""
        with self._state.lock:
            while self._delayed and self._delayed[0][0] <= until_s:
                _, event, route = self._delayed.popleft()
                self._reject(event, route.reject(event.invocation_metadata))

    def _reject(self, event: Any, status: CallStatus) -> None:
        """Reject a call on arrival."""
        self._state.rpc_states.add(RejectedCall(event, status))

    def _reject_unknown(self, event: Any) -> None:
        """Reject a call of an unknown method."""
        if self._rejections is None or self._metadata_limit.is_exceeded(event.invocation_metadata):
            self._reject_too_large(event, "")
        else:
            self._reject(event, self._rejections.unknown(event.invocation_metadata))

    def _make_status(self, path: str, cause: str) -> CallStatus:
        """Return the status of a call that ends for a cause, the name of a method of `Rejections`."""
        if self._rejections is None:
            return UNEXPLAINED
        status: CallStatus = getattr(self._rejections, cause)(path)
        return status

    # -- streams

    def _begin_stream(self, event: Any) -> None:
        """Start a stream, unless its address has too many. If there are too many in all, evict others."""
        path, route = event.tag, self._streams[event.tag]
        budget = self._stream_budgets[path]
        call = StreamCall(event, route)
        if self._metadata_limit.is_exceeded(event.invocation_metadata):
            self._reject_too_large(event, path)
        elif self._is_draining:
            self._reject(event, self._make_status(path, "stopping"))
        elif self._is_full(route, budget, call):
            self._reject(event, self._make_status(path, "crowded_out"))
        else:
            budget.add(call, now_s=time.monotonic())
            self._await_request(call)
            call.begin()
            for evicted in budget.pop_overflow(now_s=math.inf):
                evicted.drop(self._make_status(path, "crowded_out"))

    def _is_full(self, route: StreamRoute, budget: Budget[StreamCall], call: StreamCall) -> bool:
        """Return whether a new stream is one too many for its address or its method."""
        if route.per_address_max and budget.count_members(get_peer_address(call.peer())) >= route.per_address_max:
            return True
        return route.rejects_newest and len(budget) >= route.streams_max

    def _continue_stream(self, tag: StreamTag, event: Any) -> bool:
        """Process an event of a stream. Return False after the last event of a stopping server."""
        call = tag.call
        if call.is_message(tag):
            self._unfinished.remove(call)
        self._stream_budgets[call.path].touch(call)
        tag.on_event(event)
        if not call.finish_batch():
            return True
        self._unfinished.remove(call)
        self._stream_budgets[call.path].remove(call)
        return self._end(call)

    # -- ends

    def _sweep(self, now_s: float) -> None:
        """End overdue calls and idle streams; while draining, also all streams and incomplete calls."""
        self._swept_at_s = now_s
        self._metadata_limit.forget()
        for call in self._unfinished.pop_expired(before_s=now_s - self._request_timeout_s):
            call.drop(self._make_status(call.path, "late"))
        if self._is_draining:
            for call in self._unfinished.pop_expired(before_s=now_s - FLUSH_S):
                call.drop(self._make_status(call.path, "stopping"))
        while self._unfinished.is_exceeded and self._evict(now_s):
            pass
        self._move_unread(now_s)
        for call in self._unread.pop_expired(before_s=now_s - (UNREAD_DRAIN_S if self._is_draining else UNREAD_MAX_S)):
            call.drop(UNREAD_REPLY)
        for path, budget in self._stream_budgets.items():
            idle_max_s = self._streams[path].idle_max_s
            if idle_max_s:
                for stream in budget.pop_expired(before_s=now_s - idle_max_s):
                    stream.drop(self._make_status(path, "late"))
            if self._is_draining:
                self._end_streams(budget, now_s)

    def _list_busy(self, now_s: float) -> None:
        """List the clients of calls and streams in progress."""
        self._listed_s = now_s
        calls: list[Received] = [*self._under_way, *self._unfinished, *self._unread]
        for budget in self._stream_budgets.values():
            calls += budget
        self._busy_peers = frozenset(call.peer() for call in calls)

    def _end_streams(self, budget: Budget[StreamCall], now_s: float) -> None:
        for stream in budget:
            if stream.is_stuck(now_s=now_s):
                stream.drop(stream.end_status or STREAM_END)
            stream.end(STREAM_END)

    def _end(self, call: Ending) -> bool:
        """Forget a finished call. Return False after the last event of a stopping server."""
        state = self._state
        with state.lock:
            state.rpc_states.remove(call)
            return state.stage is STARTED or not grpc_server._stop_serving(state)
