"""The supervisor: holds the port and the database's lock, and keeps several workers serving.

It serves no calls. SIGTERM drains all workers, SIGHUP replaces them one at a time with the current settings, and a
dead worker is replaced. Invariant: no worker outlives the supervisor.
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

from storekeep.server.config import LoadedSettings, Settings, changed_settings
from storekeep.server.process.addresses import check_addresses
from storekeep.server.process.console import (
    announce_server,
    load_sample_if_requested,
    print_admin_key_path,
    warn_about_open_data_dir,
    write_admin_key,
)
from storekeep.server.process.reloads import is_terminal_closed, reload_settings
from storekeep.server.process.signals import SIGNALS, STOP_MERGE_S, STOP_SIGNALS, ignore_unused_signals
from storekeep.server.runtime.ports import reserve_port
from storekeep.server.runtime.setting_names import PREFIX
from storekeep.server.store.locks import lock
from storekeep.server.store.opening import hold_serve_lock, open_store
from storekeep.server.store.schema import check_schema
from storekeep.server.supervision.control import StartWorker, pack_settings
from storekeep.server.supervision.failures import WorkerFailed
from storekeep.server.supervision.signals import SignalQueue
from storekeep.server.supervision.slots import Slot
from storekeep.server.supervision.spawning import WorkerProcess
from storekeep.server.telemetry.counts import add_counts
from storekeep.server.telemetry.http import StatusServer
from storekeep.server.telemetry.logs import Logs
from storekeep.server.telemetry.status import ServerStatus
from storekeep.server.transport.leadership import LOG_TURNS_FILE, WorkerFolder
from storekeep.server.wiring.access import make_admin_key
from storekeep.server.wiring.expirers import wire_expirers

HANDLED_SIGNALS = {*SIGNALS, signal.SIGCHLD}
BUSY_TICK_S = 0.05
"""Interval in seconds between polls while a worker starts or stops. SIGCHLD reports a death at once."""
IDLE_TICK_S = 1.0
ANSWER_TIMEOUT_S = 1.0
"""Maximum time in seconds for all workers to report. A page that waits longer is worse than one that shows DOWN."""
SUSPENDED_AFTER_S = 5.0
"""A gap of this many seconds between polls means that the supervisor itself was suspended, such as by Ctrl-Z, a
debugger or a frozen container: it polls at least every second."""
LOG_FLUSH_TIMEOUT_S = 1.0
"""Time in seconds for a worker to write its log when it must exit at once."""
EXIT_MARGIN_S = 10.0
"""Time in seconds beyond `drain_notice_s` and `drain_s` after which a worker is killed."""
FIXED_SETTINGS = frozenset(
    {"data_dir", "database_url", "listen", "metrics_listen", "secret", "secret_previous", "workers"}
)
"""Settings that the supervisor itself uses. They change only when it restarts."""

log = logging.getLogger("storekeep.supervisor")


def supervise(loaded: LoadedSettings, *, sample: bool = False, address_file: Path | None = None) -> None:
    """Serve with several workers until a signal requests shutdown; see `serving.serve`.

    Raises: WorkerFailed, or one of `STARTUP_ERRORS`.
    """
    settings = loaded.settings
    folder = WorkerFolder(settings.workers_dir)
    with (
        hold_serve_lock(settings.database),
        lock(settings.workers_dir, purpose="serve"),
        reserve_port(settings.listen) as address,
    ):
        check_addresses(settings)
        check_schema(settings.database)
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
        ignore_unused_signals()
        folder.make()
        logs = Logs(
            level=settings.log_level,
            file=settings.log_file,
            queue_max=settings.log_queue_max,
            lock_file=folder.path / LOG_TURNS_FILE,
        )
        warn_about_open_data_dir(settings)
        with closing(open_store(settings.database, limits=settings.database_limits)) as store:
            wire_expirers(store)
            if make_admin_key(settings, store, keep=partial(write_admin_key, data_dir=settings.data_dir), force=False):
                print_admin_key_path(settings.data_dir)
            has_sample = load_sample_if_requested(store, requested=sample)
        supervisor = Supervisor(loaded, address=address, folder=folder, logs=logs)
        status_server = StatusServer(settings.metrics_listen, supervisor.read_status)
        try:
            if supervisor.start():
                with announce_server(
                    address,
                    status_address=status_server.address,
                    settings=settings,
                    has_sample=has_sample,
                    address_file=address_file,
                ):
                    supervisor.run()
        finally:
            supervisor.kill()
            status_server.close()
            logs.close()


class Supervisor:
    """Keeps the workers running.

    Args:
        loaded: the settings, with what is needed to reload them.
        address: the address that the workers share.
        folder: the directory of the workers' Unix sockets.
        logs: reopened on SIGHUP, and flushed before an immediate exit.
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
        self._state_lock = threading.Lock()
        self._stopping = False
        self._merged_until_s = 0.0
        self._signals = SignalQueue(HANDLED_SIGNALS)
        self._polled_s = time.monotonic()

    @property
    def _settings(self) -> Settings:
        return self._loaded.settings

    def _pack_settings(self) -> dict[str, Any]:
        """Return the settings for a worker that starts now."""
        return pack_settings(self._settings, listen=self._address)

    def _spawn(self, number: int) -> WorkerProcess:
        cpu = self._cpus[number % len(self._cpus)]
        return WorkerProcess(StartWorker(number=number, cpu=cpu, settings=self._pack_settings()))

    def _publish(self, process: WorkerProcess) -> None:
        if process.settings == self._pack_settings():
            self._proven = self._loaded
        self._folder.link(str(process.number), to=f"{process.number}.{process.process_id}")
        log.info("a worker serves", extra={"of_worker": process.number, "process_id": process.process_id})

    # -- lifecycle

    def start(self) -> bool:
        """Start all workers and wait until each serves.

        Returns: False if a signal requested shutdown in the meantime; then all workers have exited.

        Raises: WorkerFailed.
        """
        while not all(slot.is_stable for slot in self._slots):
            if self._stopping:
                self.run()
                return False
            for problem in self._tick():
                raise WorkerFailed(problem)
            self._handle_next_signal(BUSY_TICK_S)
        return True

    def run(self) -> None:
        """Keep the workers running until a signal requests shutdown and all have exited."""
        while not (self._stopping and not any(self._processes())):
            self._tick()
            self._handle_next_signal(IDLE_TICK_S if self._is_idle() else BUSY_TICK_S)

    def _is_idle(self) -> bool:
        return not self._stopping and not self._to_replace and all(slot.is_stable for slot in self._slots)

    def _processes(self) -> list[WorkerProcess]:
        return [process for slot in self._slots for process in slot.processes()]

    def kill(self) -> None:
        """Kill all remaining processes."""
        for process in self._processes():
            process.kill()

    def _tick(self) -> list[str]:
        """Poll every slot, start what is due, and return why workers failed to start."""
        self._extend_deadlines_after_suspension()
        with self._state_lock:
            if self._stopping:
                for slot in self._slots:
                    slot.poll_exit()
                return []
            results = [slot.poll(drain_within_s=self._exit_timeout_s) for slot in self._slots]
            problems = [problem for problem in results if problem]
            if problems:
                self._revert_unproven_settings()
            for slot in self._slots:
                slot.start_if_due()
            if self._to_replace and all(slot.is_stable for slot in self._slots):
                self._to_replace.popleft().replace()
        return problems

    def _extend_deadlines_after_suspension(self) -> None:
        """Give the workers more time after this process was suspended, because they may have been, too."""
        now_s = time.monotonic()
        gap_s, self._polled_s = now_s - self._polled_s, now_s
        if gap_s > SUSPENDED_AFTER_S:
            for process in self._processes():
                process.extend_deadlines(gap_s)

    # -- signals

    def _handle_next_signal(self, timeout_s: float) -> None:
        """Wait for a signal until the next poll is due, and handle it."""
        number = self._signals.next(timeout_s=timeout_s)
        if number in STOP_SIGNALS or (number == signal.SIGHUP and is_terminal_closed()):
            self._stop(number)
        elif number == signal.SIGHUP and not self._stopping:
            self._reload()

    @property
    def _exit_timeout_s(self) -> float:
        return self._settings.drain_notice_s + self._settings.drain_s + EXIT_MARGIN_S

    def _stop(self, number: int) -> None:
        """Drain all workers. Another call after `STOP_MERGE_S` ends the workers and this process at once."""
        if self._stopping:
            if time.monotonic() >= self._merged_until_s:
                self._exit_at_once(128 + number)
            return
        log.info("stopping", extra={"workers": len(self._slots)})
        self._stopping = True
        self._merged_until_s = time.monotonic() + STOP_MERGE_S
        self._to_replace.clear()
        for process in self._processes():
            process.drain(within_s=self._exit_timeout_s)

    def _exit_at_once(self, exit_code: int) -> None:
        """End the draining workers and this process."""
        processes = self._processes()
        for process in processes:
            process.stop_at_once()
        for process in processes:
            process.kill(after_s=LOG_FLUSH_TIMEOUT_S)
        self._logs.close()
        os._exit(exit_code)

    # -- reload

    def _reload(self) -> None:
        """Reload the settings and begin to replace the workers, the leader last, so that leadership moves only once."""
        self._logs.reopen()
        for process in self._processes():
            process.reopen_log()
        new = reload_settings(self._loaded)
        if new is None:
            return
        changed = changed_settings(self._settings, new.settings)
        waiting = [name for name in changed if name.removeprefix(PREFIX).lower() in FIXED_SETTINGS]
        log.info(
            "settings reloaded; workers are replaced one at a time",
            extra={"settings": changed, "wait_for_a_restart": waiting},
        )
        leaders = {worker.number for worker in self.read_status().workers if worker.serves_writes}
        self._loaded = new.replace_settings({name: getattr(self._settings, name) for name in FIXED_SETTINGS})
        self._to_replace = deque(sorted(self._slots, key=lambda slot: slot.number in leaders))

    def _revert_unproven_settings(self) -> None:
        """Return to the last settings that a worker started with, after one could not start with the new ones."""
        if self._loaded is self._proven:
            return
        log.error("no worker can start with the new settings; nothing changes")
        self._loaded = self._proven
        self._to_replace.clear()

    # -- status

    def read_status(self) -> ServerStatus:
        """Return the state of the whole server. Takes a second if a worker does not answer."""
        with self._state_lock:
            processes = [process for process in self._processes() if process.is_ready]
        for process in processes:
            process.request_report()
        deadline_s = time.monotonic() + ANSWER_TIMEOUT_S
        answered = {process for process in processes if process.wait_for_report(deadline_s=deadline_s)}
        with self._state_lock:
            return ServerStatus(
                workers=tuple(slot.view(has_answered=slot.current in answered) for slot in self._slots),
                ended=add_counts(slot.add_other_counts() for slot in self._slots),
                supervisor_id=os.getpid(),
            )
