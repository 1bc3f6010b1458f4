"""One RPC on its way through the server: what the interceptors learn about it, for each other and the servicers."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc
import msgspec
from google.protobuf.message import Message

from storekeep.server.domain.calls import Caller
from storekeep.server.store.reads import PLAIN, ReadTerms

NOBODY = Caller(subject="")
DETAILS_KEY = "grpc-status-details-bin"
"""The metadata with the `google.rpc.Status` of a call that failed."""
PUBLIC = "public"
"""The permission of methods that need no token."""


class Rpc(msgspec.Struct):
    """One RPC while it runs.

    Attributes:
        method: full name, such as `storekeep.v1.OrderService/PlaceOrder`.
        request_id: the server's id of this call (not the idempotency key): in the log and in every error.
        peer: the caller's address, such as `ipv4:127.0.0.1:40404`.
        trace_id: from the caller's W3C `traceparent`; empty without one.
        deadline_s: seconds that the caller still waited when the call came in; None when it waits for ever.
        deadline: the same, as a `time.monotonic()`.
        caller: who calls; nobody until that is verified.
        lookup_id: the part of a presented API key that is no secret, such as of one that was refused.
        session_id: of a refresh token that was refused, where it is known.
        code: the gRPC status that the call ends with.
        reason: the error reason that it ends with; empty when it succeeds.
        level: at which its log line is written.
        authorization: the metadata of that name, which no log may show.
        max_staleness_s: how old its answer may be; None where it may not be old at all.
        position: how far the ledger goes with what the caller wrote; None where it does not say.
        committed: how far the ledger goes with what the call wrote; 0 where it wrote nothing.
        answered_by_leader: whether it was forwarded and the leader has answered it, which logs and counts it.
        forwarded: whether another worker has forwarded it, which took it from its caller. Only that worker can say so.
        started_ns: when it came in, as a `time.perf_counter_ns()`.
    """

    method: str
    request_id: str
    peer: str = ""
    trace_id: str = ""
    authorization: str | None = None
    deadline_s: float | None = None
    deadline: float | None = None
    caller: Caller = NOBODY
    lookup_id: str = ""
    session_id: str = ""
    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""
    level: int = logging.INFO
    max_staleness_s: float | None = None
    position: int | None = None
    committed: int = 0
    answered_by_leader: bool = False
    forwarded: bool = False
    started_ns: int = 0


class Checked(NamedTuple):
    """A call that has passed all checks and is served later, in another thread.

    Attributes:
        request: the parsed request.
        rpc: what the checks learned about the call.
    """

    request: Any
    rpc: Rpc


CURRENT: ContextVar[Rpc] = ContextVar("rpc")
"""The RPC that this thread is serving."""


def call_terms() -> ReadTerms:
    """The terms on which the RPC reads that this thread is serving."""
    rpc = CURRENT.get(None)
    if rpc is None or (rpc.deadline is None and rpc.max_staleness_s is None):  # without that a position says nothing
        return PLAIN
    return ReadTerms(rpc.deadline, rpc.max_staleness_s, rpc.position)


def note_committed(position: int) -> None:
    """Note how far the ledger goes with what the RPC wrote that this thread is serving."""
    rpc = CURRENT.get(None)
    if rpc is not None:
        rpc.committed = max(rpc.committed, position)


@dataclass(frozen=True, slots=True)
class Method:
    """What the contract says about one RPC.

    Attributes:
        name: full name, such as `storekeep.v1.OrderService/PlaceOrder`.
        permission: what the caller must hold; empty where the contract names none, which nobody holds.
        request_type: the class of its request.
        rate_limit_class: the class by which its calls are limited; empty where the contract names none.
    """

    name: str
    permission: str
    request_type: type[Message]
    rate_limit_class: str = ""

    @property
    def is_public(self) -> bool:
        """Whether it needs no token."""
        return self.permission == PUBLIC
