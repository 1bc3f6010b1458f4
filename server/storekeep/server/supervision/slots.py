"""Slots: each holds the processes of one worker number: the serving one, its successor and the retiring one.

Invariant: a serving process retires only when its successor serves, unless it dies or the server stops.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from storekeep.server.supervision.spawning import WorkerProcess
from storekeep.server.telemetry.counts import Counts, add_counts
from storekeep.server.telemetry.status import DOWN, STARTING, WorkerStatus

START_TIMEOUT_S = 60.0
"""Maximum time in seconds for a process to start: some seconds on a busy host."""
BACKOFF_FIRST_S = 0.1
"""Delay in seconds before a dead worker is replaced: short, because it is missed, but a cause may pass."""
BACKOFF_MAX_S = 10.0
"""Maximum delay in seconds. It doubles with each failure, because a start takes a second of CPU from live workers."""
STABLE_AFTER_S = 60.0
"""A death after this uptime in seconds is unrelated to the start and resets the backoff."""

log = logging.getLogger("storekeep.supervisor")

Spawn = Callable[[int], WorkerProcess]


class Slot:
    """The processes of one worker number.

    Args:
        number: of the worker.
        spawn: starts a process for a worker number.
        publish: called with each process that begins to serve.

    Attributes:
        current: the serving process; None if there is none.
        successor: the process that is starting.
        retiring: the replaced process, which drains.
        restarts: number of deaths of serving processes.
        ended_counts: the counts of processes that have exited.
    """

    def __init__(self, number: int, *, spawn: Spawn, publish: Callable[[WorkerProcess], None]) -> None:
        self.number = number
        self.current: WorkerProcess | None = None
        self.successor: WorkerProcess | None = None
        self.retiring: WorkerProcess | None = None
        self.restarts = 0
        self.ended_counts = Counts()
        self._spawn = spawn
        self._publish = publish
        self._failures = 0
        self._next_start_s = 0.0

    def processes(self) -> Iterator[WorkerProcess]:
        """Yield every process of the slot."""
        for process in (self.current, self.successor, self.retiring):
            if process is not None:
                yield process

    @property
    def is_stable(self) -> bool:
        """Return whether one process serves and none is starting or retiring."""
        return self.current is not None and self.successor is None and self.retiring is None

    def start_if_due(self) -> None:
        """Start a process if there is none and the backoff is over."""
        if self.current is None and self.successor is None and time.monotonic() >= self._next_start_s:
            self.replace()

    def replace(self) -> None:
        """Start a successor."""
        self.successor = self._spawn(self.number)

    def poll(self, *, drain_within_s: float) -> str:
        """Update the state of the processes, and let the successor take over when it is ready.

        Args:
            drain_within_s: maximum time in seconds for the replaced process to exit.

        Returns: why the successor failed to start, in one line; empty if it did not fail.
        """
        self._poll_retiring()
        self._poll_current()
        problem = self._poll_successor()
        if self.successor is not None and self.successor.is_ready:
            self._promote_successor(drain_within_s)
        return problem

    def poll_exit(self) -> None:
        """Reap the processes that have exited after all were told to."""
        self.current, self.successor, self.retiring = (
            self._reap_if_exited(process) for process in (self.current, self.successor, self.retiring)
        )

    def _poll_retiring(self) -> None:
        self.retiring = self._reap_if_exited(self.retiring)

    def _reap_if_exited(self, process: WorkerProcess | None) -> WorkerProcess | None:
        """Return the process, or None after it has exited. Kill it if it has passed its deadline."""
        if process is None:
            return None
        if process.exit_deadline_s is not None and time.monotonic() > process.exit_deadline_s:
            log.error("a worker did not exit in time and is killed", extra={"of_worker": self.number})
            process.kill()
        if process.exit_code is None:
            return process
        self._reap(process)
        return None

    def _poll_current(self) -> None:
        current = self.current
        if current is None or current.exit_code is None:
            return
        uptime_s = time.monotonic() - current.started_s
        self.restarts += 1
        self._back_off(uptime_s=uptime_s)
        log.error(
            "a worker died",
            extra={"of_worker": self.number, "process_id": current.process_id, "exit_code": current.exit_code},
        )
        self._reap(current)
        self.current = None

    def _poll_successor(self) -> str:
        successor = self.successor
        if successor is None or successor.is_ready:
            return ""
        late = time.monotonic() - successor.started_s > START_TIMEOUT_S
        if late:
            successor.kill()
        if successor.exit_code is None:
            return ""
        problem = successor.start_problem or f"exited with code {successor.exit_code} during startup; see its log"
        self._back_off(uptime_s=0.0)
        log.error(
            "a worker could not start", extra={"of_worker": self.number, "problem": problem, "waited_too_long": late}
        )
        self._reap(successor)
        self.successor = None
        return f"worker {self.number}: {problem}"

    def _promote_successor(self, drain_within_s: float) -> None:
        if self.current is not None:
            self.current.retire(within_s=drain_within_s)
            self.retiring = self.current
        self.current, self.successor = self.successor, None
        if self.current is not None:
            self._publish(self.current)

    def _back_off(self, *, uptime_s: float) -> None:
        self._failures = 0 if uptime_s > STABLE_AFTER_S else self._failures
        self._next_start_s = time.monotonic() + min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0**self._failures)
        self._failures += 1

    def _reap(self, process: WorkerProcess) -> None:
        if process.report is not None:
            self.ended_counts = add_counts([self.ended_counts, process.report.counts])
        process.close()

    def add_other_counts(self) -> Counts:
        """Return the sum of the counts of all processes except the serving one: exited, starting and retiring."""
        others = [process.report.counts for process in (self.successor, self.retiring) if process and process.report]
        return add_counts([self.ended_counts, *others])

    def view(self, *, has_answered: bool) -> WorkerStatus:
        """Return the state of the worker.

        Args:
            has_answered: whether the serving process answered the last request for a report.
        """
        current = self.current
        if current is None:
            state = DOWN if self.successor is None else STARTING
            return WorkerStatus(number=self.number, process_id=0, state=state, restarts=self.restarts)
        return WorkerStatus(
            number=self.number,
            process_id=current.process_id,
            state=current.report.state if has_answered and current.report else DOWN,
            restarts=self.restarts,
            report=current.report,
        )
