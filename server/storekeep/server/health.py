"""Health (`grpc.health.v1`): whether the server takes calls, as load balancers and people ask it.

The empty name and each service's are SERVING while the database answers; `liveness` is SERVING as long as
the process does. Needs no token. Invariant: once draining, nothing is SERVING again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

import grpc
from grpc_health.v1 import health  # type: ignore[import-untyped, unused-ignore]
from grpc_health.v1.health_pb2 import (  # type: ignore[import-untyped, unused-ignore]
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)

LIVENESS = "liveness"
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

    def List(self, request: HealthListRequest, context: grpc.ServicerContext) -> HealthListResponse:  # noqa: N802
        """The state of every service; missing in grpcio-health-checking."""
        with self._lock:
            statuses = {name: HealthCheckResponse(status=status) for name, status in self._server_status.items()}
        return HealthListResponse(statuses=statuses)

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
        """End every Watch, which would otherwise hold the server up until it gives up waiting."""
        with self._lock:
            watches = [end for watching in self._send_response_callbacks.values() for end in watching]
        for end in watches:
            end(None)


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
