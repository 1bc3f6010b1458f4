"""Spawning: one worker process as its supervisor sees it: started in a fresh interpreter, asked, told to end.

Never forked: gRPC does not survive that. It is in a process group of its own, so that Ctrl-C reaches the supervisor
alone, and it ends by itself when the supervisor is gone.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time

from storekeep.server.supervision.control import Control, Leave, Order, Question, Ready, Refusal
from storekeep.server.telemetry.status import Report

MODULE = "storekeep.server.supervision.worker"
REAP_TIMEOUT_S = 5.0
"""How long a killed process may take to be gone."""


class WorkerProcess:
    """One process.

    Args:
        order: what it is to be.

    Attributes:
        number: that of its worker.
        settings: those of the order.
        started_s: when, as a `time.monotonic()`.
        ended_by_s: by when it has to end; None where nobody has told it to.
        is_ready: whether it has said that it takes calls.
        refusal: why it cannot, in one line; empty where it has not said so.
        report: the last that it gave; None before the first.
    """

    def __init__(self, order: Order) -> None:
        self.number = order.number
        self.settings = order.settings
        self.started_s = time.monotonic()
        self.ended_by_s: float | None = None
        self.is_ready = False
        self.refusal = ""
        self.report: Report | None = None
        self._news = threading.Condition()
        self._is_gone = False
        self._asked = 0
        self._answered = 0
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - this very program
                [sys.executable, "-P", "-m", MODULE, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        self._control = Control(ours)
        self._control.send(order)
        self._listener = threading.Thread(target=self._listen, name=f"worker-{order.number}", daemon=True)
        self._listener.start()

    @property
    def process_id(self) -> int:
        """Its id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended, negative by a signal; None while it runs. All that it said is known by then."""
        code = self._process.poll()
        if code is not None:
            self._listener.join(timeout=REAP_TIMEOUT_S)
        return code

    def _listen(self) -> None:
        while (message := self._control.receive()) is not None:
            with self._news:
                if isinstance(message, Report):
                    self.report = message
                    self._answered = self._asked
                elif isinstance(message, Ready):
                    self.is_ready = True
                elif isinstance(message, Refusal):
                    self.refusal = message.problem
                self._news.notify_all()
        with self._news:
            self._is_gone = True
            self._news.notify_all()

    def ask(self) -> None:
        """Ask for a report, unless it owes one already."""
        with self._news:
            if self._asked > self._answered:
                return
            self._asked += 1
        self._control.send(Question())

    def has_answered(self, *, give_up_s: float) -> bool:
        """Whether what it was asked is answered by then, a `time.monotonic()`."""
        with self._news:
            self._news.wait_for(
                lambda: self._is_gone or self._answered == self._asked, timeout=max(0.0, give_up_s - time.monotonic())
            )
            return self._answered == self._asked

    def leave(self, *, within_s: float) -> None:
        """Have it drain and end, as another one serves in its place."""
        if self.ended_by_s is None:
            self.ended_by_s = time.monotonic() + within_s
            self._control.send(Leave())

    def drain(self, *, within_s: float) -> None:
        """Have it say that it stops, drain and end."""
        if self.ended_by_s is None:
            self.ended_by_s = time.monotonic() + within_s
            self._process.send_signal(signal.SIGTERM)

    def allow(self, seconds: float) -> None:
        """Let it take longer to start or to end."""
        self.started_s += seconds
        if self.ended_by_s is not None:
            self.ended_by_s += seconds

    def stop_at_once(self) -> None:
        """Have one that drains end at once, its log written."""
        self.ended_by_s = time.monotonic() + REAP_TIMEOUT_S
        self._process.send_signal(signal.SIGTERM)

    def kill(self, *, after_s: float = 0.0) -> None:
        """End it, whatever it does; `after_s`: how long it has to end by itself."""
        try:
            self._process.wait(timeout=after_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=REAP_TIMEOUT_S)

    def close(self) -> None:
        """Forget one that has ended."""
        self._listener.join(timeout=REAP_TIMEOUT_S)
        self._control.close()
