"""Health (`grpc.health.v1`): whether the server takes calls, as load balancers and people ask it.

The empty name and each service's are SERVING while the database answers; `liveness` is SERVING as long as
the process does. Needs no token, and waits for nobody: every question is answered in the polling
thread, and a Watch holds no thread. Invariant: once draining, nothing is SERVING again.
"""

from __future__ import annotations

import logging
import threading
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
from storekeep.server.transport.errors import MalformedMessage
from storekeep.server.transport.streams import StreamCall
from storekeep.server.transport.unary import NO_REQUEST, Refusal, Route, number_of

LIVENESS = "liveness"
NO_SUCH_SERVICE = "?"
"""What watchers of unknown services watch, all of them: services are never added later, and names are the caller's."""
SERVICE = "grpc.health.v1.Health"
WATCH = f"{SERVICE}/Watch"
MALFORMED = Refusal(
    number_of(grpc.StatusCode.INVALID_ARGUMENT), f"{MalformedMessage()} [MALFORMED_MESSAGE]".encode(), ()
)
SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING

log = logging.getLogger("storekeep.health")


class HealthServicer(health.HealthServicer):  # type: ignore[misc]  # grpc_health comes without types
    """The official servicer, with List, and with streams that end when the server stops.

    Args:
        services: full names of the services that need the database.
    """

    def __init__(self, services: Iterable[str]) -> None:
        super().__init__()
        self._services = ("", *services)
        self.set(LIVENESS, SERVING)
        self.set_ready(False)

    def Watch(  # noqa: N802
        self, request: HealthCheckRequest, context: Any, send_response_callback: Callable[[Any], None] | None = None
    ) -> Any:
        """Tell of a service at once and whenever its state changes."""
        if request.service not in self._server_status:
            request = HealthCheckRequest(service=NO_SUCH_SERVICE)
        return super().Watch(request, context, send_response_callback)

    def List(self, request: HealthListRequest, context: grpc.ServicerContext) -> HealthListResponse:  # noqa: N802
        """The state of every service; missing in grpcio-health-checking."""
        with self._lock:
            statuses = {name: HealthCheckResponse(status=status) for name, status in self._server_status.items()}
        return HealthListResponse(statuses=statuses)

    def status_of(self, service: str) -> int | None:
        """The state of a service; None where there is no such service."""
        with self._lock:
            status: int | None = self._server_status.get(service)
            return status

    @property
    def state(self) -> str:
        """Of the server as a whole, by its name."""
        with self._lock:
            return str(HealthCheckResponse.ServingStatus.Name(self._server_status[""]))

    def set_ready(self, ready: bool) -> None:
        """Say whether the database answers."""
        for service in self._services:
            self.set(service, SERVING if ready else NOT_SERVING)

    def drain(self) -> None:
        """Say NOT_SERVING for good."""
        with self._lock:
            self.set_ready(False)
            self._gracefully_shutting_down = True

    def end_watches(self) -> None:
        """End every Watch, after what it was told last."""
        with self._lock:
            watches = [end for watching in self._send_response_callbacks.values() for end in watching]
        for end in watches:
            end(None)


def _run_now(task: Task) -> bool:
    """Answer a call where it is received: these only look something up."""
    task()
    return True


def health_routes(servicer: HealthServicer) -> dict[str, Route]:
    """How calls of the unary methods are served: in the polling thread, which waits for nobody."""

    def check(request: bytes, call: Any) -> HealthCheckResponse:
        service = _parse(HealthCheckRequest, request, call).service
        status = servicer.status_of(service)
        if status is None:
            call.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return HealthCheckResponse(status=status)

    def list_all(request: bytes, call: Any) -> HealthListResponse:
        return servicer.List(_parse(HealthListRequest, request, call), call)

    def route(serve: Callable[[bytes, Any], Any]) -> Route:
        return Route(_run_now, lambda: False, serve, lambda reply: bytes(reply.SerializeToString()), _refuse_nobody)

    return {f"/{SERVICE}/Check": route(check), f"/{SERVICE}/List": route(list_all)}


