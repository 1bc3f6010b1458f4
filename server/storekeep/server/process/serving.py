"""Serving with one process, from start to exit: lock, signals and startup banner.

Invariant: at most one server serves a SQLite file, and the first signal loses no acknowledged write.
"""

from __future__ import annotations

import logging
import os
import threading
from functools import partial
from pathlib import Path

from storekeep.server.app import App
from storekeep.server.config import LoadedSettings, changed_settings
from storekeep.server.process.addresses import check_addresses
from storekeep.server.process.console import (
    announce_server,
    load_sample_if_requested,
    print_admin_key_path,
    warn_about_open_data_dir,
    write_admin_key,
)
from storekeep.server.process.reloads import is_terminal_closed, reload_settings
from storekeep.server.process.signals import (
    block_signals,
    freeze_gc,
    ignore_unused_signals,
    pin_to_core,
    stop_on_signals,
)
from storekeep.server.store.opening import hold_serve_lock
from storekeep.server.store.schema import check_schema
from storekeep.server.telemetry.http import StatusServer
from storekeep.server.telemetry.logs import Logs
from storekeep.server.telemetry.status import ServerStatus, WorkerStatus

log = logging.getLogger("storekeep.server")


def serve(loaded: LoadedSettings, *, sample: bool = False, address_file: Path | None = None) -> None:
    """Serve with this process alone until a signal requests shutdown.

    Args:
        sample: load the sample catalogue into an empty database and print first commands.
        address_file: write the address to this file while the server listens.

    Raises: one of `STARTUP_ERRORS`.
    """
    settings = loaded.settings
    if settings.pin_cpu is not None:
        pin_to_core(settings.pin_cpu)
    with hold_serve_lock(settings.database):
        check_addresses(settings)
        check_schema(settings.database)
        ignore_unused_signals()
        block_signals()
        logs = Logs(level=settings.log_level, file=settings.log_file, queue_max=settings.log_queue_max)
        stop = stop_on_signals(logs, on_hangup=partial(_reload, loaded, logs))
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        warn_about_open_data_dir(settings)
        app = App(settings, logs=logs)
        freeze_gc()
        try:
            if app.install(keep=partial(write_admin_key, data_dir=settings.data_dir)):
                print_admin_key_path(settings.data_dir)
            has_sample = load_sample_if_requested(app.store, requested=sample)
            status_server = StatusServer(settings.metrics_listen, lambda: _read_status(app))
            address = app.start()
        except Exception:
            app.close()
            raise
        with announce_server(
            address,
            status_address=status_server.address,
            settings=settings,
            has_sample=has_sample,
            address_file=address_file,
        ):
            stop.wait()
            app.stop()
        status_server.close()
        logs.close()


def _read_status(app: App) -> ServerStatus:
    """Return the status of a server with one process."""
    report = app.report()
    return ServerStatus((WorkerStatus(number=0, process_id=os.getpid(), state=report.state, report=report),))


def _reload(loaded: LoadedSettings, logs: Logs, stop: threading.Event) -> None:
    """Reopen the log file and log what a restart would change: one process cannot replace itself."""
    if is_terminal_closed():
        stop.set()
        return
    logs.reopen()
    new = reload_settings(loaded)
    if new is None:
        return
    if changed := changed_settings(loaded.settings, new.settings):
        log.warning("settings wait for a restart; TLS files reload automatically", extra={"settings": changed})
    else:
        log.info("no settings have changed")
