"""Serving: one process from its start to its end, with its lock, its signals and what it tells who started it.

Invariant: at most one server has a SQLite file, and a first signal loses nothing that was acknowledged.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from storekeep.server.app import App
from storekeep.server.config import Settings
from storekeep.server.domain.samples import CUSTOMER, ORDER_CURRENCY, ORDER_LINES, has_sample, load_sample
from storekeep.server.logs import Logs
from storekeep.server.secrets import write_private
from storekeep.server.store.opening import serve_lock
from storekeep.server.store.schema import check_schema

ADMIN_KEY_FILE = "admin.key"
GC_THRESHOLD = 20_000
"""Objects made, less those that are gone, before Python looks for cycles among them."""
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(settings: Settings, *, sample: bool = False, address_file: Path | None = None) -> None:
    """Serve until a signal says to stop.

    Args:
        sample: load a small catalogue where there is none, and say what to type next.
        address_file: where the address is written once it listens; it is removed at the end.

    Raises: DatabaseInUse, SchemaError, AddressTaken, and what `App` raises.
    """
    if settings.pin_cpu is not None:
        _pin(settings.pin_cpu)
    with serve_lock(settings.database):
        check_schema(settings.database)
        with _signals_held_back():
            logs = Logs(level=settings.log_level, file=settings.log_file, queue_max=settings.log_queue_max)
            stop = _stop_on_signals(logs)
            app = App(settings, logs=logs)
            _spare_garbage_collector()
            try:
                keep_admin_key(app.install(), data_dir=settings.data_dir)
                if sample and load_sample(app.store):
                    say("A sample catalogue was loaded: the tea shop Kettle & Crumb.")
                address = app.start()
            except Exception:
                app.close()
                raise
        say(f"Storekeep serves on {address}; Ctrl-C stops it.")
        if sample and has_sample(app.store):
            say(what_to_type(address, data_dir=settings.data_dir))
        if address_file is not None:
            _write_whole(address_file, address)
        stop.wait()
        app.stop()
        logs.close()
        if address_file is not None:
            address_file.unlink(missing_ok=True)


def _pin(cpu: int) -> None:
    """Keep the process on one core, before it has other threads: they inherit it.

    They take turns there anyway, so waking one need not preempt another: `SCHED_BATCH` halves the switches an order.
    """
    os.sched_setaffinity(0, {cpu})
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _spare_garbage_collector() -> None:
    """Leave what was made so far, which stays to the end, out of every collection, and collect less often.

    A call leaves hardly any cycles, but by default every seven hundred allocations are followed by a look for some: 5 %
    of PlaceOrder.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def keep_admin_key(key: str | None, *, data_dir: Path) -> None:
    """Leave the administrator's key where only the owner of the server can read it, and say where; None is no key."""
    if key is None:
        return
    path = data_dir / ADMIN_KEY_FILE
    path.unlink(missing_ok=True)
    write_private(path, key)
    say(f"The administrator's API key is in {path}; keep it, or make others with it and delete it.")


def what_to_type(address: str, *, data_dir: Path) -> str:
    """The commands that log in and place a first order on the sample catalogue, as they work from here."""
    storekeep = _own_command("storekeep")
    lines = " ".join(f"--line {sku}={units}" for sku, units in ORDER_LINES)
    return (
        "\nIn another terminal, type:\n"
        f"  {storekeep} login --address {address} --api-key-file {data_dir / ADMIN_KEY_FILE}\n"
        f"  {storekeep} products list\n"
        f"  {storekeep} orders place --customer {CUSTOMER} {lines} --currency {ORDER_CURRENCY}\n"
    )


def _own_command(name: str) -> str:
    """How a command that was installed with this one is typed: by its name where the shell finds it."""
    installed = Path(sysconfig.get_path("scripts"), name)
    if shutil.which(name) == str(installed):
        return name
    here = Path.cwd()
    return str(installed.relative_to(here) if installed.is_relative_to(here) else installed)


def say(line: str) -> None:
    """Tell whoever started the server; the logs are for programs."""
    print(line, flush=True)  # noqa: T201 - what the command says


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """Leave the signals to this thread: those made meanwhile, and what they make, never take one.

    Under load the kernel may give a signal to any thread, and Python hears of it only when this one wakes up.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _stop_on_signals(logs: Logs) -> threading.Event:
    """What is set at the first signal; the second one ends the process at once, its logs written."""
    stop = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            logs.close()
            os._exit(128 + number)
        stop.set()

    for number in SIGNALS:
        signal.signal(number, on_signal)
    return stop


def _write_whole(path: Path, text: str) -> None:
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(text + "\n")
    os.replace(draft, path)
