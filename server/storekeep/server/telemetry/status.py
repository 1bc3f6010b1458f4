"""Server status: the state of a server and its workers at one moment, for the metrics and health endpoints."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from storekeep.server.telemetry.counts import Counts

SERVING = "SERVING"
"""A state of `grpc.health.v1`, as all states except `STARTING` and `DOWN`."""
STARTING = "STARTING"
DOWN = "DOWN"


class Gauge(msgspec.Struct, frozen=True):
    """A number that rises and falls.

    Attributes:
        name: Name of the metric; see `prometheus.GAUGES`.
        label: Value of its own label; empty if it has none. All have the label `worker`.
        value: The number.
    """

    name: str
    label: str
    value: float


class Report(msgspec.Struct, frozen=True, tag=True):
    """The report of one process about itself.

    Attributes:
        state: Overall state of its health service.
        serves_writes: Whether it serves writes itself.
        queued: Number of writes that wait for a commit.
        counts: Counts since it started.
        log_bytes: Size of SQLite's write-ahead log, in bytes; 0 on PostgreSQL.
        gauges: Other numbers at this moment.
    """

    state: str
    serves_writes: bool
    queued: int
    counts: Counts
    log_bytes: int = 0
    gauges: tuple[Gauge, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """The status of one worker.

    Attributes:
        number: Number of the worker, from 0.
        process_id: Id of its process; 0 if it has none.
        state: State that it reports, `STARTING`, or `DOWN` if it does not answer.
        restarts: How often it died and was replaced.
        report: Its last report; None before the first one.
    """

    number: int
    process_id: int
    state: str
    restarts: int = 0
    report: Report | None = None

    @property
    def is_alive(self) -> bool:
        """Whether its process answers or is starting."""
        return self.state != DOWN

    @property
    def is_serving(self) -> bool:
        """Whether it accepts calls."""
        return self.state == SERVING

    @property
    def serves_writes(self) -> bool:
        """Whether it accepts calls and serves writes itself."""
        return self.is_serving and self.report is not None and self.report.serves_writes


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The status of a server.

    Attributes:
        workers: Its workers, by number.
        ended: Counts of workers that have stopped or are stopping.
        supervisor_id: Process id of the supervisor; 0 for a single-process server.
    """

    workers: tuple[WorkerStatus, ...]
    ended: Counts = field(default_factory=Counts)
    supervisor_id: int = 0

    @property
    def is_ready(self) -> bool:
        """Whether the server accepts all calls, so that at least one worker serves writes."""
        return any(worker.serves_writes for worker in self.workers)
