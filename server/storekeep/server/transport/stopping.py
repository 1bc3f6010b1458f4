"""The end of all calls when the server stops: each is answered, or ends with UNAVAILABLE.

gRPC's core ends calls with CANCELLED that arrive between its own shutdown and the moment the client learns of it, and
those that it cuts off (grpc/grpc issue 41785). No client may repeat these by itself. So each connection is half-closed
before: what the core sends afterwards does not arrive, and the client sees a lost connection, which is UNAVAILABLE.
"""

from __future__ import annotations

import time

import grpc

from storekeep.server.transport.connections import ConnectionGuard
from storekeep.server.transport.polling import Polling

ANSWER_MAX_S = 1.0
"""Longest time to reject new calls until all others are answered. Then the core tells the clients of the others to
connect anew. It could end their next call with CANCELLED, if they send it just then."""
CHECK_INTERVAL_S = 0.01
"""Interval of checks for calls in progress."""
CUT_OFF_S = 1.0
"""Time after the half-close of the last connections until the core cancels their calls."""


def stop_calls(server: grpc.Server, polling: Polling, guard: ConnectionGuard, *, drain_s: float) -> None:
    """Reject new calls, wait for those in progress, close the connections and stop the server.

    Calls that are not answered end with UNAVAILABLE. In three cases the core ends some with CANCELLED instead: on a
    Unix socket, without the fast path, and on a connection whose other calls take longer than `ANSWER_MAX_S`.

    Args:
        drain_s: longest time for the calls in progress. Then they are cut off.
    """
    give_up_s = time.monotonic() + drain_s
    polling.drain()
    if polling.is_fast:
        busy = _await_answers(polling, give_up_s=min(give_up_s, time.monotonic() + ANSWER_MAX_S))
        if busy is not None:
            guard.hold_connections_off()
            guard.half_close(other_than=busy)
    stopped = server.stop(max(0.0, give_up_s - time.monotonic()) + CUT_OFF_S)
    if not stopped.wait(max(0.0, give_up_s - time.monotonic())):
        guard.half_close(other_than=frozenset())
        stopped.wait()


def _await_answers(polling: Polling, *, give_up_s: float) -> frozenset[str] | None:
    """Wait until no calls are in progress, or until time is up.

    Returns: the clients that still have some; None if that is unknown.
    """
    while (busy := polling.busy_peers) != frozenset() and time.monotonic() < give_up_s:
        time.sleep(CHECK_INTERVAL_S)
    return busy
