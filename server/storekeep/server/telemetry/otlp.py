"""Export by OTLP over gRPC. Imported only if OpenTelemetry is turned on, because its packages are an optional extra.

The exporters read the standard `OTEL_EXPORTER_OTLP_*` variables. An export may block for `OTEL_EXPORTER_OTLP_TIMEOUT`.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Sequence
from importlib import metadata
from itertools import pairwise

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk import metrics
from opentelemetry.sdk.metrics import export as points
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from prometheus_client.core import Metric

from storekeep.server.telemetry.otel_variables import UnusableTelemetry
from storekeep.server.telemetry.traces import BOUNDS, Exemplar, Exemplars, Span, SpanId

SERVICE_NAME = "storekeep-server"
UNNAMED = "unknown_service"
"""How OpenTelemetry names a service whose variables name none."""
SCOPE = "storekeep.server"
UNITS = {"_seconds": "s", "_bytes": "By"}
"""Units in the names of our metrics. OTLP has them apart; the names in Prometheus are the same again."""
CUMULATIVE = points.AggregationTemporality.CUMULATIVE
Labels = dict[str, str]


def make_resource(worker: int) -> Resource:
    """Return what identifies this process. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` take precedence.

    Args:
        worker: Number of this worker.
    """
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it logs headers, and each failure at length
    own: dict[str, str | int] = {
        "service.name": SERVICE_NAME,
        "service.version": metadata.version("storekeep"),
        "service.instance.id": str(uuid.uuid4()),
        "storekeep.worker": worker,
    }
    given = Resource.create()
    is_named = not str(given.attributes["service.name"]).startswith(UNNAMED)
    return Resource(own).merge(given if is_named else given.merge(Resource({"service.name": SERVICE_NAME})))


class SpanExport:
    """Sends spans to the collector.

    Args:
        resource: See `make_resource`.

    Raises: UnusableTelemetry.
    """

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._scope = InstrumentationScope(SCOPE, metadata.version("storekeep"))
        try:
            self._exporter = OTLPSpanExporter()
        except Exception as error:  # noqa: BLE001 - the exporters document none
            raise _describe(error) from None

    def __call__(self, spans: list[Span]) -> bool:
        """Send spans; return whether the collector took them."""
        return self._exporter.export([self._convert(span) for span in spans]) is SpanExportResult.SUCCESS

    def _convert(self, span: Span) -> ReadableSpan:
        state = TraceState.from_header([span.state]) if span.state else None
        parent = None if not span.parent else _make_context(SpanId(span.id.trace, span.parent), is_remote=True)
        return ReadableSpan(
            span.name,
            _make_context(span.id, state=state),
            parent,
            self._resource,
            span.attributes,
            links=[Link(_make_context(link)) for link in span.links],
            kind=SpanKind.SERVER if span.is_call else SpanKind.CLIENT,
            status=Status(StatusCode.ERROR if span.is_error else StatusCode.UNSET),
            start_time=span.started_ns,
            end_time=span.ended_ns,
            instrumentation_scope=self._scope,
        )

    def close(self) -> None:
        """End an export that waits for a retry, and close the connection."""
        self._exporter.shutdown()


class MetricExport:
    """Sends metrics to the collector: those that Prometheus would get, with exemplars.

    Args:
        resource: See `make_resource`.

    Raises: UnusableTelemetry.
    """

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._scope = InstrumentationScope(SCOPE, metadata.version("storekeep"))
        self._started_ns = time.time_ns()
        try:
            self._exporter = OTLPMetricExporter(preferred_temporality=dict.fromkeys(INSTRUMENTS, CUMULATIVE))
        except Exception as error:  # noqa: BLE001 - the exporters document none
            raise _describe(error) from None

    def __call__(self, families: Iterable[Metric], exemplars: Exemplars) -> bool:
        """Send metrics; return whether the collector took them."""
        now_ns = time.time_ns()
        converted = [self._convert(family, exemplars, now_ns) for family in families if family.type in CONVERTED]
        scope = points.ScopeMetrics(self._scope, [metric for metric in converted if metric.data.data_points], "")
        data = points.MetricsData([points.ResourceMetrics(self._resource, [scope], "")])
        return self._exporter.export(data) is points.MetricExportResult.SUCCESS

    def _convert(self, family: Metric, exemplars: Exemplars, now_ns: int) -> points.Metric:
        unit = next((ending for ending in UNITS if family.name.endswith(ending)), "")
        data: points.Gauge | points.Sum | points.Histogram
        if family.type == "histogram":
            data = points.Histogram(self._build_histograms(family, exemplars, now_ns), CUMULATIVE)
        elif family.type == "counter":
            data = points.Sum(self._build_numbers(family, now_ns), CUMULATIVE, is_monotonic=True)
        else:
            data = points.Gauge(self._build_numbers(family, now_ns))
        return points.Metric(family.name.removesuffix(unit), family.documentation, UNITS.get(unit, ""), data)

    def _build_numbers(self, family: Metric, now_ns: int) -> list[points.NumberDataPoint]:
        return [
            points.NumberDataPoint(sample.labels, self._started_ns, now_ns, sample.value) for sample in family.samples
        ]

    def _build_histograms(self, family: Metric, exemplars: Exemplars, now_ns: int) -> list[points.HistogramDataPoint]:
        """Return the points of a histogram, whose samples are cumulative buckets with a bound as the label `le`."""
        rows: dict[tuple[tuple[str, str], ...], tuple[list[tuple[float, int]], list[float]]] = {}
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name != "le"}
            buckets, sums = rows.setdefault(tuple(labels.items()), ([], []))
            if sample.name.endswith("_bucket"):
                buckets.append((float(sample.labels["le"]), int(sample.value)))
            elif sample.name.endswith("_sum"):
                sums.append(sample.value)
        return [
            self._build_histogram(family.name, dict(labels), buckets, sums, exemplars, now_ns)
            for labels, (buckets, sums) in rows.items()
        ]

    def _build_histogram(
        self,
        name: str,
        labels: Labels,
        buckets: list[tuple[float, int]],
        sums: list[float],
        exemplars: Exemplars,
        now_ns: int,
    ) -> points.HistogramDataPoint:
        cumulative = [0, *(count for _, count in buckets)]
        label = next(iter(labels.values()), "")
        return points.HistogramDataPoint(
            labels,
            self._started_ns,
            now_ns,
            count=cumulative[-1],
            sum=sum(sums),
            bucket_counts=[after - before for before, after in pairwise(cumulative)],
            explicit_bounds=[bound for bound, _ in buckets[:-1]],
            min=None,  # type: ignore[arg-type]  # optional in OTLP, and not known
            max=None,  # type: ignore[arg-type]
            exemplars=_list_exemplars(name, label, exemplars),
        )

    def close(self) -> None:
        """End an export that waits for a retry, and close the connection."""
        self._exporter.shutdown()


CONVERTED = ("counter", "gauge", "histogram")
"""The types of families that are sent. The build's version is in the resource."""
INSTRUMENTS = (metrics.Counter, metrics.Histogram)


def _list_exemplars(name: str, label: str, exemplars: Exemplars) -> Sequence[metrics.Exemplar]:
    found: list[Exemplar] = []
    for bucket in range(len(BOUNDS.get(name, ())) + 1):
        exemplar = exemplars.get((name, label, bucket))
        if exemplar is not None:
            found.append(exemplar)
    return [metrics.Exemplar({}, each.value, each.time_ns, each.span.span, each.span.trace) for each in found]


def _make_context(span: SpanId, *, is_remote: bool = False, state: TraceState | None = None) -> SpanContext:
    return SpanContext(span.trace, span.span, is_remote, TraceFlags(TraceFlags.SAMPLED), state)


def _describe(error: Exception) -> UnusableTelemetry:
    """Return the error of variables that an exporter does not accept. Its text may have a header, so it is dropped."""
    return UnusableTelemetry(f"an OTEL_EXPORTER_OTLP_* variable is not usable: {type(error).__name__}")
