"""A collector of OpenTelemetry: a real gRPC server that keeps what it receives, or misbehaves as a test asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

WAIT_S = 60.0


class Collector:
    """Keeps all spans and the last value of each metric.

    Attributes:
        address: `http://host:port`.
        spans: the spans, in the order of their arrival.
        resources: the attributes of each process, by the id of its spans.
        metrics: the metrics of the last export, by name.
        exemplars: the name of the metric and the exemplar, of all exports.
        hangs: set it to answer nothing until the collector ends.
        metadata: the metadata of the last export of spans.
    """

    def __init__(self) -> None:
        self.address = ""
        self.spans: list[Any] = []
        self.resources: dict[bytes, dict[str, Any]] = {}
        self.metrics: dict[str, Any] = {}
        self.exemplars: list[tuple[str, Any]] = []
        self.hangs = False
        self.metadata: dict[str, Any] = {}
        self.ended = threading.Event()
        self._changed = threading.Condition()

    def export_spans(self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any) -> Any:
        if self.hangs:
            self.ended.wait(WAIT_S)
        with self._changed:
            self.metadata = dict(context.invocation_metadata())
            for resource in request.resource_spans:
                named = read_attributes(resource.resource)
                for span in (span for scope in resource.scope_spans for span in scope.spans):
                    self.resources[span.span_id] = named
                    self.spans.append(span)
            self._changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def export_metrics(self, request: metrics_service_pb2.ExportMetricsServiceRequest, _context: Any) -> Any:
        with self._changed:
            for resource in request.resource_metrics:
                for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                    self.metrics[metric.name] = metric
                    for point in metric.histogram.data_points:
                        self.exemplars += [(metric.name, exemplar) for exemplar in point.exemplars]
            self._changed.notify_all()
        return metrics_service_pb2.ExportMetricsServiceResponse()

    def await_spans(self, condition: Callable[[list[Any]], Any]) -> list[Any]:
        """Wait until the spans meet a condition, and return them.

        Raises: TimeoutError.
        """
        give_up_s = time.monotonic() + WAIT_S
        with self._changed:
            while not condition(self.spans):
                if not self._changed.wait(timeout=max(0.0, give_up_s - time.monotonic())):
                    raise TimeoutError([span.name for span in self.spans])
            return list(self.spans)

    def await_metrics(self, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Wait until the metrics meet a condition, and return them.

        Raises: TimeoutError.
        """
        give_up_s = time.monotonic() + WAIT_S
        with self._changed:
            while not condition(self.metrics):
                if not self._changed.wait(timeout=max(0.0, give_up_s - time.monotonic())):
                    raise TimeoutError(sorted(self.metrics))
            return dict(self.metrics)


def read_attributes(owner: Any) -> dict[str, Any]:
    """Return the attributes of a span, a resource or a point."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in owner.attributes}


@contextmanager
def run_collector(port: int = 0) -> Iterator[Collector]:
    """Run a collector on a port (default: a free one)."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(8))
    traces, metrics = type("Traces", (), {})(), type("Metrics", (), {})()
    traces.Export, metrics.Export = collector.export_spans, collector.export_metrics
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(traces, server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(metrics, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    collector.address = f"http://127.0.0.1:{bound}"
    server.start()
    try:
        yield collector
    finally:
        collector.ended.set()
        server.stop(0).wait()
