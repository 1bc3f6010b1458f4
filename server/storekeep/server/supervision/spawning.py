"""A worker process from the supervisor's side: start, report, retire and kill.

Workers start in a new interpreter, because gRPC does not survive a fork. Each has its own process group, so that
Ctrl-C reaches only the supervisor, and exits when the supervisor is gone.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time

from storekeep.server.supervision.control import Control, GetReport, Ready, ReopenLog, Retire, StartFailed, StartWorker
from storekeep.server.telemetry.status import Report

MODULE = "storekeep.server.supervision.worker"
REAP_TIMEOUT_S = 5.0
"""Maximum time in seconds for a killed process to exit."""


def start_process(descriptor: int) -> subprocess.Popen[bytes]:
    """Start the program of a worker, with its end of the control socket."""
    return subprocess.Popen(  # noqa: S603 - this program
        [sys.executable, "-P", "-m", MODULE, str(descriptor)],
        stdin=subprocess.DEVNULL,
        pass_fds=[descriptor],
        process_group=0,
    )


class WorkerProcess:
    """A process that runs one worker.

    Args:
        start: the message that starts the worker.

    Attributes:
        number: of the worker.
        settings: those of the start message.
        started_s: time of the start (`time.monotonic()`).
        exit_deadline_s: time by which it must exit (`time.monotonic()`); None until it is told to.
        is_ready: whether the worker accepts calls.
        start_problem: why the worker could not start, in one line; empty if it did not report a problem.
        report: the latest report; None before the first.
    """

    def __init__(self, start: StartWorker) -> None:
        self.number = start.number
        self.settings = start.settings
        self.started_s = time.monotonic()
        self.exit_deadline_s: float | None = None
        self.is_ready = False
        self.start_problem = ""
        self.report: Report | None = None
        self._changed = threading.Condition()
        self._is_gone = False
        self._reports_requested = 0
        self._reports_received = 0
        own_end, worker_end = socket.socketpair()
        with worker_end:
            self._process = start_process(worker_end.fileno())
        self._control = Control(own_end)
        self._control.send(start)
        self._listener = threading.Thread(target=self._listen, name=f"worker-{start.number}", daemon=True)
        self._listener.start()

    @property
    def process_id(self) -> int:
        """Return the process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs. All its messages are received by then."""
        code = self._process.poll()
        if code is not None:
            self._listener.join(timeout=REAP_TIMEOUT_S)
        return code

    def _listen(self) -> None:
        while (message := self._control.receive()) is not None:
            with self._changed:
                if isinstance(message, Report):
                    self.report = message
                    self._reports_received = self._reports_requested
                elif isinstance(message, Ready):
                    self.is_ready = True
                elif isinstance(message, StartFailed):
                    self.start_problem = message.problem
                self._changed.notify_all()
        with self._changed:
            self._is_gone = True
            self._changed.notify_all()

    def reopen_log(self) -> None:
        """Tell the process that its log file may have been replaced."""
        self._control.send(ReopenLog())

    def request_report(self) -> None:
        """Request a report unless one is outstanding."""
        with self._changed:
            if self._reports_requested > self._reports_received:
                return
            self._reports_requested += 1
        self._control.send(GetReport())

    def wait_for_report(self, *, deadline_s: float) -> bool:
        """Wait for the requested report until a deadline (`time.monotonic()`), and return whether it arrived."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_gone or self._reports_received == self._reports_requested,
                timeout=max(0.0, deadline_s - time.monotonic()),
            )
            return self._reports_received == self._reports_requested

    def retire(self, *, within_s: float) -> None:
        """Tell the worker to drain and exit, because its successor serves."""
        if self.exit_deadline_s is None:
            self.exit_deadline_s = time.monotonic() + within_s
            self._control.send(Retire())

    def drain(self, *, within_s: float) -> None:
        """Tell the worker to report NOT_SERVING, drain and exit."""
        if self.exit_deadline_s is None:
            self.exit_deadline_s = time.monotonic() + within_s
            self._process.send_signal(signal.SIGTERM)

    def extend_deadlines(self, seconds: float) -> None:
        """Allow more time to start or to exit."""
        self.started_s += seconds
        if self.exit_deadline_s is not None:
            self.exit_deadline_s += seconds

    def stop_at_once(self) -> None:
        """Tell a draining worker to write its log and exit at once."""
        self.exit_deadline_s = time.monotonic() + REAP_TIMEOUT_S
        self._process.send_signal(signal.SIGTERM)

    def kill(self, *, after_s: float = 0.0) -> None:
        """Kill the process if it does not exit within `after_s` seconds."""
        try:
            self._process.wait(timeout=after_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=REAP_TIMEOUT_S)

    def close(self) -> None:
        """Release the resources of a process that has exited."""
        self._listener.join(timeout=REAP_TIMEOUT_S)
        self._control.close()
