"""When a queue takes no more, minute by minute, with the clock in the test's hand."""

from __future__ import annotations

import pytest

from storekeep.server import backlogs
from storekeep.server.backlogs import OVERLOAD_AFTER_S, Backlog

LONG_S, SHORT_S = 0.3, 0.01


class Queue:
    """A backlog with a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1_000.0
        self.backlog = Backlog(length_max=100, wait_max_s=0.1)
        monkeypatch.setattr(backlogs.time, "monotonic", lambda: self.now_s)

    def move(self, *, waits_s: float, for_s: float) -> None:
        """For so long, something is taken out each hundredth of a second that has waited so long."""
        for _ in range(round(for_s * 100)):
            self.now_s += 0.01
            self.backlog.note(self.now_s - waits_s)


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    return Queue(monkeypatch)


def test_queue_that_is_too_long_takes_no_more_though_nobody_has_waited(queue):
    assert not queue.backlog.is_full(99)
    assert queue.backlog.is_full(100)


def test_hiccup_in_which_all_wait_too_long_refuses_nobody(queue):
    queue.move(waits_s=LONG_S, for_s=OVERLOAD_AFTER_S * 0.9)
    assert not queue.backlog.is_full(99)


def test_overload_refuses_while_the_waits_are_long_and_only_then(queue):
    queue.move(waits_s=LONG_S, for_s=OVERLOAD_AFTER_S * 1.5)
    assert queue.backlog.is_full(1)
    assert not queue.backlog.is_full(0)
    queue.move(waits_s=SHORT_S, for_s=0.01)
    assert not queue.backlog.is_full(1)
    queue.move(waits_s=LONG_S, for_s=0.01)
    assert queue.backlog.is_full(1)


def test_overload_is_over_when_the_waits_stay_short(queue):
    queue.move(waits_s=LONG_S, for_s=OVERLOAD_AFTER_S * 1.5)
    queue.move(waits_s=SHORT_S, for_s=OVERLOAD_AFTER_S * 1.5)
    queue.move(waits_s=LONG_S, for_s=OVERLOAD_AFTER_S * 0.9)
    assert not queue.backlog.is_full(99)
