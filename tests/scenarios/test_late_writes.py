"""Writes that waited too long under overload are rejected, so that newer writes do not wait behind them."""

from __future__ import annotations

import threading
import time

from tests.support.note_stores import TIMEOUT_S, busy_writer, new_store


class Call:
    """A slow task that can be rejected."""

    def __init__(self) -> None:
        self.outcome = ""
        self.is_over = threading.Event()

    def __call__(self) -> None:
        time.sleep(0.03)
        self.outcome = "served"
        self.is_over.set()

    def give_up(self) -> None:
        self.outcome = "refused"
        self.is_over.set()


def test_tasks_that_have_waited_too_long_are_refused_once_it_is_overload(database):
    store = new_store(database, wait_max_s=0.05)
    calls = [Call() for _ in range(80)]
    with busy_writer(store):
        assert all(store.submit_task(call) for call in calls)
        time.sleep(0.1)
    assert all(call.is_over.wait(TIMEOUT_S) for call in calls)
    outcomes = [call.outcome for call in calls]
    assert outcomes == sorted(outcomes, reverse=True)  # the served tasks come first
    assert set(outcomes) == {"served", "refused"}
    store.close()
