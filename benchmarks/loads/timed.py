"""Calls that are timed one by one, by a client process of their own on the load's cores."""

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
"""How often a turn is measured that the machine spoils, until the run is given up."""


@dataclass(frozen=True)
class Calls:
    """What is called.

    Attributes:
        name: what the results call it.
        method: `/package.Service/Method`.
        messages: file of serialised requests that are sent again and again; None to place orders.
        order_lines: of each order.
        in_flight: calls that keep the server busy.
    """

    name: str
    method: str
    messages: Path | None = None
    order_lines: int = 0
    in_flight: int = 64

    def arguments(self) -> list[str]:
        """For the client's command line."""
        chosen = ["--messages", str(self.messages)] if self.messages else ["--order-lines", str(self.order_lines)]
        return ["--method", self.method, *chosen]


@dataclass(frozen=True)
class Latencies:
    """How long some calls took, in milliseconds; all 0 where there were none."""

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
        load: what is counted of any load; only accepted calls are answered ones.
        accepted: calls with a good answer.
        refused: calls that were told that the server is overloaded.
        failed: gRPC's code -> calls that ended with it, of all others.
        late: how long after their time the calls were sent.
        accepted_before: calls with a good answer from the time that was not timed, in which the server settled.
    """

    load: Load
    accepted: Latencies
    refused: Latencies
    failed: Mapping[str, int]
    late: Latencies
    accepted_before: int = 0

    @property
    def sent(self) -> int:
        """All calls."""
        return self.late.count

    @property
    def busy(self) -> float:
        """The share of a core that the load used."""
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
    """Call on a schedule for so long, or without a rate keep the server busy.

    Args:
        settle_s: how long the same load goes on before it is timed.
        connections: that share the calls.

    Raises: LoadFailed when an answer is wrong, or does not come.
    """
    whole_s = settle_s + seconds
    plan = ["--rate", str(rate)] if rate else ["--in-flight", str(calls.in_flight)]
    plan += ["--seconds", str(whole_s), "--settle-s", str(settle_s), "--connections", str(connections)]
    return _run(calls, server, token, plan, timeout_s=whole_s + END_TIMEOUT_S)


def send_some(calls: Calls, server: Server, *, token: str, number: int, in_flight: int = 0) -> TimedLoad:
    """Make so many calls and no more, some at a time.

    Raises: LoadFailed.
    """
    plan = ["--calls", str(number), "--in-flight", str(in_flight or calls.in_flight)]
    return _run(calls, server, token, plan, timeout_s=END_TIMEOUT_S)


def _run(calls: Calls, server: Server, token: str, plan: list[str], *, timeout_s: float) -> TimedLoad:
    command = [sys.executable, "-m", CLIENT, "--address", server.address, "--token", token, *calls.arguments(), *plan]
    before_s = server.cpu_s()
    try:
        output, _ = run_pinned(command, cores=server.placement.load, timeout_s=timeout_s)
    except RuntimeError as error:
        raise LoadFailed(str(error)) from error
    return _read(json.loads(output), server_cpu_s=server.cpu_s() - before_s)


def _read(found: Mapping[str, Any], *, server_cpu_s: float) -> TimedLoad:
    accepted, refused, late = (Latencies(**found[name]) for name in ("accepted", "refused", "late"))
    timed_share = found["seconds"] / (found["seconds"] + found["settle_s"])
    server_cpu_s, client_cpu_s = server_cpu_s * timed_share, found["cpu_s"] * timed_share
    load = Load(accepted.count, found["seconds"], server_cpu_s=server_cpu_s, client_cpu_s=client_cpu_s)
    return TimedLoad(load, accepted, refused, found["failed"], late, found["accepted_before"])


def until_good(send: Callable[[], TimedLoad]) -> TimedLoad:
    """A turn in which every call got a good answer, which not all do while the machine hiccups.

    Raises: LoadFailed.
    """
    for _ in range(ATTEMPTS_MAX):
        found = send()
        if found.accepted.count == found.sent > 0:
            return found
    raise LoadFailed(f"{found.refused.count} calls were refused, and by code these failed: {dict(found.failed)}")
