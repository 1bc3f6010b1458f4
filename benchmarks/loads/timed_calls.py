"""A load process that times each call, on a fixed schedule (open loop) or with N calls in flight (closed loop).

On a schedule, the latency of a call counts from its scheduled time, so a slow moment of the server cannot hide the
calls that it delayed (coordinated omission). The delay of sending is part of the latency and is reported, because the
load itself causes it. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import select
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Protocol

from benchmarks.loads import order_messages
from benchmarks.loads.http2 import OK, RESOURCE_EXHAUSTED, Connection
from benchmarks.loads.load import SAMPLE_EVERY
from benchmarks.loads.messages import read_messages

DEADLINE_S = 30
END_TIMEOUT_S = 40.0
"""Time allowed for the last replies after the last call."""
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}

SELECT_MAX_S = 1.0


class Plan(Protocol):
    """Determines when calls are sent. Times are seconds since the beginning."""

    def list_due(self, now_s: float, in_flight: int) -> Iterator[float]:
        """Yield the scheduled time of each call to send now, while `in_flight` calls are in flight."""

    def get_next_s(self) -> float:
        """Return the time of the next call if no reply arrives until then."""


class OnSchedule:
    """An open loop: `rate` calls per second, evenly spread, for `seconds`."""

    def __init__(self, rate: float, seconds: float) -> None:
        self._rate = rate
        self._total = round(rate * seconds)
        self._sent = 0

    def list_due(self, now_s: float, _under_way: int) -> Iterator[float]:
        """Yield the times of all calls whose time has come."""
        until = min(self._total, int(now_s * self._rate) + 1)
        while self._sent < until:
            yield self._sent / self._rate
            self._sent += 1

    def get_next_s(self) -> float:
        """Return the time of the next call."""
        return self._sent / self._rate if self._sent < self._total else math.inf


class InFlight:
    """A closed loop: `number` calls in flight, for `seconds`, or for `calls` calls if that is not 0."""

    def __init__(self, number: int, *, seconds: float, calls: int) -> None:
        self._number = number
        self._seconds = seconds
        self._left = calls or math.inf

    def list_due(self, now_s: float, in_flight: int) -> Iterator[float]:
        """Yield one call for each reply."""
        if self._seconds and now_s >= self._seconds:
            return
        for _ in range(int(min(self._number - in_flight, self._left))):
            self._left -= 1
            yield now_s

    def get_next_s(self) -> float:
        """Return infinity, because each call waits for a reply."""
        return math.inf


class Caller:
    """Sends calls over several connections in turn, and times them.

    Accepted calls, calls rejected for overload, and other failures are counted separately.

    Args:
        messages: the serialised requests.
        check: raises ValueError for a wrong reply; called for one in `SAMPLE_EVERY` replies.
        settle_s: calls scheduled before this time are sent but not timed, and counted only if accepted.
        connections: number of connections that share the calls.
    """

    def __init__(
        self,
        address: str,
        method: str,
        *,
        token: str,
        messages: Iterator[bytes],
        check: Callable[[bytes], None],
        settle_s: float,
        connections: int,
    ) -> None:
        self._settle_s = settle_s
        self._messages = messages
        self._check = check
        self._connections = [
            Connection(address, method, token=token, timeout=f"{DEADLINE_S}S", on_answer=self._record_answer)
            for _ in range(connections)
        ]
        self._by_file = {connection.socket.fileno(): connection for connection in self._connections}
        self._due: list[float] = []
        self._now = 0.0
        self.answered = 0
        self.accepted_s, self.refused_s, self.late_s = array("d"), array("d"), array("d")
        self.failed: Counter[int] = Counter()
        self.accepted_before = 0

    def run(self, plan: Plan, *, seconds: float) -> float:
        """Send the calls of a plan that lasts `seconds`, and wait for their replies.

        Returns: seconds until the last reply.

        Raises: ValueError for a wrong reply, ConnectionBroken, TimeoutError.
        """
        began = time.perf_counter()
        while True:
            self._now = time.perf_counter() - began
            self._send_due(plan)
            in_flight = len(self._due) - self.answered
            if not in_flight and self._now >= seconds:
                return self._now
            if self._now > seconds + END_TIMEOUT_S:
                raise TimeoutError(f"{in_flight} calls were not answered")
            self._receive(began, plan.get_next_s())

    def _send_due(self, plan: Plan) -> None:
        for due_s in plan.list_due(self._now, len(self._due) - self.answered):
            number = len(self._due)
            self._due.append(due_s)
            if due_s >= self._settle_s:
                self.late_s.append(self._now - due_s)
            connection = self._connections[number % len(self._connections)]
            connection.call(number, next(self._messages), keep=number % SAMPLE_EVERY == 0)
        for connection in self._connections:
            connection.flush()

    def _receive(self, began: float, until_s: float) -> None:
        wait_s = min(SELECT_MAX_S, max(0.0, until_s - (time.perf_counter() - began)))
        to_write = [file for file, connection in self._by_file.items() if connection.wants_to_write]
        readable, _, _ = select.select(list(self._by_file), to_write, [], wait_s)
        self._now = time.perf_counter() - began
        for file in readable:
            self._by_file[file].receive()

    def _record_answer(self, number: int, status: int, message: bytes) -> None:
        self.answered += 1
        took_s = self._now - self._due[number]
        if self._due[number] < self._settle_s:
            self.accepted_before += status == OK
        elif status == OK:
            self.accepted_s.append(took_s)
            if number % SAMPLE_EVERY == 0:
                self._check(message)
        elif status == RESOURCE_EXHAUSTED:
            self.refused_s.append(took_s)
        else:
            self.failed[status] += 1

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()


def summarize_ms(times_s: array[float]) -> dict[str, float]:
    """Return the number of times and their quantiles in milliseconds.

    Args:
        times_s: times in seconds.
    """
    ordered = sorted(times_s)
    if not ordered:
        return {"count": 0}
    last = len(ordered) - 1
    spread = {name: 1000 * ordered[round(quantile * last)] for name, quantile in QUANTILES.items()}
    return {"count": len(ordered), **spread, "max": 1000 * ordered[-1]}


def make_messages(options: argparse.Namespace) -> tuple[Iterator[bytes], Callable[[bytes], None]]:
    """Return the requests that the options select, and the check of their replies."""
    if options.order_lines:
        orders = order_messages.Requests(options.order_lines)
        return iter(orders.make, b""), lambda answer: order_messages.check(answer, lines=options.order_lines)

    def check_not_empty(answer: bytes) -> None:
        if not answer:
            raise ValueError("empty reply")

    return cycle(read_messages(options.messages)), check_not_empty


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--method", required=True, help="/package.Service/Method")
    parser.add_argument("--messages", type=Path, help="file of serialised requests to send repeatedly")
    parser.add_argument("--order-lines", type=int, help="instead, place random orders with this many lines")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--settle-s", type=float, default=0.0, help="untimed seconds at the beginning")
    parser.add_argument("--connections", type=int, default=8, help="connections that share the calls")
    parser.add_argument("--rate", type=float, help="calls per second, on a schedule (open loop)")
    parser.add_argument("--in-flight", type=int, help="calls in flight (closed loop)")
    parser.add_argument("--calls", type=int, default=0, help="with --in-flight: stop after this many calls")
    options = parser.parse_args()
    messages, check = make_messages(options)
    caller = Caller(
        options.address,
        options.method,
        token=options.token,
        messages=messages,
        check=check,
        settle_s=options.settle_s,
        connections=options.connections,
    )
    gc.disable()  # a collection would delay calls
    cpu_before = time.process_time()
    if options.rate:
        plan: Plan = OnSchedule(options.rate, options.seconds)
    else:
        plan = InFlight(options.in_flight, seconds=options.seconds, calls=options.calls)
    took_s = caller.run(plan, seconds=options.seconds)
    cpu_s = time.process_time() - cpu_before
    caller.close()
    spreads = {"accepted": caller.accepted_s, "refused": caller.refused_s, "late": caller.late_s}
    summaries = {name: summarize_ms(times_s) for name, times_s in spreads.items()}
    counts = {"settle_s": options.settle_s, "accepted_before": caller.accepted_before, "failed": caller.failed}
    print(json.dumps({"seconds": took_s - options.settle_s, "cpu_s": cpu_s, **counts, **summaries}))


if __name__ == "__main__":
    main()
