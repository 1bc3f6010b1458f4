"""Setup of a server process: CPU pinning, garbage collection, signals and startup errors."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping

from storekeep.server.domain.keys.encryption import DecryptionFailed
from storekeep.server.runtime.file_modes import ExposedFile
from storekeep.server.runtime.key_encryption import KeyUnknown, UnwrapFailed
from storekeep.server.runtime.ports import AddressTaken
from storekeep.server.runtime.secrets import WeakSecret
from storekeep.server.store.errors import StoreError
from storekeep.server.store.locks import DatabaseInUse
from storekeep.server.store.schema import SchemaError
from storekeep.server.telemetry.logs import Logs
from storekeep.server.telemetry.otel_variables import UnusableTelemetry
from storekeep.server.transport.tls import UnusableCertificate

GC_THRESHOLD = 20_000
"""Net allocations before Python collects cycles."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
SIGNALS = (*STOP_SIGNALS, signal.SIGHUP)
STOP_MERGE_S = 1.0
"""Seconds after the first stop signal in which others are the same request: `timeout` signals a process and then its
group, and `make` its children, so that a server gets two. It must not end without its drain."""
IGNORED_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals that end a process by default, and that tools send to servers that give them a meaning."""
STARTUP_ERRORS = (
    AddressTaken,
    DatabaseInUse,
    ExposedFile,
    OSError,
    SchemaError,
    DecryptionFailed,
    KeyUnknown,
    StoreError,
    UnwrapFailed,
    UnusableCertificate,
    UnusableTelemetry,
    WeakSecret,
)
"""Errors that keep a server from starting, reported in one line. Any other is a defect and prints a traceback."""

log = logging.getLogger("storekeep.server")


def describe_error(error: Exception) -> str:
    """Return an error as one line; for an `OSError`, the file and the reason."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"cannot use {error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return str(error)


def pin_to_core(cpu: int) -> None:
    """Pin the process to a core. Call it before other threads start, because they inherit it.

    Threads share the interpreter anyway, so waking one need not preempt another: `SCHED_BATCH` halves the context
    switches per order.
    """
    os.sched_setaffinity(0, {cpu})
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def freeze_gc() -> None:
    """Exclude all current objects from garbage collection, and collect less often.

    A call leaves hardly any cycles, but by default Python collects after every 700 allocations: 5 % of PlaceOrder.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def ignore_unused_signals() -> None:
    """Ignore signals that do not mean shutdown or reload. Child processes inherit this."""
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def block_signals() -> None:
    """Block the signals in this thread and in every one that starts later; `receive_signals` takes them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def receive_signals(handlers: Mapping[int, Callable[[int], None]]) -> None:
    """Start a thread that calls the handler of each received signal with its number, one after the other.

    A handler of `signal.signal` runs inside whatever the main thread is doing. If it needs a lock that the main thread
    holds, such as that of an event or of the log, it waits forever. A thread waits until the lock is free.

    Args:
        handlers: the handler of each signal to receive. Every thread of the process must block these signals.
    """

    def receive() -> None:
        while True:
            number = signal.sigwait(handlers)
            try:
                handlers[number](number)
            except Exception:  # the next signal must be received
                log.exception("the handler of a signal failed", extra={"signal": int(number)})

    threading.Thread(target=receive, name="signals", daemon=True).start()


def stop_on_signals(
    logs: Logs, *, merge_s: float = STOP_MERGE_S, on_hangup: Callable[[threading.Event], None] | None = None
) -> threading.Event:
    """Return an event that the first signal sets. One after `merge_s` writes the log and ends the process.

    Args:
        logs: written before a later signal ends the process.
        on_hangup: called with the event on SIGHUP; None if the process ignores that.
    """
    stop = threading.Event()
    merged_until_s = 0.0

    def on_signal(number: int) -> None:
        nonlocal merged_until_s
        if not stop.is_set():
            merged_until_s = time.monotonic() + merge_s
            stop.set()
        elif time.monotonic() >= merged_until_s:
            logs.close()
            os._exit(128 + number)

    handlers: dict[int, Callable[[int], None]] = dict.fromkeys(map(int, STOP_SIGNALS), on_signal)
    if on_hangup is not None:
        handlers[signal.SIGHUP] = lambda _: on_hangup(stop)
    receive_signals(handlers)
    return stop
