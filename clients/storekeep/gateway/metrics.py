"""Metrics of the gateway: requests and durations by route template, never by path, so their number is bounded."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one gateway process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "storekeep_gateway_requests",
            "Finished requests by method, route and HTTP status.",
            ("method", "route", "code"),
            registry=self.registry,
        )
        self._durations = Histogram(
            "storekeep_gateway_request_seconds",
            "Duration of requests until the last byte of the reply was handed to the connection.",
            ("method", "route"),
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "storekeep_gateway_requests_in_flight", "Requests that are being answered.", registry=self.registry
        )

        self.closed_connections = Counter(
            "storekeep_gateway_closed_connections",
            "Connections that were closed because their address had too many.",
            registry=self.registry,
        )

    def record(self, method: str, route: str, code: int, duration_s: float) -> None:
        """Count a finished request. `method` is empty for a path without a route, so callers cannot add series."""
        self._requests.labels(method, route, str(code)).inc()
        self._durations.labels(method, route).observe(duration_s)

    def format(self) -> bytes:
        """Return the metrics in the text format of Prometheus."""
        return generate_latest(self.registry)
