"""Health: whether the server, and each of its services, takes calls (`grpc.health.v1`). Needs no token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Unpack

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped, unused-ignore]

from storekeep.client.calls import CallOptions, Calls


class HealthStatus(Enum):
    """Whether a service takes calls; the values are those of `grpc.health.v1`."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3
    """The server has no such service; only a watch says so."""


class Health:
    """Asks the server how it is."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = health_pb2_grpc.HealthStub(channel)

    def check(self, service: str = "", **options: Unpack[CallOptions]) -> HealthStatus:
        """Ask for the status of a service, by its full name; of the server as a whole when empty.

        Raises: UnexpectedStatus with NOT_FOUND when there is no such service.
        """
        request = health_pb2.HealthCheckRequest(service=service)
        return HealthStatus(self._calls.read_public(self._stub.Check, request, **options).status)

    def list(self, **options: Unpack[CallOptions]) -> Mapping[str, HealthStatus]:
        """Ask for the status of every service, by name; the empty name is the server as a whole."""
        reply = self._calls.read_public(self._stub.List, health_pb2.HealthListRequest(), **options)
        return {name: HealthStatus(answer.status) for name, answer in reply.statuses.items()}

    def watch(self, service: str = "", *, timeout_s: float | None = None) -> Iterator[HealthStatus]:
        """Yield the status of a service now, and again whenever it changes, for `timeout_s` seconds or for good.

        Raises: CallTimedOut when the time is over, ServerUnreachable when the server is gone.
        """
        request = health_pb2.HealthCheckRequest(service=service)
        for answer in self._calls.stream_public(self._stub.Watch, request, timeout_s=timeout_s):
            yield HealthStatus(answer.status)
