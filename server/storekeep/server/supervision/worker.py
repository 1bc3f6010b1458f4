"""A worker: one process that a supervisor has started, from its order to its end.

It ends in order on SIGTERM and when another one serves in its place, and at once when its supervisor is gone: then
somebody may be starting a server anew, and nothing that was acknowledged is lost.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

from storekeep.server.app import App
from storekeep.server.process.signals import (
    REFUSALS,
    hold_signals_back,
    in_words,
    pin,
    spare_garbage_collector,
    stop_on_signals,
)
from storekeep.server.supervision.control import Control, Leave, Order, Question, Ready, Refusal, unpack_settings
from storekeep.server.telemetry.logs import Logs
from storekeep.server.transport.leadership import LOG_TURNS_FILE, Worker, WorkerFolder

ORPHANED = 3
"""The exit code of a worker whose supervisor is gone."""


def main() -> None:
    """Be the worker that the supervisor at the other end of a file descriptor orders."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the supervisor takes its signals otherwise
    control = Control(socket.socket(fileno=int(sys.argv[1])))
    order = control.receive()
    if not isinstance(order, Order):
        sys.exit(ORPHANED)
    try:
        serve_order(order, control)
    except REFUSALS as error:
        control.send(Refusal(in_words(error)))
        sys.exit(1)


def serve_order(order: Order, control: Control) -> None:
    """Serve until told to stop.

    Raises: one of `REFUSALS` where it cannot even begin.
    """
    settings = unpack_settings(order.settings)
    folder = WorkerFolder(settings.workers_dir)
    pin(order.cpu)
    with hold_signals_back():
        logs = Logs(
            level=settings.log_level,
            file=settings.log_file,
            queue_max=settings.log_queue_max,
            turns=folder.path / LOG_TURNS_FILE,
            worker=order.number,
        )
        stop = stop_on_signals(logs)
        app = App(settings, logs=logs, worker=Worker(order.number, folder, f"{order.number}.{os.getpid()}"))
        spare_garbage_collector()
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
    """Does what the supervisor says."""

    def __init__(self, control: Control, app: App, *, stop: threading.Event, logs: Logs) -> None:
        self.is_replaced = False
        self._control = control
        self._app = app
        self._stop = stop
        self._logs = logs
        self._thread = threading.Thread(target=self._listen, name="control", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _listen(self) -> None:
        while (message := self._control.receive()) is not None:
            if isinstance(message, Question):
                self._control.send(self._app.report())
            elif isinstance(message, Leave):
                self.is_replaced = True
                self._stop.set()
        self._logs.close()
        os._exit(ORPHANED)


if __name__ == "__main__":
    main()
