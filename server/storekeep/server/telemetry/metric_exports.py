"""Exports metrics periodically from one background thread, and once more when it closes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger("storekeep.otel")


class MetricExports:
    """Calls `export` at an interval until `close`.

    Args:
        export: Sends the metrics; returns whether the collector took them. May block.
        interval_s: Time between two exports.
    """

    def __init__(self, export: Callable[[], bool], *, interval_s: float) -> None:
        self._export = export
        self._interval_s = interval_s
        self._closing = threading.Event()
        self._abandoned = False
        self._fails = False
        self._thread = threading.Thread(target=self._run, name="otel-metrics", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.wait(self._interval_s):
            self._export_once()
        self._export_once()

    def _export_once(self) -> None:
        try:
            succeeded = self._export()
        except Exception:
            if not self._abandoned:  # its connection was closed meanwhile
                log.exception("metrics could not be exported")
            succeeded = False
        if succeeded == self._fails:
            self._fails = not succeeded
            if succeeded:
                log.info("the collector takes metrics again")
            else:
                log.warning("the collector does not take metrics")

    def close(self, *, timeout_s: float) -> None:
        """Export a last time, but take no longer than this."""
        self._closing.set()
        self._thread.join(timeout=timeout_s)
        self._abandoned = self._thread.is_alive()
