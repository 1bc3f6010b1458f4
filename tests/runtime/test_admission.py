"""When a queue takes no more, minute by minute, with the clock in the test's hand."""

from __future__ import annotations

import pytest

from storekeep.server.runtime import admission
from storekeep.server.runtime.admission import (
    COUNT_OVER_S,
    HEADROOM,
    HICCUP_S,
    PAUSE_S,
    REFUSED_IN_A_ROW,
    REFUSED_IN_A_ROW_MAX,
    TRIAL_AFTER_S,
    TRIAL_S,
    Backlog,
)

LONG_S, SHORT_S = 0.3, 0.01
PER_S = 100
"""How many things are taken out of the queue in a second."""
COST = 0.1
"""What a refusal costs, as a share of what is refused."""


class Queue:
    """A backlog with a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1_000.0
        self.lag_s = 0.0
        self.late = 0
        self.backlog = Backlog(
            length_max=100,
            wait_max_s=0.1,
            overloaded_wait_s=0.02,
            lag_s=lambda: self.lag_s,
            refusal_cost=COST,
            trial_wait_s=0.02,
        )
        monkeypatch.setattr(admission.time, "monotonic", lambda: self.now_s)

    def move(self, *, waits_s: float, for_s: float) -> None:
        """For so long, something is taken out each hundredth of a second that has waited so long."""
        for _ in range(round(for_s * PER_S)):
            self.now_s += 1 / PER_S
            self.late += self.backlog.note(self.now_s - waits_s)

    def overload(self) -> None:
        """All wait too long for long enough."""
        self.move(waits_s=LONG_S, for_s=HICCUP_S * 1.5)

    def do_slowly(self, *, per_s: int, length: int) -> int:
        """So much comes in for a second, in which one is done that has waited for five; gives how much was refused."""
        refused = self.ask(per_s=per_s, for_s=1.0, length=length)
        self.late += self.backlog.note(self.now_s - 5.0)
        return refused

    def ask(self, *, per_s: int, for_s: float, length: int) -> int:
        """So much comes in for so long; gives how much of it was refused."""
        refused = 0
        for _ in range(round(for_s * per_s)):
            self.now_s += 1 / per_s
            refused += self.backlog.is_full(length)
        return refused

    def serve(self, *, per_s: int, for_s: float, waits_s: float) -> int:
        """The same; what is let in is taken out after so long."""
        refused = 0
        for _ in range(round(for_s * per_s)):
            is_refused = bool(self.ask(per_s=per_s, for_s=1 / per_s, length=0))
            refused += is_refused
            if not is_refused:
                self.backlog.note(self.now_s - waits_s)
        return refused


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    return Queue(monkeypatch)


def test_queue_that_is_too_long_takes_no_more_though_nobody_has_waited(queue):
    assert not queue.backlog.is_full(99)
    assert queue.backlog.is_full(100)


def test_hiccup_in_which_all_wait_too_long_refuses_nobody(queue):
    queue.move(waits_s=LONG_S, for_s=HICCUP_S * 0.9)
    assert not queue.backlog.is_full(99)


def test_hiccups_that_are_far_apart_are_no_overload(queue):
    for _ in range(3):
        queue.move(waits_s=LONG_S, for_s=0.05)
        queue.now_s += 10
    assert not queue.backlog.is_full(99)


def test_calls_that_each_take_long_are_overload_too(queue):
    refused = [queue.do_slowly(per_s=20, length=5) for _ in range(12)]
    assert refused[:4] == [0] * 4
    assert refused[6:] == [20] * 6


def test_calls_that_take_long_and_find_the_queue_empty_in_between_are_no_overload(queue):
    for _ in range(10):
        queue.now_s += 1.0
        queue.late += queue.backlog.note(queue.now_s - LONG_S)
    assert queue.late == 0
    assert not queue.backlog.is_full(99)


def test_stops_of_the_process_one_after_the_other_refuse_nobody(queue):
    for _ in range(5):
        queue.now_s += 0.15
        for number in range(9):  # what came in meanwhile is taken out soon
            queue.now_s += 0.001
            queue.late += queue.backlog.note(queue.now_s - 0.15 + 0.015 * number)
    assert queue.late == 0
    assert not queue.backlog.is_full(99)


def test_what_can_be_done_is_no_more_than_many_times_what_is_done_at_last(queue):
    queue.move(waits_s=SHORT_S, for_s=1)
    refused = [queue.do_slowly(per_s=PER_S * 6 // 10, length=1) for _ in range(12)]
    assert min(refused[6:]) > PER_S * 6 // 10 * 0.9


def test_overload_takes_nothing_that_would_have_to_wait(queue):
    queue.overload()
    assert queue.ask(per_s=2 * PER_S, for_s=1, length=3) == 2 * PER_S  # 100 a second are done: the third waits 0.02 s
    assert queue.ask(per_s=2 * PER_S, for_s=1, length=2) < 2 * PER_S


@pytest.mark.parametrize("times", [2, 4, 6])
def test_overload_takes_what_can_be_done_beside_the_refusals(queue, times):
    queue.overload()
    queue.ask(per_s=times * PER_S, for_s=1, length=0)
    taken = 8 * times * PER_S - queue.ask(per_s=times * PER_S, for_s=8, length=0)
    busy = (taken + COST * (8 * times * PER_S - taken)) / (8 * PER_S)
    assert busy == pytest.approx(HEADROOM, abs=0.02)


def test_more_than_can_even_be_refused_leaves_time_for_next_to_nothing(queue):
    queue.overload()
    times = round(2 / COST)
    taken = times * PER_S - queue.ask(per_s=times * PER_S, for_s=1, length=0)
    assert taken == pytest.approx(times * PER_S / REFUSED_IN_A_ROW, abs=2)


def test_what_can_be_done_is_known_from_before_the_overload(queue):
    queue.move(waits_s=SHORT_S, for_s=1)
    for _ in range(2):  # a tenth as fast, as most time goes into what is refused later
        queue.now_s += 0.1
        queue.backlog.note(queue.now_s - LONG_S)
    queue.overload()
    queue.ask(per_s=PER_S, for_s=COUNT_OVER_S * 2.5, length=50)
    assert queue.ask(per_s=PER_S, for_s=1, length=50) == 0


def test_what_has_waited_too_long_is_given_up_under_overload_only(queue):
    queue.move(waits_s=LONG_S, for_s=HICCUP_S * 0.9)
    assert queue.late == 0
    queue.move(waits_s=LONG_S, for_s=HICCUP_S)
    given_up = queue.late
    assert given_up > 0
    queue.move(waits_s=SHORT_S, for_s=1)
    assert queue.late == given_up


def test_overload_is_noticed_where_calls_wait_before_they_get_to_the_queue(queue):
    queue.lag_s = LONG_S
    queue.move(waits_s=SHORT_S, for_s=HICCUP_S * 1.5)
    assert queue.ask(per_s=2 * PER_S, for_s=1, length=0) == 2 * PER_S
    queue.lag_s = 0.0
    assert queue.ask(per_s=2 * PER_S, for_s=1, length=0) < 2 * PER_S


def test_overload_lets_one_in_after_many_however_long_the_waits_are(queue):
    queue.overload()
    queue.lag_s = LONG_S
    asked = 3 * (REFUSED_IN_A_ROW_MAX + 1)
    assert queue.ask(per_s=10_000, for_s=asked / 10_000, length=50) == asked - 3


def test_overload_lasts_while_more_comes_in_than_can_be_done(queue):
    queue.overload()
    assert queue.ask(per_s=3 * PER_S, for_s=5, length=50) > 5 * 3 * PER_S * 0.9


def test_overload_is_over_when_no_more_comes_in_than_can_be_done(queue):
    queue.overload()
    queue.ask(per_s=PER_S, for_s=COUNT_OVER_S * 2.5, length=50)
    assert queue.ask(per_s=PER_S, for_s=1, length=50) == 0


def test_overload_is_over_when_nothing_comes_in_for_a_while(queue):
    queue.overload()
    queue.now_s += PAUSE_S * 1.1
    assert not queue.backlog.is_full(99)


def test_overload_is_not_over_because_the_machine_stood_still_for_a_moment(queue):
    queue.overload()
    for _ in range(5):
        queue.ask(per_s=3 * PER_S, for_s=COUNT_OVER_S * 1.1, length=50)
        queue.now_s += PAUSE_S * 0.9
    assert queue.ask(per_s=3 * PER_S, for_s=1, length=50) > 3 * PER_S * 0.9


def test_overload_by_what_takes_long_lets_what_takes_less_in_before_long(queue):
    queue.overload()
    refused = []
    for _ in range(20):
        refused.append(queue.serve(per_s=5 * PER_S, for_s=1.0, waits_s=0.0001) / (5 * PER_S))
    assert refused[0] > 0.9
    assert refused[-1] == 0
    assert sorted(refused, reverse=True) == refused


def test_overload_goes_on_where_those_who_are_let_in_have_to_wait(queue):
    queue.overload()
    for _ in range(8):
        refused = queue.serve(per_s=5 * PER_S, for_s=1.0, waits_s=0.01)
    assert refused > 5 * PER_S * 0.8


MORE_PER_S = PER_S * 3 // 2


def test_trial_in_which_nobody_waits_long_ends_the_overload(queue):
    queue.overload()
    assert queue.ask(per_s=MORE_PER_S, for_s=TRIAL_AFTER_S, length=5) > MORE_PER_S * TRIAL_AFTER_S * 0.9
    queue.ask(per_s=MORE_PER_S, for_s=COUNT_OVER_S * 2, length=1)
    assert queue.ask(per_s=MORE_PER_S, for_s=TRIAL_S, length=1) == 0
    assert queue.ask(per_s=MORE_PER_S, for_s=1, length=50) == 0  # which a trial would not bear


def test_trial_that_lets_too_many_in_is_overload_again_and_the_next_comes_later(queue):
    queue.overload()
    for after_s in (TRIAL_AFTER_S, 2 * TRIAL_AFTER_S, 4 * TRIAL_AFTER_S):
        assert queue.ask(per_s=MORE_PER_S, for_s=after_s, length=3) > MORE_PER_S * after_s * 0.9
        queue.ask(per_s=MORE_PER_S, for_s=COUNT_OVER_S * 2, length=1)
        assert not queue.backlog.is_full(1)
        assert queue.backlog.is_full(3)  # of which 100 a second are done: the last would wait longer than 0.02 s


def test_trial_that_is_over_fails_no_more_though_nobody_came_meanwhile(queue):
    queue.overload()
    queue.ask(per_s=MORE_PER_S, for_s=TRIAL_AFTER_S + COUNT_OVER_S * 2, length=1)
    queue.now_s += 2 * TRIAL_S
    assert not queue.backlog.is_full(50)


def test_trial_in_which_calls_are_heard_of_late_is_overload_again(queue):
    queue.overload()
    queue.ask(per_s=MORE_PER_S, for_s=TRIAL_AFTER_S + COUNT_OVER_S * 2, length=1)
    assert not queue.backlog.is_full(0)
    queue.lag_s = LONG_S
    assert queue.backlog.is_full(0)


def test_no_trial_is_made_where_refusing_leaves_no_time_for_one(queue):
    queue.overload()
    assert queue.ask(per_s=3 * PER_S, for_s=3 * TRIAL_AFTER_S, length=5) > 3 * PER_S * 3 * TRIAL_AFTER_S * 0.999
