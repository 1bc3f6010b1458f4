"""Prometheus metrics: formats the status of a server as text (format 0.0.4).

Each call is counted once, by the worker that answered it, so sums over all workers are what callers saw.
Invariant: a counter never decreases while the server runs, even if a worker is replaced.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from prometheus_client import generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from storekeep.server.telemetry.counts import BOUNDS_US, BUCKETS, Counts, add_counts
from storekeep.server.telemetry.status import ServerStatus, WorkerStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
US = 1_000_000
BOUNDS_S = tuple(bound / US for bound in BOUNDS_US)
PROC = Path("/proc")
CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CPU_FIELDS = slice(11, 13)
"""Positions of `utime` and `stime`, in clock ticks, in `/proc/PID/stat` after the process name (proc(5))."""


class Family(NamedTuple):
    """A metric family.

    Attributes:
        meaning: Its help text.
        label: Name of its own label; empty if it has none.
    """

    meaning: str
    label: str = ""


TOTALS = {
    "storekeep_calls_queue_rejected": Family("Calls that a full or overloaded queue rejected.", "queue"),
    "storekeep_connections_closed": Family("Connections that the server closed because of a limit.", "limit"),
    "storekeep_checkpoint_failures": Family("How often SQLite's write-ahead log could not be copied."),
    "storekeep_backup_failures": Family("Scheduled backups that failed."),
    "storekeep_otel_spans": Family("Spans of traces, exported or dropped.", "outcome"),
    "storekeep_events_sent": Family("Events sent to watchers."),
    "storekeep_events_without_content": Family("Events whose content could not be encoded.", "noun"),
    "storekeep_event_watchers_ended": Family("Watchers that the server has ended.", "error"),
    "storekeep_webhook_attempts": Family("Attempts to deliver an event to a webhook endpoint.", "outcome"),
}
"""Counters of `Counts.totals`, without the ending `_total`."""
HISTOGRAMS = {
    "storekeep_queue_wait_seconds": Family("Time that calls waited in a queue.", "queue"),
    "storekeep_commit_duration_seconds": Family("Time from the beginning of a transaction to its durable commit."),
    "storekeep_commit_size_writes": Family("Writes in one commit."),
}
"""Histograms of `Counts.histograms`."""
GAUGES = {
    "storekeep_queue_overloaded": Family("Whether the queue admits only calls with a short wait.", "queue"),
    "storekeep_database_connections": Family("Read connections of the pool of PostgreSQL.", "state"),
    "storekeep_replica_up": Family("Whether the replica may answer reads.", "replica"),
    "storekeep_replica_staleness_seconds": Family("Upper bound of the age of the replica's data.", "replica"),
    "storekeep_event_watchers": Family("Open streams of WatchEvents."),
    "storekeep_event_watchers_lag_entries": Family("Entries of the ledger that the slowest watcher is behind."),
    "storekeep_webhook_oldest_seconds": Family("Age of the oldest delivery that waits for an enabled endpoint."),
    "storekeep_backup_newest_timestamp_seconds": Family("Time of the newest scheduled backup; 0 if there is none."),
    "storekeep_backup_size_bytes": Family("Size of the newest scheduled backup."),
    "storekeep_backup_duration_seconds": Family("Duration of the last scheduled backup of this process."),
}
"""Gauges of `Report.gauges`, by worker."""


SUPERVISED = frozenset({"storekeep_worker_restarts"})
"""Metrics that only the supervisor of several workers knows."""


def format_metrics(status: ServerStatus) -> bytes:
    """Return all metrics of a server in the text format."""
    return generate_latest(_Families(status))


def list_own_families(worker: WorkerStatus) -> list[Metric]:
    """Return the metric families of one process, given its own status."""
    families = _Families(ServerStatus((worker,))).collect()
    return [family for family in families if family.name not in SUPERVISED]


class _Families:
    """The metric families of one status, as a collector of prometheus-client."""

    def __init__(self, status: ServerStatus) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield each metric family."""
        reports = [worker.report.counts for worker in self._status.workers if worker.report]
        total = add_counts([self._status.ended, *reports])
        yield _build_calls(total)
        yield _build_durations(total)
        yield _build_rate_limited(total)
        yield _build_counter("storekeep_calls_forwarded", "Calls forwarded to the leader.", total.forwarded)
        replayed = "Calls answered with the stored reply of an earlier call."
        yield _build_counter("storekeep_calls_replayed", replayed, total.replayed)
        yield _build_counter("storekeep_store_commits", "Transactions committed durably.", total.commits)
        yield _build_counter("storekeep_store_writes", "Writes in the committed transactions.", total.writes)
        yield from _build_totals(total)
        yield from _build_histograms(total)
        yield _build_log_size(self._status.workers)
        yield from _build_worker_metrics(self._status.workers)
        yield from _build_gauges(self._status.workers)
        yield from _build_process_metrics(self._status)
        yield _build_info()


def _build_counter(name: str, meaning: str, value: int) -> Metric:
    return CounterMetricFamily(name, meaning, value=value)


def _build_calls(total: Counts) -> Metric:
    family = CounterMetricFamily("storekeep_calls", "Finished calls.", labels=("method", "code", "reason"))
    for ended in total.ended:
        family.add_metric((ended.method, ended.code, ended.reason), ended.calls)
    return family


