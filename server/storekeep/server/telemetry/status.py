"""Overviews: how a server is at one moment, worker by worker; what the pages of metrics and health are made of."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from storekeep.server.telemetry.counts import Counts

SERVING = "SERVING"
"""As `grpc.health.v1` calls it; so are the other states, but for those of a worker that does not answer."""
STARTING = "STARTING"
DOWN = "DOWN"


class Report(msgspec.Struct, frozen=True, tag=True):
    """What a process says of itself.

    Attributes:
        state: of the server as a whole, as its health service tells it.
        writes: whether it is the one that may change the database, or one of several that may.
        queued: writes that wait for the store.
    """

    state: str
    writes: bool
    queued: int
    counts: Counts


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker, as it is seen from outside.

    Attributes:
        number: from 0.
        process_id: 0 while there is no process.
        state: what it says of itself, `STARTING`, or `DOWN` where it does not answer.
        restarts: how often it was replaced because it had died.
        report: the last that it gave; None where there is none yet.
    """

    number: int
    process_id: int
    state: str
    restarts: int = 0
    report: Report | None = None

    @property
    def is_alive(self) -> bool:
        """Whether there is a process, and it answers or is just starting."""
        return self.state != DOWN

    @property
    def is_serving(self) -> bool:
        """Whether it takes calls."""
        return self.state == SERVING

    @property
    def writes(self) -> bool:
        """Whether it changes the database now."""
        return self.is_serving and self.report is not None and self.report.writes


@dataclass(frozen=True, slots=True)
class Overview:
    """A whole server.

    Attributes:
        workers: in the order of their numbers.
        ended: what workers counted that are gone, or about to go.
        supervisor_id: the process that looks after them; 0 where one process is all there is.
    """

    workers: tuple[WorkerView, ...]
    ended: Counts = field(default_factory=Counts)
    supervisor_id: int = 0

    @property
    def is_ready(self) -> bool:
        """Whether all kinds of calls are answered: somebody serves, and somebody writes."""
        return any(worker.is_serving for worker in self.workers) and any(worker.writes for worker in self.workers)
