"""Health checks (`grpc.health.v1`), which tell load balancers whether the server accepts calls.

The empty name and the name of each service are SERVING while the database answers; `liveness` is SERVING while the
process runs. Needs no authentication. All requests are answered in the polling thread, and a Watch occupies no thread.
Invariant: once draining, no service becomes SERVING again.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health  # type: ignore[import-untyped, unused-ignore]
from grpc_health.v1.health_pb2 import (  # type: ignore[import-untyped, unused-ignore]
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)

from storekeep.server.runtime.tasks import Task
from storekeep.server.transport.call_statuses import MALFORMED, NO_REQUEST, CallStatus
from storekeep.server.transport.streams import StreamCall
from storekeep.server.transport.unary import Route

LIVENESS = "liveness"
NO_SUCH_SERVICE = "?"
"""The name under which all watches of unknown services are kept. Services are never added while the server runs, and
names chosen by clients must not use memory."""
SERVICE = "grpc.health.v1.Health"
WATCH = f"{SERVICE}/Watch"
CHECKED_RECENTLY_S = 60.0
"""Time in seconds after a check in which the server counts as observed. Load balancers check every few seconds."""
SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING

log = logging.getLogger("storekeep.health")


class HealthServicer(health.HealthServicer):  # type: ignore[misc]  # grpc_health comes without types
    """The servicer of grpcio-health-checking, with List, and with watches that end when the server stops.

    Args:
        services: full names of the services that depend on the database.
    """

    def __init__(self, services: Iterable[str]) -> None:
        super().__init__()
        self._services = ("", *services)
        self._checked_s = -math.inf
        self.set(LIVENESS, SERVING)
        self.set_ready(False)

    def Check(self, request: HealthCheckRequest, context: Any) -> Any:  # noqa: N802
        """Return the status of a service. Calls below gRPC's Python layer use `get_status` instead."""
        self._record_check(request.service)
        return super().Check(request, context)

    def Watch(  # noqa: N802
        self, request: HealthCheckRequest, context: Any, send_response_callback: Callable[[Any], None] | None = None
    ) -> Any:
        """Send the status of a service now, and again whenever it changes."""
        self._record_check(request.service)
        if request.service not in self._server_status:
            request = HealthCheckRequest(service=NO_SUCH_SERVICE)
        return super().Watch(request, context, send_response_callback)

    def List(self, request: HealthListRequest, context: grpc.ServicerContext) -> HealthListResponse:  # noqa: N802
        """Return the status of every service. grpcio-health-checking lacks this method."""
        with self._lock:
            statuses = {name: HealthCheckResponse(status=status) for name, status in self._server_status.items()}
        return HealthListResponse(statuses=statuses)

    def get_status(self, service: str) -> int | None:
        """Return the status of a service for a check; None if it is unknown."""
        self._record_check(service)
        with self._lock:
            status: int | None = self._server_status.get(service)
            return status

    @property
    def state(self) -> str:
        """The name of the status of the whole server, such as `SERVING`."""
        with self._lock:
            return str(HealthCheckResponse.ServingStatus.Name(self._server_status[""]))

    @property
    def is_observed(self) -> bool:
        """Whether someone watches the status of the services or has checked it recently, such as a load balancer."""
        with self._lock:
            is_watched = any(self._send_response_callbacks.get(service) for service in self._services)
        return is_watched or time.monotonic() - self._checked_s < CHECKED_RECENTLY_S

    def _record_check(self, service: str) -> None:
        """Remember a check, unless it is of whether the process runs."""
        if service != LIVENESS:
            self._checked_s = time.monotonic()

    def set_ready(self, ready: bool) -> None:
        """Set the status of all services by whether the database answers."""
        for service in self._services:
            self.set(service, SERVING if ready else NOT_SERVING)

    def drain(self) -> None:
        """Set the status of all services to NOT_SERVING, permanently."""
        with self._lock:
            self.set_ready(False)
            self._gracefully_shutting_down = True

    def end_watches(self) -> None:
        """End every Watch after its last message."""
        with self._lock:
            callbacks = [send for watchers in self._send_response_callbacks.values() for send in watchers]
        for send in callbacks:
            send(None)


def _run_immediately(task: Task) -> bool:
    """Run a task in the polling thread; health checks are only lookups."""
    task()
    return True


