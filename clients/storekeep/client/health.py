"""Health checks of the server and its services (`grpc.health.v1`), without an access token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Unpack

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped, unused-ignore]

from storekeep.client.calls import CallOptions, Calls


class HealthStatus(Enum):
    """Serving status of a service, with the values of `grpc.health.v1`."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3
    """The server has no such service. Only `watch` returns this."""


class Health:
    """Checks and watches the health of the server."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = health_pb2_grpc.HealthStub(channel)

    def check(self, service: str = "", **options: Unpack[CallOptions]) -> HealthStatus:
        """Return the status of a service by its full name, or of the whole server if the name is empty.

        Raises: UnexpectedStatus with NOT_FOUND if the server has no such service.
        """
        request = health_pb2.HealthCheckRequest(service=service)
        return HealthStatus(self._calls.read_public(self._stub.Check, request, **options).status)

    def list(self, **options: Unpack[CallOptions]) -> Mapping[str, HealthStatus]:
        """Return the status of every service by its full name. The empty name is the whole server."""
        reply = self._calls.read_public(self._stub.List, health_pb2.HealthListRequest(), **options)
        return {name: HealthStatus(answer.status) for name, answer in reply.statuses.items()}

    def watch(self, service: str = "", *, timeout_s: float | None = None) -> Iterator[HealthStatus]:
        """Yield the status of a service now and on every change, for `timeout_s` seconds (default: indefinitely).

        Raises: CallTimedOut after `timeout_s`, ServerUnreachable when the connection is lost.
        """
        request = health_pb2.HealthCheckRequest(service=service)
        for answer in self._calls.stream_public(self._stub.Watch, request, timeout_s=timeout_s):
            yield HealthStatus(answer.status)
