"""A load that times each call, sent by a separate client process on the load's cores."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.loads.load import Load, LoadFailed
from benchmarks.machine import Server, run_pinned

CLIENT = "benchmarks.loads.timed_calls"
CONNECTIONS = 8
END_TIMEOUT_S = 120.0
ATTEMPTS_MAX = 4
"""Attempts to measure a turn without failed calls before the run fails."""


@dataclass(frozen=True)
class Calls:
    """The calls of a load.

    Attributes:
        name: name in the results.
        method: `/package.Service/Method`.
        messages: file of serialised requests that are sent repeatedly; None to place orders.
        order_lines: lines in each order.
        in_flight: calls in flight that keep the server busy.
    """

    name: str
    method: str
    messages: Path | None = None
    order_lines: int = 0
    in_flight: int = 64

    def build_arguments(self) -> list[str]:
        """Return the arguments for the client's command line."""
        chosen = ["--messages", str(self.messages)] if self.messages else ["--order-lines", str(self.order_lines)]
        return ["--method", self.method, *chosen]


@dataclass(frozen=True)
class Latencies:
    """Latency of some calls in milliseconds; all 0 without calls."""

    count: int
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0


@dataclass(frozen=True)
class TimedLoad:
    """One round of timed load.

    Attributes:
        load: counts of any load. Only accepted calls count as answered.
        accepted: latency of calls with a good reply.
        refused: latency of calls that the overloaded server rejected.
        failed: number of other calls by gRPC status code.
        late: delay of sending after the scheduled time.
        accepted_before: calls with a good reply in the untimed settling period.
    """

    load: Load
    accepted: Latencies
    refused: Latencies
    failed: Mapping[str, int]
    late: Latencies
    accepted_before: int = 0

    @property
    def sent(self) -> int:
        """The number of calls that were sent."""
        return self.late.count

    @property
    def busy(self) -> float:
        """The share of one core that the load used."""
        return self.load.client_cpu_s / self.load.seconds


def send(
    calls: Calls,
    server: Server,
    *,
    token: str,
    seconds: float,
    rate: float = 0.0,
    settle_s: float = 0.0,
    connections: int = CONNECTIONS,
) -> TimedLoad:
    """Send calls on a schedule for `seconds`, or in a closed loop if `rate` is 0.

    Args:
        rate: calls per second.
        settle_s: untimed seconds of the same load at the beginning.
        connections: connections that share the calls.

    Raises: LoadFailed if a reply is wrong or missing.
    """
    whole_s = settle_s + seconds
    plan = ["--rate", str(rate)] if rate else ["--in-flight", str(calls.in_flight)]
    plan += ["--seconds", str(whole_s), "--settle-s", str(settle_s), "--connections", str(connections)]
    return _run(calls, server, token, plan, timeout_s=whole_s + END_TIMEOUT_S)


def send_some(calls: Calls, server: Server, *, token: str, number: int, in_flight: int = 0) -> TimedLoad:
    """Send exactly `number` calls, with `in_flight` calls in flight.

    Raises: LoadFailed if a reply is wrong or missing.
    """
    plan = ["--calls", str(number), "--in-flight", str(in_flight or calls.in_flight)]
    return _run(calls, server, token, plan, timeout_s=END_TIMEOUT_S)


def _run(calls: Calls, server: Server, token: str, plan: list[str], *, timeout_s: float) -> TimedLoad:
    command = [
        sys.executable,
        "-m",
        CLIENT,
        "--address",
        server.address,
        "--token",
        token,
        *calls.build_arguments(),
        *plan,
    ]
    before_s = server.read_cpu_s()
    try:
        output, _ = run_pinned(command, cores=server.placement.load, timeout_s=timeout_s)
    except RuntimeError as error:
        raise LoadFailed(str(error)) from error
    return _read(json.loads(output), server_cpu_s=server.read_cpu_s() - before_s)


def _read(result: Mapping[str, Any], *, server_cpu_s: float) -> TimedLoad:
    accepted, refused, late = (Latencies(**result[name]) for name in ("accepted", "refused", "late"))
    timed_share = result["seconds"] / (result["seconds"] + result["settle_s"])
    server_cpu_s, client_cpu_s = server_cpu_s * timed_share, result["cpu_s"] * timed_share
    load = Load(accepted.count, result["seconds"], server_cpu_s=server_cpu_s, client_cpu_s=client_cpu_s)
    return TimedLoad(load, accepted, refused, result["failed"], late, result["accepted_before"])


def repeat_until_good(send: Callable[[], TimedLoad]) -> TimedLoad:
    """Repeat a turn until every call got a good reply. A busy machine can make the server reject calls.

    Raises: LoadFailed after `ATTEMPTS_MAX` attempts.
    """
    for _ in range(ATTEMPTS_MAX):
        result = send()
        if result.accepted.count == result.sent > 0:
            return result
    raise LoadFailed(f"{result.refused.count} calls were rejected; failed calls by code: {dict(result.failed)}")