def make_health_routes(servicer: HealthServicer) -> dict[str, Route]:
    """Return the routes of the unary methods, by path. Their calls are served in the polling thread."""

    def check(request: bytes, call: Any) -> HealthCheckResponse:
        service = _parse(HealthCheckRequest, request, call).service
        status = servicer.get_status(service)
        if status is None:
            call.abort(grpc.StatusCode.NOT_FOUND, "the service does not exist")
        return HealthCheckResponse(status=status)

    def list_all(request: bytes, call: Any) -> HealthListResponse:
        return servicer.List(_parse(HealthListRequest, request, call), call)

    def route(serve: Callable[[bytes, Any], Any]) -> Route:
        return Route(_run_immediately, lambda: True, serve, lambda reply: bytes(reply.SerializeToString()), _reject)

    return {f"/{SERVICE}/Check": route(check), f"/{SERVICE}/List": route(list_all)}


def _reject(_metadata: Any) -> CallStatus:
    """Return a placeholder: admission control never rejects health checks."""
    return NO_REQUEST


def _parse(kind: Any, request: bytes, call: Any) -> Any:
    try:
        return kind.FromString(request)
    except DecodeError:
        call.set_trailing_metadata(MALFORMED.trailing_metadata)
        call.abort(grpc.StatusCode.INVALID_ARGUMENT, MALFORMED.text.decode())


class Watches:
    """Serves the streams of Watch; a `StreamService`. A client that reads slowly gets only the latest status.

    Args:
        servicer: reports the statuses.
    """

    def __init__(self, servicer: HealthServicer) -> None:
        self._servicer = servicer
        self._lock = threading.Lock()
        self._watches: dict[StreamCall, _Watch] = {}

    def on_message(self, call: StreamCall, message: bytes | None) -> None:
        """Start to watch the requested service."""
        if message is None:
            call.end(NO_REQUEST)
            return
        try:
            request = HealthCheckRequest.FromString(message)
        except DecodeError:
            call.end(MALFORMED)
            return
        watch = self._watches[call] = _Watch()
        self._servicer.Watch(request, watch, partial(self._send, call, watch))

    def on_sent(self, call: StreamCall) -> None:
        """Send the latest status, if it changed while the previous one was being sent."""
        with self._lock:
            watch = self._watches.get(call)
            if watch is not None and watch.unsent is not None and call.send(watch.unsent):
                watch.unsent = None

    def on_end(self, call: StreamCall) -> None:
        """Stop watching."""
        watch = self._watches.pop(call, None)
        if watch is not None:
            for callback in watch.callbacks:
                callback()

    def _send(self, call: StreamCall, watch: _Watch, response: HealthCheckResponse | None) -> None:
        """Send a status, or end the stream if it is None. Runs in any thread."""
        if response is None:
            call.end()
            return
        message = bytes(response.SerializeToString())
        with self._lock:
            watch.unsent = None if call.send(message) else message


class _Watch:
    """One Watch, with the part of a `grpc.ServicerContext` that grpc_health uses.

    Attributes:
        callbacks: called when the watch ends.
        unsent: the latest status, while the previous one is being sent.
    """

    __slots__ = ("callbacks", "unsent")

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []
        self.unsent: bytes | None = None

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.callbacks.append(callback)
        return True


class Readiness:
    """Probes the database periodically, and reports whether it answers.

    Args:
        probe: queries the database, and raises if it does not answer properly. It may hang.
        report: called after the first probe and after each change.
        interval_s: seconds between probes.
        timeout_s: seconds after which a probe counts as failed.
    """

    def __init__(
        self, probe: Callable[[], None], report: Callable[[bool], None], *, interval_s: float, timeout_s: float
    ) -> None:
        self._probe = probe
        self._report = report
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._answered = threading.Event()
        self._error: Exception | None = None
        self._probing: threading.Thread | None = None
        self._stop = threading.Event()
        self._ready: bool | None = None
        self._thread = threading.Thread(target=self._run, name="readiness", daemon=True)

    def start(self) -> None:
        """Probe once, and then periodically in the background."""
        self.check()
        self._thread.start()

    def stop(self) -> None:
        """Stop the periodic probes."""
        self._stop.set()
        self._thread.join(timeout=self._timeout_s + self._interval_s)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.check()

    def check(self) -> None:
        """Probe once, and report a change. If the previous probe still hangs, no second one is started."""
        if self._probing is None or not self._probing.is_alive():
            self._answered.clear()
            self._probing = threading.Thread(target=self._run_probe, name="readiness-probe", daemon=True)
            self._probing.start()
        ready = self._answered.wait(self._timeout_s) and self._error is None
        if ready != self._ready:
            self._ready = ready
            if not ready:
                log.error("the database does not answer", exc_info=self._error)
            self._report(ready)

    def _run_probe(self) -> None:
        try:
            self._probe()
            self._error = None
        except Exception as error:  # noqa: BLE001 - any error means that the database does not answer
            self._error = error
        self._answered.set()
