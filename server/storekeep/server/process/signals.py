"""Processes: what makes a process a good server: its core, its garbage, its signals, and how it refuses to begin."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from storekeep.server.domain.keys.encryption import SealBroken
from storekeep.server.runtime.file_modes import ExposedFile
from storekeep.server.runtime.ports import AddressTaken
from storekeep.server.runtime.secrets import WeakSecret
from storekeep.server.store.errors import StoreError
from storekeep.server.store.locks import DatabaseInUse
from storekeep.server.store.schema import SchemaError
from storekeep.server.telemetry.logs import Logs
from storekeep.server.transport.tls import UnusableCertificate

GC_THRESHOLD = 20_000
"""Objects made, less those that are gone, before Python looks for cycles among them."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
SIGNALS = (*STOP_SIGNALS, signal.SIGHUP)
MEANINGLESS = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals that end a process by default, and that tools send to servers for which they mean something."""
REFUSALS = (
    AddressTaken,
    DatabaseInUse,
    ExposedFile,
    OSError,
    SchemaError,
    SealBroken,
    StoreError,
    UnusableCertificate,
    WeakSecret,
)
"""Why a server cannot begin: told in one line. Anything else is a defect and shows where it happened."""


def in_words(error: Exception) -> str:
    """What a refusal says; of the system's own errors, which file they are about and what is wrong with it."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"cannot use {error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return str(error)


def pin(cpu: int) -> None:
    """Keep the process on one core, before it has other threads: they inherit it.

    They take turns there anyway, so waking one need not preempt another: `SCHED_BATCH` halves the switches an order.
    """
    os.sched_setaffinity(0, {cpu})
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def spare_garbage_collector() -> None:
    """Leave what was made so far, which stays to the end, out of every collection, and collect less often.

    A call leaves hardly any cycles, but by default every seven hundred allocations are followed by a look for some: 5 %
    of PlaceOrder.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def ignore_meaningless_signals() -> None:
    """Let nobody end the server by a signal that says nothing of an end; processes that it starts inherit this."""
    for number in MEANINGLESS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def hold_signals_back() -> Iterator[None]:
    """Leave the signals to this thread: those made meanwhile, and what they make, never take one.

    Under load the kernel may give a signal to any thread, and Python hears of it only when this one wakes up.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def stop_on_signals(logs: Logs) -> threading.Event:
    """What is set at the first signal; the second one ends the process at once, its logs written."""
    stop = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            logs.close()
            os._exit(128 + number)
        stop.set()

    for number in STOP_SIGNALS:
        signal.signal(number, on_signal)
    return stop
