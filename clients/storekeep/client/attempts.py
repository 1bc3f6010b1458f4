"""Retries of calls that failed for a transient reason, up to the deadline.

They complement gRPC's transport retries (`channels.py`), which apply only while the server is unreachable. An
unreachable or stopping server is retried until the deadline. An overloaded server is retried a few times, within a
budget that all calls of a client share.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import grpc

from storekeep.client.deadlines import Deadline
from storekeep.client.error_families import ClientClosed, Refused, ServerUnreachable, StorekeepError
from storekeep.client.errors import Overloaded
from storekeep.client.statuses import from_rpc_error

ATTEMPTS_MAX = 5
"""Attempts per call, the first included, while the server is overloaded."""

BUDGET_RETRIES_MAX = 100
"""Overload retries that a client may send before any call succeeds."""
BUDGET_RETRIES_PER_SUCCESS = 0.2
"""Budget earned by each success: under lasting overload, retries add at most a fifth to the calls that succeed."""

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 2.0
"""Pause between attempts, added to the server's retry delay: exponential backoff with full jitter."""
DOUBLINGS_MAX = 10
"""Keeps the power of two small. The pause reaches its maximum long before."""

Metadata = tuple[tuple[str, str], ...]
ReceiveMetadata = Callable[[Iterable[tuple[str, str | bytes]]], None]
"""Receives the trailing metadata of a reply."""

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")


class RetryBudget:
    """The overload retries that a client may still send. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._remaining = float(BUDGET_RETRIES_MAX)

    def earn(self) -> None:
        """Credit the budget for a call that succeeded."""
        if self._remaining < BUDGET_RETRIES_MAX:
            with self._lock:
                self._remaining = min(BUDGET_RETRIES_MAX, self._remaining + BUDGET_RETRIES_PER_SUCCESS)

    def spend(self) -> bool:
        """Take one retry from the budget. Return False if it is exhausted."""
        with self._lock:
            has_retry = self._remaining >= 1
            self._remaining -= has_retry
        return has_retry


def send(
    method: grpc.UnaryUnaryMultiCallable[RequestT, ReplyT],
    request: RequestT,
    *,
    deadline: Deadline,
    metadata: Metadata = (),
    receive_metadata: ReceiveMetadata | None = None,
) -> ReplyT:
    """Send a request once, and pass the trailing metadata of its reply to `receive_metadata`.

    Raises: StorekeepError, as the typed exception of the failure.
    """
    try:
        if receive_metadata is None:
            return method(request, timeout=deadline.remaining_s, metadata=metadata)
        reply, call = method.with_call(request, timeout=deadline.remaining_s, metadata=metadata)
        receive_metadata(call.trailing_metadata() or ())
        return reply
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None
    except ValueError as error:
        raise to_client_closed(error) from None


def call_with_retries(
    attempt: Callable[[], ReplyT], *, deadline: Deadline, budget: RetryBudget, reconnects: bool = False
) -> ReplyT:
    """Call `attempt` until it succeeds, fails permanently, or the deadline leaves no time for a retry.

    Args:
        reconnects: whether to retry an unreachable server until the deadline, as during a restart. Set it only once
            the server has answered: a wrong address should fail fast. A failed attempt that reached a server sets it.

    Raises: StorekeepError of the last attempt.
    """
    number = 0
    while True:
        number += 1
        try:
            reply = attempt()
        except StorekeepError as error:
            reconnects = reconnects or _has_reached_server(error)
            pause_s = compute_retry_pause_s(error, attempt=number)
            if not _is_transient(error, reconnects=reconnects) or pause_s >= deadline.remaining_s:
                raise
            if isinstance(error, Overloaded) and (number >= ATTEMPTS_MAX or not budget.spend()):
                raise
        else:
            budget.earn()
            return reply
        time.sleep(pause_s)


def compute_retry_pause_s(error: StorekeepError, *, attempt: int) -> float:
    """Return the seconds to wait after attempt number `attempt` (from 1) failed with `error`.

    The server's retry delay is the minimum. Jitter on top keeps clients from retrying in step.
    """
    server_delay_s = error.retry_delay_s if isinstance(error, Refused) else None
    ceiling_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(attempt - 1, DOUBLINGS_MAX))
    return (server_delay_s or 0.0) + random.uniform(0, ceiling_s)  # noqa: S311 - spreads load, guards nothing


def _is_transient(error: StorekeepError, *, reconnects: bool) -> bool:
    return error.retryable if isinstance(error, Refused) else reconnects and isinstance(error, ServerUnreachable)


def _has_reached_server(error: StorekeepError) -> bool:
    """Return whether an error proves that there is a server, which may be restarting."""
    return isinstance(error, Refused) or (isinstance(error, ServerUnreachable) and error.was_connected)


def to_client_closed(error: ValueError) -> Exception:
    """Return ClientClosed for the ValueError of a closed channel, which gRPC marks only by its text; else the error.

    The text goes on with "on closed channel!" for a unary call, and with ": Channel closed!" for a stream.
    """
    return ClientClosed("the client is closed") if str(error).startswith("Cannot invoke RPC") else error
