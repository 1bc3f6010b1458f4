"""What a process measures beside its calls: queues, commits, the database, replicas and backups."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from storekeep.server.runtime.admission import AdmissionController
from storekeep.server.runtime.histograms import Histogram
from storekeep.server.store.engine import Store
from storekeep.server.telemetry.counts import Counts, HistogramCounts, Total
from storekeep.server.telemetry.status import Gauge


def count_store(store: Store, queues: Mapping[str, AdmissionController], *, backup_failures: int) -> Counts:
    """Return the counts of the queues and of the database since the process started.

    Args:
        queues: the admission controllers, by the name of their queue.
        backup_failures: number of failed scheduled backups.
    """
    totals = [Total("storekeep_calls_queue_rejected", name, queue.rejected) for name, queue in queues.items()]
    totals.append(Total("storekeep_checkpoint_failures", "", store.driver.measure().checkpoint_failures))
    totals.append(Total("storekeep_backup_failures", "", backup_failures))
    histograms = [_copy("storekeep_queue_wait_seconds", name, queue.waits) for name, queue in queues.items()]
    histograms.append(_copy("storekeep_commit_duration_seconds", "", store.commit_durations))
    histograms.append(_copy("storekeep_commit_size_writes", "", store.commit_sizes))
    return Counts(commits=store.commits, writes=store.writes, totals=tuple(totals), histograms=tuple(histograms))


def _copy(name: str, label: str, histogram: Histogram) -> HistogramCounts:
    return HistogramCounts(name, label, histogram.bounds, tuple(histogram.buckets), histogram.total)


def measure_store(store: Store, queues: Mapping[str, AdmissionController]) -> Iterator[Gauge]:
    """Yield the gauges of the queues, the database and its replicas."""
    for name, queue in queues.items():
        yield Gauge("storekeep_queue_overloaded", name, float(queue.is_overloaded))
    measures = store.driver.measure()
    if measures.connections:
        yield Gauge("storekeep_database_connections", "used", measures.connections_used)
        yield Gauge("storekeep_database_connections", "idle", measures.connections - measures.connections_used)
    for state in store.list_replica_states():
        yield Gauge("storekeep_replica_up", state.name, float(not math.isinf(state.staleness_s)))
        if not math.isinf(state.staleness_s):
            yield Gauge("storekeep_replica_staleness_seconds", state.name, state.staleness_s)
