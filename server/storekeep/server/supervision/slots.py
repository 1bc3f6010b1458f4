"""Slots: the place of one worker, and who is in it: the process that serves, its successor, and who is on its way out.

Invariant: a process that serves leaves only when its successor serves, unless it dies or all stop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from storekeep.server.supervision.spawning import WorkerProcess
from storekeep.server.telemetry.counts import Counts, add_counts
from storekeep.server.telemetry.status import DOWN, STARTING, WorkerView

START_TIMEOUT_S = 60.0
"""How long a process may take until it serves: some seconds on a busy machine."""
BACKOFF_FIRST_S = 0.1
"""Before a dead worker is replaced: it is missed, so at once, but for a moment in which a cause may pass."""
BACKOFF_MAX_S = 10.0
"""The wait doubles with each death up to this: starting costs a second of a core, which those that live need."""
STEADY_S = 60.0
"""A worker that has lived so long has not died of its start; its successor waits as little as the first."""

log = logging.getLogger("storekeep.supervisor")

Spawn = Callable[[int], WorkerProcess]


class Slot:
    """The place of one worker.

    Args:
        number: of the worker.
        spawn: starts a process for the worker with a number.
        publish: is told of each process that serves from now on.

    Attributes:
        current: who serves; None while nobody does.
        successor: who is just starting.
        leaving: who drains, because it was replaced.
        restarts: how often one that served has died.
        ended: what those counted that are gone.
    """

    def __init__(self, number: int, *, spawn: Spawn, publish: Callable[[WorkerProcess], None]) -> None:
        self.number = number
        self.current: WorkerProcess | None = None
        self.successor: WorkerProcess | None = None
        self.leaving: WorkerProcess | None = None
        self.restarts = 0
        self.ended = Counts()
        self._spawn = spawn
        self._publish = publish
        self._failures = 0
        self._due_s = 0.0

    def processes(self) -> Iterator[WorkerProcess]:
        """All that there are."""
        for process in (self.current, self.successor, self.leaving):
            if process is not None:
                yield process

    @property
    def is_settled(self) -> bool:
        """Whether one process serves, and nobody comes or goes."""
        return self.current is not None and self.successor is None and self.leaving is None

    def fill(self) -> None:
        """Start a process where there is none, and the last one is long enough ago."""
        if self.current is None and self.successor is None and time.monotonic() >= self._due_s:
            self.replace()

    def replace(self) -> None:
        """Start a successor."""
        self.successor = self._spawn(self.number)

    def look(self, *, drain_within_s: float) -> str:
        """See what has become of the processes, and have the successor take over where it is ready.

        Args:
            drain_within_s: how long who is replaced may take to end.

        Returns: why the successor has failed, in one line; empty where it has not.
        """
        self._see_leaving()
        self._see_current()
        problem = self._see_successor()
        if self.successor is not None and self.successor.is_ready:
            self._succeed(drain_within_s)
        return problem

    def see_end(self) -> None:
        """See which processes have ended, now that all of them were told to."""
        self.current, self.successor, self.leaving = (
            self._unless_ended(process) for process in (self.current, self.successor, self.leaving)
        )

    def _see_leaving(self) -> None:
        self.leaving = self._unless_ended(self.leaving)

    def _unless_ended(self, process: WorkerProcess | None) -> WorkerProcess | None:
        """A process that was told to end; None when it has. One that takes too long is killed."""
        if process is None:
            return None
        if process.ended_by_s is not None and time.monotonic() > process.ended_by_s:
            log.error("a worker does not end; it is killed", extra={"of_worker": self.number})
            process.kill()
        if process.exit_code is None:
            return process
        self._bury(process)
        return None

    def _see_current(self) -> None:
        current = self.current
        if current is None or current.exit_code is None:
            return
        lived_s = time.monotonic() - current.started_s
        self.restarts += 1
        self._back_off(lived_s=lived_s)
        log.error(
            "a worker died",
            extra={"of_worker": self.number, "process_id": current.process_id, "exit_code": current.exit_code},
        )
        self._bury(current)
        self.current = None

    def _see_successor(self) -> str:
        successor = self.successor
        if successor is None or successor.is_ready:
            return ""
        late = time.monotonic() - successor.started_s > START_TIMEOUT_S
        if late:
            successor.kill()
        if successor.exit_code is None:
            return ""
        problem = successor.refusal or f"it ended with code {successor.exit_code} before it served; see its log"
        self._back_off(lived_s=0.0)
        log.error(
            "a worker could not start", extra={"of_worker": self.number, "problem": problem, "waited_too_long": late}
        )
        self._bury(successor)
        self.successor = None
        return f"worker {self.number}: {problem}"

    def _succeed(self, drain_within_s: float) -> None:
        if self.current is not None:
            self.current.leave(within_s=drain_within_s)
            self.leaving = self.current
        self.current, self.successor = self.successor, None
        if self.current is not None:
            self._publish(self.current)

    def _back_off(self, *, lived_s: float) -> None:
        self._failures = 0 if lived_s > STEADY_S else self._failures
        self._due_s = time.monotonic() + min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0**self._failures)
        self._failures += 1

    def _bury(self, process: WorkerProcess) -> None:
        if process.report is not None:
            self.ended = add_counts([self.ended, process.report.counts])
        process.close()

    def counts_of_others(self) -> Counts:
        """What was counted by those that are gone, or not, or no longer, the one that serves."""
        others = [process.report.counts for process in (self.successor, self.leaving) if process and process.report]
        return add_counts([self.ended, *others])

    def view(self, *, has_answered: bool) -> WorkerView:
        """How the worker is.

        Args:
            has_answered: whether the process that serves did, when it was asked.
        """
        current = self.current
        if current is None:
            state = DOWN if self.successor is None else STARTING
            return WorkerView(number=self.number, process_id=0, state=state, restarts=self.restarts)
        return WorkerView(
            number=self.number,
            process_id=current.process_id,
            state=current.report.state if has_answered and current.report else DOWN,
            restarts=self.restarts,
            report=current.report,
        )