def _build_rate_limited(total: Counts) -> Metric:
    family = CounterMetricFamily("storekeep_calls_rate_limited", "Calls rejected by a rate limit.", labels=("limit",))
    for limit, calls in total.limited:
        family.add_metric((limit,), calls)
    return family


def _build_durations(total: Counts) -> Metric:
    family = HistogramMetricFamily(
        "storekeep_call_duration_seconds", "Time from the start of a call to its reply.", labels=("method",)
    )
    buckets: dict[str, list[int]] = {}
    sums_us: dict[str, int] = {}
    for ended in total.ended:
        row = buckets.setdefault(ended.method, [0] * BUCKETS)
        for index, calls in enumerate(ended.buckets):
            row[index] += calls
        sums_us[ended.method] = sums_us.get(ended.method, 0) + ended.duration_us
    for method, row in buckets.items():
        family.add_metric((method,), _accumulate(row, BOUNDS_S), sum_value=sums_us[method] / US)
    return family


def _build_totals(total: Counts) -> Iterator[Metric]:
    for name, family in TOTALS.items():
        metric = CounterMetricFamily(name, family.meaning, labels=_list_labels(family))
        for number in total.totals:
            if number.name == name:
                metric.add_metric(_list_values(number.label), number.value)
        yield metric


def _build_histograms(total: Counts) -> Iterator[Metric]:
    for name, family in HISTOGRAMS.items():
        metric = HistogramMetricFamily(name, family.meaning, labels=_list_labels(family))
        for histogram in total.histograms:
            if histogram.name == name:
                buckets = _accumulate(histogram.buckets, histogram.bounds)
                metric.add_metric(_list_values(histogram.label), buckets, sum_value=histogram.total)
        yield metric


def _build_gauges(workers: tuple[WorkerStatus, ...]) -> Iterator[Metric]:
    for name, family in GAUGES.items():
        metric = GaugeMetricFamily(name, family.meaning, labels=("worker", *_list_labels(family)))
        for worker in workers:
            for gauge in worker.report.gauges if worker.report else ():
                if gauge.name == name:
                    metric.add_metric((str(worker.number), *_list_values(gauge.label)), gauge.value)
        yield metric


def _list_labels(family: Family) -> tuple[str, ...]:
    return (family.label,) if family.label else ()


def _list_values(label: str) -> tuple[str, ...]:
    return (label,) if label else ()


def _accumulate(row: Sequence[int], bounds: Sequence[float]) -> list[tuple[str, float]]:
    """Return cumulative buckets, as Prometheus defines them: each includes the smaller ones."""
    names = [*map(str, bounds), "+Inf"]
    return [(name, float(sum(row[: index + 1]))) for index, name in enumerate(names)]


def _build_log_size(workers: tuple[WorkerStatus, ...]) -> Metric:
    """Return the size of the log, which is one file for all workers."""
    sizes = [worker.report.log_bytes for worker in workers if worker.report]
    meaning = "Size of SQLite's write-ahead log; 0 on PostgreSQL."
    return GaugeMetricFamily("storekeep_store_log_bytes", meaning, value=max(sizes, default=0))


def _build_worker_metrics(workers: tuple[WorkerStatus, ...]) -> Iterator[Metric]:
    """Yield the metrics of each worker."""
    up = GaugeMetricFamily("storekeep_worker_up", "Whether the worker accepts calls.", labels=("worker",))
    writes = GaugeMetricFamily("storekeep_worker_writes", "Whether the worker may write.", labels=("worker",))
    restarts = CounterMetricFamily(
        "storekeep_worker_restarts", "How often the worker died and was replaced.", labels=("worker",)
    )
    in_flight = GaugeMetricFamily("storekeep_calls_in_flight", "Calls in progress.", labels=("worker",))
    queued = GaugeMetricFamily("storekeep_store_queue_length", "Writes waiting for a commit.", labels=("worker",))
    for worker in workers:
        label = (str(worker.number),)
        up.add_metric(label, int(worker.is_serving))
        writes.add_metric(label, int(worker.serves_writes))
        restarts.add_metric(label, worker.restarts)
        if worker.report:
            in_flight.add_metric(label, worker.report.counts.in_flight)
            queued.add_metric(label, worker.report.queued)
    yield from (up, writes, restarts, in_flight, queued)


def _build_process_metrics(status: ServerStatus) -> Iterator[Metric]:
    """Yield CPU time and memory from the kernel, which answers even if a process hangs."""
    cpu = CounterMetricFamily("storekeep_process_cpu_seconds", "CPU time of the process.", labels=("worker",))
    memory = GaugeMetricFamily(
        "storekeep_process_resident_memory_bytes", "Resident memory of the process.", labels=("worker",)
    )
    processes = {str(worker.number): worker.process_id for worker in status.workers}
    if status.supervisor_id:
        processes["supervisor"] = status.supervisor_id
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


def _build_info() -> Metric:
    return InfoMetricFamily(
        "storekeep_build",
        "Version of the running server.",
        value={"version": metadata.version("storekeep"), "python": platform.python_version()},
    )
