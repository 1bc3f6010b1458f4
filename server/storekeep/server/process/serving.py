"""Serving: one process from its start to its end, with its lock, its signals and what it tells who started it.

Invariant: at most one server has a SQLite file, and a first signal loses nothing that was acknowledged.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from functools import partial
from pathlib import Path

from storekeep.server.app import App
from storekeep.server.config import LoadedSettings, changed_settings
from storekeep.server.process.console import (
    announced,
    keep_admin_key,
    offer_sample,
    say_where_admin_key_is,
    warn_of_open_data_dir,
)
from storekeep.server.process.reloads import is_abandoned, reload_settings
from storekeep.server.process.signals import (
    hold_signals_back,
    ignore_meaningless_signals,
    pin,
    spare_garbage_collector,
    stop_on_signals,
)
from storekeep.server.store.opening import serve_lock
from storekeep.server.store.schema import check_schema
from storekeep.server.telemetry.http import Pages
from storekeep.server.telemetry.logs import Logs
from storekeep.server.telemetry.status import Overview, WorkerView

log = logging.getLogger("storekeep.server")


def serve(loaded: LoadedSettings, *, sample: bool = False, address_file: Path | None = None) -> None:
    """Serve with this process alone until a signal says to stop.

    Args:
        sample: load a small catalogue where there is none, and say what to type next.
        address_file: where the address is written once it listens; it is removed at the end.

    Raises: one of `REFUSALS`.
    """
    settings = loaded.settings
    if settings.pin_cpu is not None:
        pin(settings.pin_cpu)
    with serve_lock(settings.database):
        check_schema(settings.database)
        ignore_meaningless_signals()
        with hold_signals_back():
            logs = Logs(level=settings.log_level, file=settings.log_file, queue_max=settings.log_queue_max)
            stop = stop_on_signals(logs)
            settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            warn_of_open_data_dir(settings)
            _reload_on_signal(loaded, stop)
            app = App(settings, logs=logs)
            spare_garbage_collector()
            try:
                if app.install(keep=partial(keep_admin_key, data_dir=settings.data_dir)):
                    say_where_admin_key_is(settings.data_dir)
                has_sample = offer_sample(app.store, wanted=sample)
                pages = Pages(settings.metrics_listen, lambda: _overview_of(app))
                address = app.start()
            except Exception:
                app.close()
                raise
        with announced(
            address,
            pages=pages.address,
            data_dir=settings.data_dir,
            has_sample=has_sample,
            address_file=address_file,
        ):
            stop.wait()
            app.stop()
        pages.close()
        logs.close()


def _overview_of(app: App) -> Overview:
    """The overview of a server that is this process alone."""
    report = app.report()
    return Overview((WorkerView(number=0, process_id=os.getpid(), state=report.state, report=report),))


def _reload_on_signal(loaded: LoadedSettings, stop: threading.Event) -> None:
    """Have SIGHUP say in the log what a restart would change, as a single process cannot replace itself."""

    def on_signal(_number: int, _frame: object) -> None:
        if is_abandoned():
            stop.set()
            return
        new = reload_settings(loaded)
        if new is not None:
            changed = changed_settings(loaded.settings, new.settings)
            log.warning("settings wait for a restart; TLS files are read as they change", extra={"settings": changed})

    signal.signal(signal.SIGHUP, on_signal)
