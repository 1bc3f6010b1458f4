"""Traces: which calls are traced, and what their spans say. How spans are exported is not known here.

A span holds the method, the outcome and ids; never anything of a request, a caller or a credential. An untraced call
costs a comparison of its trace id.
"""

from __future__ import annotations

import random
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import NamedTuple

from storekeep.server.runtime.histograms import SIZE_BOUNDS, WAIT_BOUNDS_S
from storekeep.server.telemetry.counts import BOUNDS_US

TRACE_BITS = 128
SPAN_BITS = 64
RATIO_MASK = 2**64 - 1
"""The bits of a trace id that a ratio decides about, as `TraceIdRatioBased` of OpenTelemetry does."""
RATIO_BOUND = float(2**64)
SAMPLED = 1
"""The flag of a sampled parent (W3C Trace Context)."""
TRACESTATE_LENGTH_MAX = 512
"""Longer values of `tracestate` are dropped, which W3C Trace Context allows beyond this length."""
SERVER_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
"""Status codes that are errors of the server, by OpenTelemetry's conventions for gRPC; others are those of a caller."""
US = 1_000_000
NS = 1_000_000_000
CALLS = "storekeep_call_duration_seconds"
COMMITS = "storekeep_commit_duration_seconds"
COMMIT_SIZES = "storekeep_commit_size_writes"
BOUNDS = {CALLS: tuple(bound / US for bound in BOUNDS_US), COMMITS: WAIT_BOUNDS_S, COMMIT_SIZES: SIZE_BOUNDS}
"""The bounds of the histograms that have exemplars."""

Value = str | int | bool


class SpanId(NamedTuple):
    """A span, as others refer to it."""

    trace: int
    span: int


class Span(NamedTuple):
    """A span that has ended.

    Attributes:
        name: Name of the operation.
        is_call: Whether it is a call of a client; otherwise a call of the database.
        id: Its ids.
        parent: Id of the span that caused it; 0 if it is the first of its trace.
        state: The `tracestate` of the caller.
        started_ns, ended_ns: Times since 1970.
        attributes: By the names of OpenTelemetry's conventions where these have one.
        links: Other spans that it belongs to.
        is_error: Whether the server failed.
    """

    name: str
    is_call: bool
    id: SpanId
    parent: int
    state: str
    started_ns: int
    ended_ns: int
    attributes: dict[str, Value]
    links: tuple[SpanId, ...]
    is_error: bool


class CallSpan:
    """The span of a call in progress.

    Attributes:
        id, parent, state: See `Span`.
        started_ns: Time of its arrival, since 1970.
        links: The commits that it waited for.
    """

    __slots__ = ("id", "links", "parent", "started_ns", "state")

    def __init__(self, span_id: SpanId, *, parent: int, state: str) -> None:
        self.id = span_id
        self.parent = parent
        self.state = state
        self.started_ns = time.time_ns()
        self.links: tuple[SpanId, ...] = ()

    @property
    def trace_id(self) -> str:
        """The trace id, as `traceparent` and the log write it."""
        return f"{self.id.trace:032x}"

    @property
    def traceparent(self) -> str:
        """The `traceparent` of calls that this one causes."""
        return f"00-{self.id.trace:032x}-{self.id.span:016x}-01"


class Sampler(NamedTuple):
    """Decides which calls are traced.

    Attributes:
        ratio: Share of the traces, from 0 to 1.
        asks_parent: Whether a caller that sends a `traceparent` decides instead.
    """

    ratio: float = 1.0
    asks_parent: bool = True

    def samples(self, trace_id: int, parent_flags: int | None) -> bool:
        """Return whether to trace a call, given the flags of its parent; None without a parent."""
        if self.asks_parent and parent_flags is not None:
            return bool(parent_flags & SAMPLED)
        return (trace_id & RATIO_MASK) < self.ratio * RATIO_BOUND


class Exemplar(NamedTuple):
    """One value of a histogram, and the span that it was measured in."""

    value: float
    time_ns: int
    span: SpanId


Exemplars = dict[tuple[str, str, int], Exemplar]
"""The last exemplar by histogram, label and number of the bucket."""


