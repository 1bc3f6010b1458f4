"""The queue of ended spans: bounded, exported by one background thread, and never waited for by a call.

If the collector is slow or dead, spans are dropped and counted. Closing takes a bounded time.
"""

from __future__ import annotations

import collections
import logging
import threading
from collections.abc import Callable

from storekeep.server.telemetry.traces import Span

log = logging.getLogger("storekeep.otel")


class SpanQueue:
    """Exports spans in batches.

    Args:
        export: Sends spans; returns whether the collector took them. May block.
        queue_max: Maximum number of queued spans; further ones are dropped.
        batch_max: Maximum number of spans in a batch.
        delay_s: Time between two exports, unless a batch is full.

    Attributes:
        exported: Number of spans that the collector took.
        dropped: Number of other spans, which are lost.
    """

    def __init__(self, export: Callable[[list[Span]], bool], *, queue_max: int, batch_max: int, delay_s: float) -> None:
        self._export = export
        self._queue_max = queue_max
        self._batch_max = batch_max
        self._delay_s = delay_s
        self._spans: collections.deque[Span] = collections.deque()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._closing = False
        self._abandoned = False
        self._fails = False
        self.exported = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="otel-spans", daemon=True)
        self._thread.start()

    def put(self, span: Span) -> None:
        """Queue a span. Never blocks or raises."""
        if len(self._spans) >= self._queue_max or self._closing:
            self._count_dropped(1)
            return
        self._spans.append(span)
        if len(self._spans) >= self._batch_max and not self._wake.is_set():
            self._wake.set()

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(self._delay_s)
            self._wake.clear()
            self._export_all()
        self._export_all()

    def _export_all(self) -> None:
        while self._spans and not self._abandoned:
            batch = [self._spans.popleft() for _ in range(min(self._batch_max, len(self._spans)))]
            try:
                succeeded = self._export(batch)
            except Exception:
                if not self._abandoned:  # its connection was closed meanwhile
                    log.exception("spans could not be exported")
                succeeded = False
            self._count(len(batch), succeeded=succeeded)

    def _count_dropped(self, spans: int) -> None:
        with self._lock:  # any thread of calls, and that of the exports
            self.dropped += spans

    def _count(self, spans: int, *, succeeded: bool) -> None:
        """Count the spans of a batch, and log when exports begin to fail and when they work again."""
        if succeeded:
            self.exported += spans
        else:
            self._count_dropped(spans)
        if succeeded == self._fails:
            self._fails = not succeeded
            if succeeded:
                log.info("the collector takes spans again", extra={"dropped": self.dropped})
            else:
                log.warning("the collector does not take spans; they are dropped", extra={"dropped": self.dropped})

    def close(self, *, timeout_s: float) -> None:
        """Export what is queued, but take no longer than this; drop the rest."""
        self._closing = True
        self._wake.set()
        self._thread.join(timeout=timeout_s)
        if self._thread.is_alive():
            self._abandoned = True
            self._count_dropped(len(self._spans))
