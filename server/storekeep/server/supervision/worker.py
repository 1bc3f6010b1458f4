"""A worker: one process started by a supervisor, from its start message to its exit.

It drains on SIGTERM and when its successor serves. It exits at once when its supervisor is gone, because a new server
may be starting; no acknowledged write is lost.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

from storekeep.server.app import App
from storekeep.server.process.signals import (
    STARTUP_ERRORS,
    block_signals,
    describe_error,
    freeze_gc,
    pin_to_core,
    stop_on_signals,
)
from storekeep.server.supervision.control import (
    Control,
    GetReport,
    Ready,
    ReopenLog,
    Retire,
    StartFailed,
    StartWorker,
    unpack_settings,
)
from storekeep.server.telemetry.logs import Logs
from storekeep.server.transport.leadership import LOG_TURNS_FILE, Worker, WorkerFolder

EXIT_CODE_ORPHANED = 3
"""Exit code of a worker whose supervisor is gone."""


def main() -> None:
    """Run the worker that the supervisor starts over the socket of `argv[1]`, a file descriptor."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the supervisor blocks its signals, and children inherit that
    control = Control(socket.socket(fileno=int(sys.argv[1])))
    start = control.receive()
    if not isinstance(start, StartWorker):
        sys.exit(EXIT_CODE_ORPHANED)
    try:
        run_worker(start, control)
    except STARTUP_ERRORS as error:
        control.send(StartFailed(describe_error(error)))
        sys.exit(1)


def run_worker(start: StartWorker, control: Control) -> None:
    """Serve until the supervisor or a signal requests the exit.

    Raises: one of `STARTUP_ERRORS`.
    """
    settings = unpack_settings(start.settings)
    folder = WorkerFolder(settings.workers_dir)
    pin_to_core(start.cpu)
    block_signals()
    logs = Logs(
        level=settings.log_level,
        file=settings.log_file,
        queue_max=settings.log_queue_max,
        lock_file=folder.path / LOG_TURNS_FILE,
        worker=start.number,
    )
    stop = stop_on_signals(logs, merge_s=0)  # the supervisor, which alone signals this process group, has merged them
    app = App(settings, logs=logs, worker=Worker(start.number, folder, f"{start.number}.{os.getpid()}"))
    freeze_gc()
    try:
        app.start()
    except Exception:
        app.close()
        raise
    listener = _Listener(control, app, stop=stop, logs=logs)
    control.send(Ready())
    listener.start()
    stop.wait()
    app.stop(replaced=listener.is_replaced)
    control.send(app.report())
    logs.close()


class _Listener:
    """The thread that handles messages of the supervisor."""

    def __init__(self, control: Control, app: App, *, stop: threading.Event, logs: Logs) -> None:
        self.is_replaced = False
        self._control = control
        self._app = app
        self._stop = stop
        self._logs = logs
        self._thread = threading.Thread(target=self._listen, name="control", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _listen(self) -> None:
        while (message := self._control.receive()) is not None:
            if isinstance(message, GetReport):
                self._control.send(self._app.report())
            elif isinstance(message, ReopenLog):
                self._logs.reopen()
            elif isinstance(message, Retire):
                self.is_replaced = True
                self._stop.set()
        self._logs.close()
        os._exit(EXIT_CODE_ORPHANED)


if __name__ == "__main__":
    main()
