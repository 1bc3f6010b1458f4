"""OpenTelemetry, wired to the settings: the tracer of calls and commits, and the exports in the background."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from storekeep.server.config import Settings
from storekeep.server.store.urls import parse_sqlite_path
from storekeep.server.telemetry.counts import Counts, Total
from storekeep.server.telemetry.metric_exports import MetricExports
from storekeep.server.telemetry.otel_variables import OtelVariables, UnusableTelemetry, read_otel_variables
from storekeep.server.telemetry.span_queue import SpanQueue
from storekeep.server.telemetry.status import Report, WorkerStatus
from storekeep.server.telemetry.traces import CallSpan, Tracer
from storekeep.server.transport.rpc import CURRENT

if TYPE_CHECKING:
    from storekeep.server.telemetry.otlp import MetricExport, SpanExport

FLUSH_TIMEOUT_S = 2.0
"""Maximum time in seconds that a stop waits for the collector."""
MISSING = "STOREKEEP_OTEL_SIGNALS needs packages that are not installed: pip install 'storekeep[server,otel]'"


class CommitTraces:
    """Traces commits for the store; see `CommitTracer`."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def get_call(self) -> CallSpan | None:
        """Return the traced call that the current thread or task serves."""
        rpc = CURRENT.get(None)
        return None if rpc is None else rpc.span

    def trace_commit(self, calls: Sequence[CallSpan], *, writes: int, duration_s: float, error: str) -> None:
        """Record a commit."""
        self._tracer.trace_commit(calls, writes=writes, duration_s=duration_s, error=error)


class Otel:
    """OpenTelemetry of one process. Its threads start with it, and it must not be created before a fork.

    Args:
        settings: the effective settings.
        variables: the variables of OpenTelemetry.
        worker: number of this worker.

    Attributes:
        tracer: traces calls; None if traces are off.
        commits: traces commits; None if traces are off.

    Raises: UnusableTelemetry.
    """

    def __init__(self, settings: Settings, variables: OtelVariables, *, worker: int) -> None:
        from storekeep.server.telemetry.otlp import MetricExport, SpanExport, make_resource

        self._worker = worker
        self._interval_s = variables.metric_interval_s
        resource = make_resource(worker)
        self._span_export: SpanExport | None = None
        self._metric_export: MetricExport | None = None
        self._spans: SpanQueue | None = None
        self._metrics: MetricExports | None = None
        self.tracer: Tracer | None = None
        self.commits: CommitTraces | None = None
        if "metrics" in settings.otel_signals:
            self._metric_export = MetricExport(resource)
        if "traces" in settings.otel_signals:
            self._span_export = SpanExport(resource)
            self._spans = SpanQueue(
                self._span_export,
                queue_max=variables.queue_max,
                batch_max=variables.batch_max,
                delay_s=variables.delay_s,
            )
            database = "postgresql" if parse_sqlite_path(settings.database) is None else "sqlite"
            self.tracer = Tracer(variables.sampler, self._spans.put, database=database)
            self.commits = CommitTraces(self.tracer)

    def start(self, report: Callable[[], Report]) -> None:
        """Begin to export metrics, if they are on.

        Args:
            report: returns the report of this process.
        """
        export = self._metric_export
        if export is None:
            return
        from storekeep.server.telemetry.prometheus import list_own_families

        def export_metrics() -> bool:
            # First: an exemplar of a call that the report does not count has no point to be sent with.
            exemplars = {} if self.tracer is None else self.tracer.take_exemplars()
            current = report()
            families = list_own_families(WorkerStatus(self._worker, os.getpid(), current.state, report=current))
            return export(families, exemplars)

        self._metrics = MetricExports(export_metrics, interval_s=self._interval_s)

    def count(self) -> Counts:
        """Return the number of spans that were exported and dropped."""
        if self._spans is None:
            return Counts()
        outcomes = {"exported": self._spans.exported, "dropped": self._spans.dropped}
        return Counts(totals=tuple(Total("storekeep_otel_spans", name, count) for name, count in outcomes.items()))

    def close(self) -> None:
        """Export what is left, for at most `FLUSH_TIMEOUT_S`, and close the connections."""
        give_up_s = time.monotonic() + FLUSH_TIMEOUT_S
        if self._spans is not None:
            self._spans.close(timeout_s=FLUSH_TIMEOUT_S)
        if self._metrics is not None:
            self._metrics.close(timeout_s=max(0.0, give_up_s - time.monotonic()))
        for export in (self._span_export, self._metric_export):
            if export is not None:
                export.close()


def make_otel(settings: Settings, *, worker: int) -> Otel | None:
    """Wire OpenTelemetry to the settings and the environment; None if it is off.

    Raises: UnusableTelemetry.
    """
    if not settings.otel_signals:
        return None
    variables = read_otel_variables(os.environ, signals=settings.otel_signals)
    if variables.is_disabled:
        return None
    try:
        return Otel(settings, variables, worker=worker)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise UnusableTelemetry(MISSING) from None


def check_otel(settings: Settings) -> None:
    """Raise UnusableTelemetry if OpenTelemetry could not be started. Nothing is exported."""
    otel = make_otel(settings, worker=0)
    if otel is not None:
        otel.close()
