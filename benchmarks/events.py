"""Measure streams of events: their delay, their throughput, replays and idle watchers."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import stocking, subjects
from benchmarks.loads import timed
from benchmarks.loads.load import LINES, Load, LoadFailed
from benchmarks.loads.order_messages import PLACE_ORDER
from benchmarks.loads.timed import Calls
from benchmarks.machine import ROOT, pin_to_cores
from benchmarks.results import Bar, Figure, Section
from benchmarks.rounds import Pace, Spread
from benchmarks.subjects import Storekeep

CLIENT = "benchmarks.loads.watchers"
IDLE_PER_S = 20.0
"""Orders per second of an idle server, far apart so that none waits for another."""
NOMINAL = 0.6
AUDIENCES = (1, 10, 100, 1_000)
FEW, IDLE = 100, 10_000
"""Idle watchers whose memory is compared: the first ones also pay for what all share."""
END_TIMEOUT_S = 120.0
FILLING_S = 30.0
"""One turn of placing the orders whose events are replayed. Each turn starts a process, which takes a second."""
REPLAY_MAX_S = 600.0
IDLE_P50_MS = 5.0
NOMINAL_P99_MS = 50.0
REPLAY_PER_S = 50_000.0
IDLE_KIB = 20.0
SETTINGS = {
    "STOREKEEP_EVENT_WATCHERS_MAX": "20000",
    "STOREKEEP_EVENT_WATCHERS_PER_ADDRESS_MAX": "20000",
    "STOREKEEP_EVENT_WATCHERS_PER_KEY_MAX": "20000",
}
PLACING = Calls("PlaceOrder", PLACE_ORDER, order_lines=LINES, in_flight=32)


@dataclass(frozen=True)
class Watched:
    """What the watchers of one load got.

    Attributes:
        events: the number of events, counted for each watcher.
        p50_ms, p99_ms: the age of the events when they arrived.
    """

    events: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_s(self) -> float:
        """Events per second."""
        return self.events / self.seconds


class WatcherProcess:
    """A process with watchers, all of whose streams are open.

    Args:
        count: number of watchers.
        arguments: further arguments of the process.

    Raises: LoadFailed.
    """

    def __init__(self, shop: Storekeep, *arguments: str, count: int, seconds: float) -> None:
        command = [sys.executable, "-m", CLIENT, "--address", shop.server.address, "--token", shop.get_token()]
        command += ["--watchers", str(count), "--seconds", str(seconds), *arguments]
        self._process = subprocess.Popen(
            pin_to_cores(shop.server.placement.load, command),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise LoadFailed(self._process.communicate()[1][-2000:])

    def read(self, timeout_s: float) -> Watched:
        """Wait for the end, and return what the watchers got.

        Raises: LoadFailed.
        """
        output, errors = self._process.communicate(timeout=timeout_s)
        if self._process.returncode:
            raise LoadFailed(errors[-2000:])
        return Watched(**json.loads(output))

    def stop(self) -> None:
        """End the watchers."""
        self._process.kill()
        self._process.communicate()


def measure_events(folder: Path, pace: Pace, *, kept: int) -> Section:
    """Measure streams of events.

    Args:
        kept: number of kept events to replay.
    """
    with subjects.run_storekeep(folder / "storekeep", settings=SETTINGS) as shop:
        stocking.stock_catalogue(shop)
        idle_kib, threads = _measure_idle(shop)
        quiet = [_watch_orders(shop, pace, rate=IDLE_PER_S) for _ in range(pace.rounds)]
        rate = NOMINAL * _find_rate(shop, pace)
        busy = [_watch_orders(shop, pace, rate=rate) for _ in range(pace.rounds)]
        audiences = {count: _watch_audience(shop, pace, count) for count in AUDIENCES}
        _place_until(shop, kept)
        complete, thin = _replay(shop, kept), _replay(shop, kept, "--omit-content")
    figures = [
        Figure(f"{count:,} watchers", {"events/s": f"{got.per_s:,.0f}", "orders/s": f"{load.per_s:,.0f}"})
        for count, (got, load) in audiences.items()
    ]
    figures += [
        Figure(f"replay of {kept:,} events{name}", {"events/s": f"{got.per_s:,.0f}", "orders/s": ""})
        for name, got in ((" with content", complete), (" without content", thin))
    ]
    bars = [
        Bar("age of an event, idle, p50 ms", _spread(got.p50_ms for got in quiet), IDLE_P50_MS, at_most=True),
        Bar(
            f"the same at {NOMINAL:g} x the rate, p99 ms",
            _spread(got.p99_ms for got in busy),
            NOMINAL_P99_MS,
            at_most=True,
        ),
        Bar("replay with content, events/s", _spread([complete.per_s]), REPLAY_PER_S),
        Bar("replay without content, events/s", _spread([thin.per_s]), REPLAY_PER_S),
        Bar(f"KiB of an idle watcher, of {IDLE:,}", _spread([idle_kib]), IDLE_KIB, at_most=True),
    ]
    notes = (
        "An event's age counts from the start of its transaction. The watchers share the core of the load.",
        f"Threads that {IDLE:,} watchers added to the server: {threads}.",
        f"p99 idle: {_spread(got.p99_ms for got in quiet).median:.1f} ms; "
        f"p50 at {rate:,.0f} orders/s: {_spread(got.p50_ms for got in busy).median:.1f} ms.",
    )
    return Section("Streams of events", figures, bars, notes)


def _spread(numbers: Iterator[float] | list[float]) -> Spread:
    return Spread.from_numbers(list(numbers))


@contextlib.contextmanager
def run_watchers(shop: Storekeep, *, count: int, seconds: float) -> Iterator[WatcherProcess]:
    """Run watchers until the block ends.

    Raises: LoadFailed.
    """
    process = WatcherProcess(shop, count=count, seconds=seconds)
    try:
        yield process
    finally:
        process.stop()


def _send(shop: Storekeep, *, seconds: float, rate: float) -> Load:
    """Place orders at a rate, or as fast as possible with 0."""
    return timed.send(PLACING, shop.server, token=shop.get_token(), seconds=seconds, rate=rate).load


def _find_rate(shop: Storekeep, pace: Pace) -> float:
    return _send(shop, seconds=pace.seconds, rate=0.0).per_s


def _watch_orders(shop: Storekeep, pace: Pace, *, rate: float) -> Watched:
    """Return what one watcher gets of a load."""
    process = WatcherProcess(shop, count=1, seconds=pace.seconds + 1)
    _send(shop, seconds=pace.seconds, rate=rate)
    return process.read(END_TIMEOUT_S)


def _watch_audience(shop: Storekeep, pace: Pace, count: int) -> tuple[Watched, Load]:
    process = WatcherProcess(shop, count=count, seconds=pace.seconds)
    load = _send(shop, seconds=pace.seconds, rate=0.0)
    return process.read(END_TIMEOUT_S), load


def _place_until(shop: Storekeep, kept: int) -> None:
    """Place orders until there are enough events."""
    placed = 0
    while placed < kept:
        placed += _send(shop, seconds=FILLING_S, rate=0.0).answered


def _replay(shop: Storekeep, kept: int, *arguments: str) -> Watched:
    return WatcherProcess(shop, "--kept", str(kept), *arguments, count=1, seconds=REPLAY_MAX_S).read(2 * REPLAY_MAX_S)


def _measure_idle(shop: Storekeep) -> tuple[float, int]:
    """Return the memory of an idle watcher in KiB, and the threads that all of them added."""
    with run_watchers(shop, count=FEW, seconds=END_TIMEOUT_S):
        few_mb, few_threads = shop.server.read_rss_mb(), _count_threads(shop)
    with run_watchers(shop, count=IDLE + FEW, seconds=END_TIMEOUT_S):
        many_mb, many_threads = shop.server.read_rss_mb(), _count_threads(shop)
    return (many_mb - few_mb) * 1_000_000 / 1024 / IDLE, many_threads - few_threads


def _count_threads(shop: Storekeep) -> int:
    return len(list(Path(f"/proc/{shop.server.pid}/task").iterdir()))
