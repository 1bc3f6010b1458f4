"""The supervisor: one process that holds the database's lock and the port, and keeps several workers serving.

It answers no call itself. SIGTERM drains all workers, SIGHUP replaces them one at a time with the settings as they are
now, and one that dies is replaced. Invariant: no worker outlives it.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections import deque
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from storekeep.server.config import PREFIX, LoadedSettings, Settings, changed_settings
from storekeep.server.process.console import (
    announced,
    keep_admin_key,
    offer_sample,
    say_where_admin_key_is,
    warn_of_open_data_dir,
)
from storekeep.server.process.reloads import is_abandoned, reload_settings
from storekeep.server.process.signals import SIGNALS, STOP_SIGNALS, ignore_meaningless_signals
from storekeep.server.runtime.ports import reserve_port
from storekeep.server.store.locks import lock
from storekeep.server.store.opening import open_store, serve_lock
from storekeep.server.store.schema import check_schema
from storekeep.server.supervision.control import Order, pack_settings
from storekeep.server.supervision.signals import SignalQueue
from storekeep.server.supervision.slots import Slot
from storekeep.server.supervision.spawning import WorkerProcess
from storekeep.server.telemetry.counts import add_counts
from storekeep.server.telemetry.http import Pages
from storekeep.server.telemetry.logs import Logs
from storekeep.server.telemetry.status import Overview
from storekeep.server.transport.leadership import LOG_TURNS_FILE, WorkerFolder
from storekeep.server.wiring.access import make_admin_key

WATCHED = {*SIGNALS, signal.SIGCHLD}
BUSY_TICK_S = 0.05
"""How often workers are looked at while one comes or goes; a death is told by SIGCHLD at once."""
IDLE_TICK_S = 1.0
ANSWER_TIMEOUT_S = 1.0
"""How long the workers have to answer all together; a page that waits longer is worse than one that says DOWN."""
STOPPED_S = 5.0
"""The supervisor looks at the workers at least each second; where it has not for so long, it was stopped itself, by
Ctrl-Z, a debugger or a frozen container."""
AT_ONCE_S = 1.0
"""How long a worker that is told to end at once has to write its log."""
END_MARGIN_S = 10.0
"""What a worker may take longer to end than its settings say, before it is killed."""
FIXED = frozenset({"data_dir", "database_url", "listen", "metrics_listen", "secret", "secret_previous", "workers"})
"""Settings that the supervisor itself has built upon: they change with its next start only."""

log = logging.getLogger("storekeep.supervisor")


class WorkerFailed(Exception):
    """A worker could not be started, so there is no server."""


def supervise(loaded: LoadedSettings, *, sample: bool = False, address_file: Path | None = None) -> None:
    """Serve with several workers until a signal says to stop; see `serving.serve`.

    Raises: WorkerFailed, and one of `REFUSALS`.
    """
    settings = loaded.settings
    folder = WorkerFolder(settings.workers_dir)
    with (
        serve_lock(settings.database),
        lock(settings.workers_dir, purpose="serve"),
        reserve_port(settings.listen) as address,
    ):
        check_schema(settings.database)
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        ignore_meaningless_signals()
        folder.make()
        logs = Logs(
            level=settings.log_level,
            file=settings.log_file,
            queue_max=settings.log_queue_max,
            turns=folder.path / LOG_TURNS_FILE,
        )
        warn_of_open_data_dir(settings)
        with closing(open_store(settings.database, limits=settings.database_limits)) as store:
            if make_admin_key(settings, store, keep=partial(keep_admin_key, data_dir=settings.data_dir), force=False):
                say_where_admin_key_is(settings.data_dir)
            has_sample = offer_sample(store, wanted=sample)
        supervisor = Supervisor(loaded, address=address, folder=folder, logs=logs)
        pages = Pages(settings.metrics_listen, supervisor.overview)
        try:
            if supervisor.start():
                with announced(
                    address,
                    pages=pages.address,
                    data_dir=settings.data_dir,
                    has_sample=has_sample,
                    address_file=address_file,
                ):
                    supervisor.run()
        finally:
            supervisor.kill()
            pages.close()
            logs.close()


class Supervisor:
    """Keeps the workers.

    Args:
        loaded: the settings, and how they are read again.
        address: the port that they share.
        folder: where they have sockets of their own.
        logs: written when it ends at once.
    """

    def __init__(self, loaded: LoadedSettings, *, address: str, folder: WorkerFolder, logs: Logs) -> None:
        self._loaded = loaded
        self._proven = loaded
        self._address = address
        self._folder = folder
        self._logs = logs
        self._cpus = sorted(os.sched_getaffinity(0))
        self._slots = [
            Slot(number, spawn=self._spawn, publish=self._publish) for number in range(loaded.settings.workers)
        ]
        self._to_replace: deque[Slot] = deque()
        self._state = threading.Lock()
        self._stopping = False
        self._signals = SignalQueue(WATCHED)
        self._ticked_s = time.monotonic()

    @property
    def _settings(self) -> Settings:
        return self._loaded.settings

    def _packed(self) -> dict[str, Any]:
        """The settings of a worker that is started now."""
        return pack_settings(self._settings, listen=self._address)

    def _spawn(self, number: int) -> WorkerProcess:
        cpu = self._cpus[number % len(self._cpus)]
        return WorkerProcess(Order(number=number, cpu=cpu, settings=self._packed()))

    def _publish(self, process: WorkerProcess) -> None:
        if process.settings == self._packed():
            self._proven = self._loaded
        self._folder.link(str(process.number), to=f"{process.number}.{process.process_id}")
        log.info("a worker serves", extra={"of_worker": process.number, "process_id": process.process_id})

    # -- from start to end

    def start(self) -> bool:
        """Start all workers and wait until each serves.

        Returns: False where a signal said to stop meanwhile; then all are gone.

        Raises: WorkerFailed.
        """
        while not all(slot.is_settled for slot in self._slots):
            if self._stopping:
                self.run()
                return False
            for problem in self._tick():
                raise WorkerFailed(problem)
            self._hear(BUSY_TICK_S)
        return True

    def run(self) -> None:
        """Keep them until a signal says to stop, and all have."""
        while not (self._stopping and not any(self._processes())):
            self._tick()
            self._hear(IDLE_TICK_S if self._is_quiet() else BUSY_TICK_S)

    def _is_quiet(self) -> bool:
        return not self._stopping and not self._to_replace and all(slot.is_settled for slot in self._slots)

    def _processes(self) -> list[WorkerProcess]:
        return [process for slot in self._slots for process in slot.processes()]

    def kill(self) -> None:
        """End whoever is still there."""
        for process in self._processes():
            process.kill()

    def _tick(self) -> list[str]:
        """Look at every worker and do what is due; gives why workers failed that were just starting."""
        self._allow_for_a_stop()
        with self._state:
            if self._stopping:
                for slot in self._slots:
                    slot.see_end()
                return []
            found = [slot.look(drain_within_s=self._end_within_s) for slot in self._slots]
            problems = [problem for problem in found if problem]
            if problems:
                self._doubt_new_settings()
            for slot in self._slots:
                slot.fill()
            if self._to_replace and all(slot.is_settled for slot in self._slots):
                self._to_replace.popleft().replace()
        return problems

    def _allow_for_a_stop(self) -> None:
        """Give the workers more time where this process was stopped, as they may have been with it."""
        now_s = time.monotonic()
        away_s, self._ticked_s = now_s - self._ticked_s, now_s
        if away_s > STOPPED_S:
            for process in self._processes():
                process.allow(away_s)

    # -- signals

    def _hear(self, timeout_s: float) -> None:
        """Wait for a signal, or for the next look at the workers, and do what it says."""
        number = self._signals.next(timeout_s=timeout_s)
        if number in STOP_SIGNALS or (number == signal.SIGHUP and is_abandoned()):
            self._stop(number)
        elif number == signal.SIGHUP and not self._stopping:
            self._reload()

    @property
    def _end_within_s(self) -> float:
        return self._settings.drain_notice_s + self._settings.drain_s + END_MARGIN_S

    def _stop(self, number: int) -> None:
        """Have all workers drain and end; the second time: at once, and this process with them."""
        if self._stopping:
            self._end_at_once(128 + number)
        log.info("stopping", extra={"workers": len(self._slots)})
        self._stopping = True
        self._to_replace.clear()
        for process in self._processes():
            process.drain(within_s=self._end_within_s)

    def _end_at_once(self, exit_code: int) -> None:
        """End all that drain, and this process."""
        processes = self._processes()
        for process in processes:
            process.stop_at_once()
        for process in processes:
            process.kill(after_s=AT_ONCE_S)
        self._logs.close()
        os._exit(exit_code)

    # -- new settings

    def _reload(self) -> None:
        """Read the settings again and begin to replace the workers, who writes last: it changes hands only once so."""
        new = reload_settings(self._loaded)
        if new is None:
            return
        changed = changed_settings(self._settings, new.settings)
        waiting = [name for name in changed if name.removeprefix(PREFIX).lower() in FIXED]
        log.info(
            "settings are read again; workers are replaced one at a time",
            extra={"settings": changed, "wait_for_a_restart": waiting},
        )
        writers = {worker.number for worker in self.overview().workers if worker.writes}
        self._loaded = new.with_settings({name: getattr(self._settings, name) for name in FIXED})
        self._to_replace = deque(sorted(self._slots, key=lambda slot: slot.number in writers))

    def _doubt_new_settings(self) -> None:
        """Go back to the settings before, where a worker could not start and none has with the new ones."""
        if self._loaded is self._proven:
            return
        log.error("no worker can start with the new settings; nothing changes")
        self._loaded = self._proven
        self._to_replace.clear()

    # -- how it is

    def overview(self) -> Overview:
        """How the whole server is; takes a second where a worker does not answer."""
        with self._state:
            processes = [process for process in self._processes() if process.is_ready]
        for process in processes:
            process.ask()
        give_up_s = time.monotonic() + ANSWER_TIMEOUT_S
        answered = {process for process in processes if process.has_answered(give_up_s=give_up_s)}
        with self._state:
            return Overview(
                workers=tuple(slot.view(has_answered=slot.current in answered) for slot in self._slots),
                ended=add_counts(slot.counts_of_others() for slot in self._slots),
                supervisor_id=os.getpid(),
            )