def _refuse_nobody(_metadata: Any) -> Refusal:
    """These calls are never refused for how much there is to do."""
    return NO_REQUEST


def _parse(kind: Any, request: bytes, call: Any) -> Any:
    try:
        return kind.FromString(request)
    except DecodeError:
        call.abort(grpc.StatusCode.INVALID_ARGUMENT, MALFORMED.text.decode())


class Watches:
    """Serves the streams of Watch; a `StreamService`. A client that does not read finds the latest state only."""

    def __init__(self, servicer: HealthServicer) -> None:
        self._servicer = servicer
        self._lock = threading.Lock()
        self._watches: dict[StreamCall, _Watch] = {}

    def receive(self, call: StreamCall, message: bytes | None) -> None:
        """Begin to tell of the service that is asked for."""
        if message is None:
            call.end(NO_REQUEST)
            return
        try:
            request = HealthCheckRequest.FromString(message)
        except DecodeError:
            call.end(MALFORMED)
            return
        watch = self._watches[call] = _Watch()
        self._servicer.Watch(request, watch, partial(self._tell, call, watch))

    def sent(self, call: StreamCall) -> None:
        """Send what has changed meanwhile."""
        with self._lock:
            watch = self._watches.get(call)
            if watch is not None and watch.unsent is not None and call.send(watch.unsent):
                watch.unsent = None

    def ended(self, call: StreamCall) -> None:
        """Tell it no more."""
        watch = self._watches.pop(call, None)
        if watch is not None:
            for callback in watch.callbacks:
                callback()

    def _tell(self, call: StreamCall, watch: _Watch, response: HealthCheckResponse | None) -> None:
        """Send a state, in any thread, or that there will be none."""
        if response is None:
            call.end()
            return
        message = bytes(response.SerializeToString())
        with self._lock:
            watch.unsent = None if call.send(message) else message


class _Watch:
    """One Watch, and the part of a `grpc.ServicerContext` that grpc_health uses.

    Attributes:
        callbacks: called at its end.
        unsent: the latest state, where the one before is still being sent.
    """

    __slots__ = ("callbacks", "unsent")

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []
        self.unsent: bytes | None = None

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.callbacks.append(callback)
        return True


class Readiness:
    """Asks the database now and then whether it answers, and tells health.

    Args:
        probe: asks; raises when the answer is bad. It may hang.
        tell: is told at the first answer and at each change.
        interval_s: between two questions.
        timeout_s: how long an answer may take.
    """

    def __init__(
        self, probe: Callable[[], None], tell: Callable[[bool], None], *, interval_s: float, timeout_s: float
    ) -> None:
        self._probe = probe
        self._tell = tell
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._answered = threading.Event()
        self._error: Exception | None = None
        self._asking: threading.Thread | None = None
        self._stop = threading.Event()
        self._ready: bool | None = None
        self._thread = threading.Thread(target=self._run, name="readiness", daemon=True)

    def start(self) -> None:
        """Ask for the first time, and then on and on."""
        self.ask()
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()
        self._thread.join(timeout=self._timeout_s + self._interval_s)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.ask()

    def ask(self) -> None:
        """Ask once and tell what changed. A question that is still open is not asked a second time."""
        if self._asking is None or not self._asking.is_alive():
            self._answered.clear()
            self._asking = threading.Thread(target=self._answer, name="readiness-probe", daemon=True)
            self._asking.start()
        ready = self._answered.wait(self._timeout_s) and self._error is None
        if ready != self._ready:
            self._ready = ready
            if not ready:
                log.error("the database does not answer", exc_info=self._error)
            self._tell(ready)

    def _answer(self) -> None:
        try:
            self._probe()
            self._error = None
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no answer
            self._error = error
        self._answered.set()
