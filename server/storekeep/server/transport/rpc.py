"""The state of one RPC, which the interceptors fill in and share with the servicers."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc
import msgspec
from google.protobuf.message import Message

from storekeep.server.domain.calls import Caller
from storekeep.server.store.reads import UNBOUNDED_READ, ReadBounds
from storekeep.server.telemetry.traces import CallSpan

ANONYMOUS = Caller(subject="")
DETAILS_KEY = "grpc-status-details-bin"
"""The metadata key of a failed call's `google.rpc.Status`."""
REPLAYED_METADATA_KEY = "storekeep-replayed"
"""The trailing metadata key of a stored reply that is returned again; its value is `true`."""
PUBLIC = "public"
"""The permission of methods that need no authentication."""
BULK = "bulk"
"""The rate limit class of methods of which one call does the work of many."""


class Rpc(msgspec.Struct):
    """One RPC in progress.

    Attributes:
        method: full name, such as `storekeep.v1.OrderService/PlaceOrder`.
        request_id: the server's id of this call, for logs and errors; not the idempotency key.
        peer: the client's address, such as `ipv4:127.0.0.1:40404`.
        trace_id: of its span or from the client's W3C `traceparent`; empty without both.
        traceparent: the `traceparent` metadata, if it is valid; empty without one.
        tracestate: the `tracestate` metadata; empty without one.
        span: its span; None if it is not traced.
        accept_language: the `accept-language` metadata; empty without one.
        authorization: the `authorization` metadata, which must never be logged.
        deadline_s: seconds from the arrival of the call to its deadline; None without a deadline.
        deadline: the deadline, as a `time.monotonic()`; None without a deadline.
        caller: the authenticated caller; anonymous until it is authenticated.
        lookup_id: the public part of the presented API key, also of a rejected one.
        session_id: the session of a rejected refresh token, if known.
        code: the gRPC status of the outcome.
        reason: the error reason of the outcome; empty on success.
        level: the log level of its log line.
        max_staleness_s: bounded staleness of its reads, in seconds; None if they must be current.
        consistency_token: the one that the caller presents (read-your-writes); None without one.
        committed: the consistency token of what the call wrote; 0 if it wrote nothing.
        hidden_fields: the fields that the caller may not filter or sort by.
        recorded: the names of the resources of which the audit log has a new entry by this call.
        replayed: whether the reply is the stored reply of an earlier call.
        trailing_metadata: metadata to send with the reply, after it.
        answered_by_leader: whether it was forwarded and the leader answered it. The leader then logs and counts it.
        forwarded: whether another worker received it from the client and forwarded it; set only by other workers.
        started_ns: the time of its arrival, as a `time.perf_counter_ns()`.
    """

    method: str
    request_id: str
    peer: str = ""
    trace_id: str = ""
    traceparent: str = ""
    tracestate: str = ""
    span: CallSpan | None = None
    accept_language: str = ""
    authorization: str | None = None
    deadline_s: float | None = None
    deadline: float | None = None
    caller: Caller = ANONYMOUS
    lookup_id: str = ""
    session_id: str = ""
    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""
    level: int = logging.INFO
    max_staleness_s: float | None = None
    consistency_token: int | None = None
    committed: int = 0
    hidden_fields: frozenset[str] = frozenset()
    recorded: frozenset[str] = frozenset()
    replayed: bool = False
    trailing_metadata: tuple[tuple[str, str | bytes], ...] = ()
    answered_by_leader: bool = False
    forwarded: bool = False
    started_ns: int = 0

    def mark_replayed(self) -> None:
        """Mark the reply as the stored reply of an earlier call."""
        if not self.replayed:
            self.replayed = True
            self.trailing_metadata += ((REPLAYED_METADATA_KEY, "true"),)

    def mark_recorded(self, names: Iterable[str]) -> None:
        """Add to the resources of which the audit log has a new entry by this call."""
        self.recorded = self.recorded.union(names)


class CheckedCall(NamedTuple):
    """A call that passed all checks, to be served later in another thread.

    Attributes:
        request: the parsed request.
        rpc: the state that the checks filled in.
    """

    request: Any
    rpc: Rpc


CURRENT: ContextVar[Rpc] = ContextVar("rpc")
"""The RPC that the current thread serves."""


def get_read_bounds() -> ReadBounds:
    """Return the read terms of the RPC that the current thread serves: deadline, staleness and consistency token."""
    rpc = CURRENT.get(None)
    if rpc is None or (rpc.deadline is None and rpc.max_staleness_s is None):  # the token has no use without staleness
        return UNBOUNDED_READ
    return ReadBounds(rpc.deadline, rpc.max_staleness_s, rpc.consistency_token)


def require_position(sequence: int) -> None:
    """Let only replicas that have a ledger entry answer the RPC that the current thread serves."""
    rpc = CURRENT.get()
    if rpc.consistency_token is not None:
        rpc.consistency_token = max(rpc.consistency_token, sequence)


def record_commit(consistency_token: int) -> None:
    """Record the consistency token of a commit for the RPC that the current thread serves."""
    rpc = CURRENT.get(None)
    if rpc is not None:
        rpc.committed = max(rpc.committed, consistency_token)


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the contract, with its options.

    Attributes:
        name: full name, such as `storekeep.v1.OrderService/PlaceOrder`.
        permission: the permission that the caller needs. Empty if the contract names none; all calls are denied then.
        request_type: the class of its request message.
        rate_limit_class: the name of its rate limit class; empty if the contract names none.
        response_type: the class of its reply message; None for unknown methods.
        is_stream: whether the server sends a stream of replies. The servicer then returns what sends them.
        hashes_passwords: whether it computes the hash of a password, and so runs in threads of its own.
    """

    name: str
    permission: str
    request_type: type[Message]
    rate_limit_class: str = ""
    response_type: type[Message] | None = None
    is_stream: bool = False
    hashes_passwords: bool = False

    @property
    def is_public(self) -> bool:
        """Whether it needs no authentication."""
        return self.permission == PUBLIC

    def parse_reply(self, reply: Any) -> Any:
        """Return a reply as a message, for steps that read or change it: some servicers return its bytes."""
        if isinstance(reply, bytes) and self.response_type is not None:
            return self.response_type.FromString(reply)
        return reply