class Tracer:
    """Begins and ends the spans of calls and commits.

    Args:
        sampler: Decides which calls are traced.
        put: Takes an ended span; must not block or raise.
        database: Name of the database system, such as `sqlite`.
    """

    def __init__(self, sampler: Sampler, put: Callable[[Span], None], *, database: str) -> None:
        self._sampler = sampler
        self._put = put
        self._database = database
        self._exemplars: Exemplars = {}

    def start(self, traceparent: str, tracestate: str, *, is_forwarded: bool) -> CallSpan | None:
        """Begin the span of a call; None if it is not traced.

        Args:
            traceparent: That of the caller, valid; empty without one.
            tracestate: That of the caller.
            is_forwarded: Whether another worker received it. That worker has decided whether it starts a trace.
        """
        if traceparent:
            _, trace, span, flags = traceparent.split("-", 4)[:4]
            trace_id, parent = int(trace, 16), int(span, 16)
            if not self._sampler.samples(trace_id, int(flags, 16)):
                return None
            state = tracestate if len(tracestate) <= TRACESTATE_LENGTH_MAX else ""
            return CallSpan(SpanId(trace_id, _make_id(SPAN_BITS)), parent=parent, state=state)
        trace_id = _make_id(TRACE_BITS)
        if is_forwarded or not self._sampler.samples(trace_id, None):
            return None
        return CallSpan(SpanId(trace_id, _make_id(SPAN_BITS)), parent=0, state="")

    def end(
        self, call: CallSpan, *, method: str, code: str, reason: str, duration_us: int, attributes: dict[str, Value]
    ) -> None:
        """End the span of a call.

        Args:
            method: Full name of the method.
            code: Name of the gRPC status code.
            reason: Error reason; empty for success.
            duration_us: Duration of the call.
            attributes: Further attributes.
        """
        attributes |= {"rpc.system.name": "grpc", "rpc.method": method, "rpc.response.status_code": code}
        if code != "OK":
            attributes["error.type"] = reason or code
        ended_ns = call.started_ns + duration_us * 1_000
        is_error = code in SERVER_FAULTS
        times = (call.started_ns, ended_ns)
        self._put(Span(method, True, call.id, call.parent, call.state, *times, attributes, call.links, is_error))
        if "storekeep.forwarded" not in attributes:
            self._remember(CALLS, method, duration_us / US, ended_ns, call.id)

    def trace_commit(self, calls: Sequence[CallSpan], *, writes: int, duration_s: float, error: str) -> None:
        """Record the commit that some traced calls shared: a span of its own trace, with links in both directions.

        Args:
            calls: The traced calls.
            writes: Number of writes in the commit.
            duration_s: Time from the beginning of the transaction to its durable commit.
            error: Name of the error; empty if it succeeded.
        """
        ended_ns = time.time_ns()
        commit = SpanId(_make_id(TRACE_BITS), _make_id(SPAN_BITS))
        attributes: dict[str, Value] = {"db.system.name": self._database, "db.operation.name": "COMMIT"}
        if writes > 1:  # one operation is no batch
            attributes["db.operation.batch.size"] = writes
        if error:
            attributes["error.type"] = error
        for call in calls:
            call.links += (commit,)
        links = tuple(call.id for call in calls)
        started_ns = ended_ns - round(duration_s * NS)
        self._put(Span("COMMIT", False, commit, 0, "", started_ns, ended_ns, attributes, links, bool(error)))
        if not error:
            self._remember(COMMITS, "", duration_s, ended_ns, commit)
            self._remember(COMMIT_SIZES, "", writes, ended_ns, commit)

    def _remember(self, histogram: str, label: str, value: float, time_ns: int, span: SpanId) -> None:
        bucket = bisect_left(BOUNDS[histogram], value)
        self._exemplars[histogram, label, bucket] = Exemplar(value, time_ns, span)

    def take_exemplars(self) -> Exemplars:
        """Return the exemplars since the last time."""
        taken, self._exemplars = self._exemplars, {}
        return taken


def _make_id(bits: int) -> int:
    """Return a random id, which must not be 0."""
    return random.getrandbits(bits) or 1
