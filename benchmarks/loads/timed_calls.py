"""A process that makes calls and times each: on a fixed schedule whatever the answers do, or so many in flight.

On a schedule a call's latency counts from when it should have been sent, so that a server that is slow for a moment
cannot hide the calls that were held up by it (coordinated omission). How late the calls were sent is reported, as it is
the load's own fault and part of the latency. Prints one line of JSON.
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
"""How long the last answers may take after the last call."""
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}

SELECT_MAX_S = 1.0


class Plan(Protocol):
    """When calls are to be sent. Times are seconds since the beginning."""

    def due(self, now_s: float, under_way: int) -> Iterator[float]:
        """When each call should have been sent that is to be sent now, while so many are under way."""

    def next_s(self) -> float:
        """When the next call is due, whatever is answered until then."""


class OnSchedule:
    """So many calls a second, evenly spread, for so long."""

    def __init__(self, rate: float, seconds: float) -> None:
        self._rate = rate
        self._total = round(rate * seconds)
        self._sent = 0

    def due(self, now_s: float, _under_way: int) -> Iterator[float]:
        """All whose time has come."""
        until = min(self._total, int(now_s * self._rate) + 1)
        while self._sent < until:
            yield self._sent / self._rate
            self._sent += 1

    def next_s(self) -> float:
        """Evenly spread."""
        return self._sent / self._rate if self._sent < self._total else math.inf


class InFlight:
    """So many calls in flight for so long, or until there were so many, where `calls` is not 0."""

    def __init__(self, number: int, *, seconds: float, calls: int) -> None:
        self._number = number
        self._seconds = seconds
        self._left = calls or math.inf

    def due(self, now_s: float, under_way: int) -> Iterator[float]:
        """One for each that was answered."""
        if self._seconds and now_s >= self._seconds:
            return
        for _ in range(int(min(self._number - under_way, self._left))):
            self._left -= 1
            yield now_s

    def next_s(self) -> float:
        """Never by itself."""
        return math.inf


class Caller:
    """Makes calls over some connections, in turns, and times them.

    It counts apart what was accepted, what was refused for overload, and what failed with another status.

    Args:
        messages: the requests.
        check: raises ValueError for an answer that is not a good one; asked about one in `SAMPLE_EVERY`.
        settle_s: calls that are due before are made, but not timed; only those of them are counted that were accepted.
        connections: how many share the calls.
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
            Connection(address, method, token=token, timeout=f"{DEADLINE_S}S", on_answer=self._answered)
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
        """Make the calls of a plan, which lasts so long, and await their answers.

        Returns: seconds until the last answer.

        Raises: ValueError for a wrong answer, ConnectionBroken, TimeoutError.
        """
        began = time.perf_counter()
        while True:
            self._now = time.perf_counter() - began
            self._send_due(plan)
            under_way = len(self._due) - self.answered
            if not under_way and self._now >= seconds:
                return self._now
            if self._now > seconds + END_TIMEOUT_S:
                raise TimeoutError(f"{under_way} calls were not answered")
            self._receive(began, plan.next_s())

    def _send_due(self, plan: Plan) -> None:
        for due_s in plan.due(self._now, len(self._due) - self.answered):
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

    def _answered(self, number: int, status: int, message: bytes) -> None:
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


def in_ms(times_s: array[float]) -> dict[str, float]:
    """How many times there are, and how they are spread, in milliseconds."""
    ordered = sorted(times_s)
    if not ordered:
        return {"count": 0}
    last = len(ordered) - 1
    spread = {name: 1000 * ordered[round(quantile * last)] for name, quantile in QUANTILES.items()}
    return {"count": len(ordered), **spread, "max": 1000 * ordered[-1]}


def make_messages(options: argparse.Namespace) -> tuple[Iterator[bytes], Callable[[bytes], None]]:
    """The requests that were asked for, and the check of their answers."""
    if options.order_lines:
        orders = order_messages.Requests(options.order_lines)
        return iter(orders.make, b""), lambda answer: order_messages.check(answer, lines=options.order_lines)

    def is_there(answer: bytes) -> None:
        if not answer:
            raise ValueError("an empty answer")

    return cycle(read_messages(options.messages)), is_there


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--method", required=True, help="/package.Service/Method")
    parser.add_argument("--messages", type=Path, help="file of serialised requests, which are sent again and again")
    parser.add_argument("--order-lines", type=int, help="place random orders of so many lines instead")
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--settle-s", type=float, default=0.0, help="seconds at the beginning that are not timed")
    parser.add_argument("--connections", type=int, default=8, help="how many share the calls")
    parser.add_argument("--rate", type=float, help="calls a second, on a schedule")
    parser.add_argument("--in-flight", type=int, help="or so many at once")
    parser.add_argument("--calls", type=int, default=0, help="or so many at once, until there were this many")
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
    gc.disable()  # a collection would hold calls up
    cpu_before = time.process_time()
    if options.rate:
        plan: Plan = OnSchedule(options.rate, options.seconds)
    else:
        plan = InFlight(options.in_flight, seconds=options.seconds, calls=options.calls)
    took_s = caller.run(plan, seconds=options.seconds)
    cpu_s = time.process_time() - cpu_before
    caller.close()
    spreads = {"accepted": caller.accepted_s, "refused": caller.refused_s, "late": caller.late_s}
    found = {name: in_ms(times_s) for name, times_s in spreads.items()}
    found_so_far = {"settle_s": options.settle_s, "accepted_before": caller.accepted_before, "failed": caller.failed}
    print(json.dumps({"seconds": took_s - options.settle_s, "cpu_s": cpu_s, **found_so_far, **found}))


if __name__ == "__main__":
    main()
