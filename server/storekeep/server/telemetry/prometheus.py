"""Exposition: an overview as Prometheus metrics (text format 0.0.4).

Calls are counted once each, by the worker that answered them, so the sums over all workers are what callers saw.
Invariant: a counter never goes down while the server runs, also when a worker is replaced.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from storekeep.server.telemetry.counts import BOUNDS_US, BUCKETS, Counts, add_counts
from storekeep.server.telemetry.status import Overview, WorkerView

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
US = 1_000_000
PROC = Path("/proc")
CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CPU_FIELDS = slice(11, 13)
"""`utime` and `stime`, in clock ticks, among the fields of `/proc/PID/stat` after the name (proc(5))."""


def expose(overview: Overview) -> bytes:
    """The whole page."""
    return generate_latest(_Families(overview))


class _Families:
    """The metrics of one overview, as prometheus-client collects them."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview

    def collect(self) -> Iterator[Metric]:
        """Every family once."""
        reports = [worker.report.counts for worker in self._overview.workers if worker.report]
        total = add_counts([self._overview.ended, *reports])
        yield _calls(total)
        yield _durations(total)
        yield _limited(total)
        yield _counter("storekeep_calls_forwarded", "Calls forwarded to the worker that writes.", total.forwarded)
        yield _counter("storekeep_store_commits", "Transactions that were made durable.", total.commits)
        yield _counter("storekeep_store_writes", "Writes in those transactions; several share one.", total.writes)
        yield from _of_workers(self._overview.workers)
        yield from _of_processes(self._overview)
        yield _build()


def _counter(name: str, meaning: str, value: int) -> Metric:
    return CounterMetricFamily(name, meaning, value=value)


def _calls(total: Counts) -> Metric:
    family = CounterMetricFamily("storekeep_calls", "Calls that are over.", labels=("method", "code", "reason"))
    for ended in total.ended:
        family.add_metric((ended.method, ended.code, ended.reason), ended.calls)
    return family


def _limited(total: Counts) -> Metric:
    family = CounterMetricFamily("storekeep_calls_rate_limited", "Calls that a rate limit refused.", labels=("limit",))
    for limit, calls in total.limited:
        family.add_metric((limit,), calls)
    return family


def _durations(total: Counts) -> Metric:
    family = HistogramMetricFamily(
        "storekeep_call_duration_seconds", "From a call's first byte to its answer.", labels=("method",)
    )
    buckets: dict[str, list[int]] = {}
    sums_us: dict[str, int] = {}
    for ended in total.ended:
        row = buckets.setdefault(ended.method, [0] * BUCKETS)
        for place, calls in enumerate(ended.buckets):
            row[place] += calls
        sums_us[ended.method] = sums_us.get(ended.method, 0) + ended.duration_us
    for method, row in buckets.items():
        family.add_metric((method,), _cumulative(row), sum_value=sums_us[method] / US)
    return family


def _cumulative(row: list[int]) -> list[tuple[str, float]]:
    """Buckets as Prometheus wants them: each holds those before it too."""
    names = [*(str(bound / US) for bound in BOUNDS_US), "+Inf"]
    return [(name, float(sum(row[: place + 1]))) for place, name in enumerate(names)]


def _of_workers(workers: tuple[WorkerView, ...]) -> Iterator[Metric]:
    """What is told worker by worker."""
    up = GaugeMetricFamily("storekeep_worker_up", "Whether the worker takes calls.", labels=("worker",))
    writes = GaugeMetricFamily("storekeep_worker_writes", "Whether the worker writes.", labels=("worker",))
    restarts = CounterMetricFamily(
        "storekeep_worker_restarts", "How often the worker died and was replaced.", labels=("worker",)
    )
    in_flight = GaugeMetricFamily("storekeep_calls_in_flight", "Calls under way.", labels=("worker",))
    queued = GaugeMetricFamily("storekeep_store_queue_length", "Writes that wait for a commit.", labels=("worker",))
    for worker in workers:
        label = (str(worker.number),)
        up.add_metric(label, int(worker.is_serving))
        writes.add_metric(label, int(worker.writes))
        restarts.add_metric(label, worker.restarts)
        if worker.report:
            in_flight.add_metric(label, worker.report.counts.in_flight)
            queued.add_metric(label, worker.report.queued)
    yield from (up, writes, restarts, in_flight, queued)


def _of_processes(overview: Overview) -> Iterator[Metric]:
    """Processor time and memory, as the kernel counts them: it answers also where a process does not."""
    cpu = CounterMetricFamily("storekeep_process_cpu_seconds", "Processor time of the process.", labels=("worker",))
    memory = GaugeMetricFamily(
        "storekeep_process_resident_memory_bytes", "Memory that the process holds.", labels=("worker",)
    )
    processes = {str(worker.number): worker.process_id for worker in overview.workers}
    if overview.supervisor_id:
        processes["supervisor"] = overview.supervisor_id
    for label, process_id in processes.items():
        try:
            stat = (PROC / str(process_id) / "stat").read_text()
            statm = (PROC / str(process_id) / "statm").read_text()
        except OSError:
            continue
        ticks = sum(int(ticks) for ticks in stat.rpartition(")")[2].split()[CPU_FIELDS])
        cpu.add_metric((label,), ticks / CLOCK_TICKS_PER_S)
        memory.add_metric((label,), int(statm.split()[1]) * PAGE_BYTES)
    yield from (cpu, memory)


def _build() -> Metric:
    return InfoMetricFamily(
        "storekeep_build",
        "What is running.",
        value={"version": metadata.version("storekeep"), "python": platform.python_version()},
    )
