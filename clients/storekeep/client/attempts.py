"""Attempts: one call sent once, and sent again while the server gives a reason that passes by itself.

The transport's own retries (`channels.py`) come below: they act while nobody answers, these act on answers, and go on
where those give up. Nothing is sent after its deadline.

Who is not there, or is going, is asked again until the deadline: that costs nobody anything. Who has too much to do is
asked again a few times, within a budget that all calls of a client share.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import grpc

from storekeep.client.deadlines import Deadline
from storekeep.client.errors import (
    ClientClosed,
    Overloaded,
    Refused,
    ServerUnreachable,
    StorekeepError,
    from_rpc_error,
)
from storekeep.client.positions import Position

ATTEMPTS_MAX = 5
"""How often a call is sent, at most, when the server answers that it has too much to do."""

BUDGET_RETRIES_MAX = 100
"""How many calls that were refused for overload a client may send again before any succeeds."""
BUDGET_EARNED = 0.2
"""Of such a retry by each call that succeeds: under lasting overload a client sends a fifth more than it gets done."""

BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 2.0
"""Between attempts, on top of what the server asks for: doubled each time, with full jitter."""
DOUBLINGS_MAX = 10
"""More would change nothing, as the pause has long reached its maximum: it keeps the power of two small."""

Metadata = tuple[tuple[str, str], ...]

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")


class RetryBudget:
    """How many refused calls a client may still send to a server that has too much to do. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = float(BUDGET_RETRIES_MAX)

    def earn(self) -> None:
        """Note that a call has succeeded."""
        if self._left < BUDGET_RETRIES_MAX:
            with self._lock:
                self._left = min(BUDGET_RETRIES_MAX, self._left + BUDGET_EARNED)

    def spend(self) -> bool:
        """Take one retry; say whether there was one."""
        with self._lock:
            has_any = self._left >= 1
            self._left -= has_any
        return has_any


def send(
    method: grpc.UnaryUnaryMultiCallable[RequestT, ReplyT],
    request: RequestT,
    *,
    deadline: Deadline,
    metadata: Metadata = (),
    position: Position | None = None,
) -> ReplyT:
    """Send a request once. `position` learns what the answer says of it.

    Raises: the typed exception of whatever it ends with.
    """
    try:
        if position is None:
            return method(request, timeout=deadline.left_s, metadata=metadata)
        reply, call = method.with_call(request, timeout=deadline.left_s, metadata=metadata)
        position.learn(call.trailing_metadata() or ())
        return reply
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None
    except ValueError as error:
        raise _closed_or_same(error) from None


def retried(
    attempt: Callable[[], ReplyT], *, deadline: Deadline, budget: RetryBudget, reconnects: bool = False
) -> ReplyT:
    """Make an attempt until it succeeds, fails for good, or the deadline leaves no time for another.

    `reconnects`: whether to try on until the deadline when nobody answers, as when the server restarts, however long
    that takes. It is for callers that have been answered before: an address where nobody ever was is told at once.

    Raises: the exception of the last attempt.
    """
    number = 0
    while True:
        number += 1
        try:
            reply = attempt()
        except StorekeepError as error:
            pause_s = pause_before_retry_s(error, attempt=number)
            if not _passes(error, reconnects=reconnects) or pause_s >= deadline.left_s:
                raise
            if isinstance(error, Overloaded) and (number >= ATTEMPTS_MAX or not budget.spend()):
                raise
        else:
            budget.earn()
            return reply
        time.sleep(pause_s)


def pause_before_retry_s(error: StorekeepError, *, attempt: int) -> float:
    """Return how long to wait after the failure of the `attempt`th attempt, in seconds.

    The server's own delay is the least; jitter on top keeps callers from coming back all at once.
    """
    asked_s = error.retry_delay_s if isinstance(error, Refused) else None
    ceiling_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(attempt - 1, DOUBLINGS_MAX))
    return (asked_s or 0.0) + random.uniform(0, ceiling_s)  # noqa: S311 - spreads load, guards nothing


def _passes(error: StorekeepError, *, reconnects: bool) -> bool:
    return error.retryable if isinstance(error, Refused) else reconnects and isinstance(error, ServerUnreachable)


def _closed_or_same(error: ValueError) -> Exception:
    """Grpc says by a ValueError, and only by its text, that the channel was closed meanwhile."""
    return ClientClosed("The client is closed") if "closed channel" in str(error) else error
