"""The queue of spans counts every span that it drops. Exports that are given up when it closes are no fault."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from storekeep.server.telemetry.metric_exports import MetricExports
from storekeep.server.telemetry.span_queue import SpanQueue

THREADS = 8
SPANS = 20_000


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual_s)


@pytest.mark.usefixtures("quick_switches")
def test_dropped_spans_of_many_threads_are_all_counted() -> None:
    queue = SpanQueue(lambda spans: True, queue_max=0, batch_max=1, delay_s=60.0)
    span: Any = object()

    def put() -> None:
        for _ in range(SPANS):
            queue.put(span)

    threads = [threading.Thread(target=put) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.close(timeout_s=5.0)
    assert queue.dropped == THREADS * SPANS


class Connection:
    """A connection to a collector that answers nothing, and fails once it is closed.

    Attributes:
        exporting, closed, ended: set when an export has begun, to close the connection, and when the export fails.
    """

    def __init__(self) -> None:
        self.exporting, self.closed, self.ended = threading.Event(), threading.Event(), threading.Event()

    def export(self, *_: Any) -> bool:
        self.exporting.set()
        assert self.closed.wait(60)
        self.ended.set()
        raise ValueError("Cannot invoke RPC on closed channel!")


@pytest.mark.parametrize("kind", ["spans", "metrics"])
def test_export_that_is_given_up_logs_no_traceback(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    connection = Connection()
    exports: Any
    if kind == "spans":
        exports = SpanQueue(connection.export, queue_max=1, batch_max=1, delay_s=60.0)
        exports.put(object())
    else:
        exports = MetricExports(connection.export, interval_s=0.001)
    assert connection.exporting.wait(60)
    exports.close(timeout_s=0.001)
    connection.closed.set()
    exports._thread.join(60)
    assert connection.ended.is_set()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.records[0].exc_info is None
