"""One RPC on its way through the server: what the interceptors learn about it, for each other and the servicers."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from dataclasses import dataclass, field

import grpc
from google.protobuf.message import Message

from storekeep.server.domain.calls import Caller

NOBODY = Caller(subject="")


@dataclass(slots=True)
class Rpc:
    """One RPC while it runs.

    Attributes:
        method: full name, such as `storekeep.v1.OrderService/PlaceOrder`.
        request_id: the server's id of this call (not the idempotency key): in the log and in every error.
        trace_id: from the caller's W3C `traceparent`; empty without one.
        deadline_s: seconds that the caller still waited when the call came in; None when it waits for ever.
        deadline: the same, as a `time.monotonic()`.
        caller: who calls; nobody until that is verified.
        code: the gRPC status that the call ends with.
        reason: the error reason that it ends with; empty when it succeeds.
        level: at which its log line is written.
        authorization: the metadata of that name, which no log may show.
        passed_on: whether another worker has answered it, which logs and counts it.
    """

    method: str
    request_id: str
    trace_id: str = ""
    authorization: str | None = None
    deadline_s: float | None = None
    deadline: float | None = None
    caller: Caller = field(default=NOBODY)
    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str = ""
    level: int = logging.INFO
    passed_on: bool = False


CURRENT: ContextVar[Rpc] = ContextVar("rpc")
"""The RPC that this thread is serving."""


def call_deadline() -> float | None:
    """The deadline of the RPC that this thread is serving, as a `time.monotonic()`; None where there is none."""
    rpc = CURRENT.get(None)
    return None if rpc is None else rpc.deadline


@dataclass(frozen=True, slots=True)
class Method:
    """What the contract says about one RPC.

    Attributes:
        name: full name, such as `storekeep.v1.OrderService/PlaceOrder`.
        permission: what the caller must hold; empty where the contract names none, which nobody holds.
        request_type: the class of its request.
    """

    name: str
    permission: str
    request_type: type[Message]
