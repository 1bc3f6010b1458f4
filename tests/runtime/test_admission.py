"""The control law of admission control, step by step with a fake clock, and in a simulated queue."""

from __future__ import annotations

import dataclasses
import random
from collections import deque
from collections.abc import Iterator

import pytest

from storekeep.server.runtime import admission
from storekeep.server.runtime.admission import LARGE_READS, READS, WRITES, AdmissionController, ControlledDelay

LAW = ControlledDelay(interval_s=0.1, overloaded_wait_max_s=0.02, probe_wait_max_s=0.05)
WAIT_MAX_S = 0.1
LONG_S, SHORT_S = 0.3, 0.01
PER_S = 100
"""How many calls leave the queue in a second."""


class Queue:
    """An admission controller with a fake clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, law: ControlledDelay = LAW) -> None:
        self.now_s = 1_000.0
        self.lag_s = 0.0
        self.controller = AdmissionController(law, length_max=100, wait_max_s=WAIT_MAX_S, lag_s=lambda: self.lag_s)
        monkeypatch.setattr(admission.time, "monotonic", lambda: self.now_s)

    def leave(self, *, waits_s: float, for_s: float) -> int:
        """Let calls leave the queue after a wait; return how many are rejected at their turn."""
        rejected = 0
        for _ in range(round(for_s * PER_S)):
            self.now_s += 1 / PER_S
            rejected += self.controller.record_wait(self.now_s - waits_s)
        return rejected

    def ask(self, *, per_s: int, for_s: float, length: int) -> float:
        """Offer calls to a queue of this length; return the share that is admitted."""
        asked = round(for_s * per_s)
        admitted = 0
        for _ in range(asked):
            self.now_s += 1 / per_s
            admitted += self.controller.admits(length)
        return admitted / asked

    def overload(self) -> None:
        """Let all calls wait too long for more than an interval."""
        self.leave(waits_s=LONG_S, for_s=LAW.interval_s * 2)
        assert self.controller.is_overloaded

    def stay_overloaded(self, *, for_s: float) -> None:
        """Offer calls that must be rejected."""
        self.controller.record_wait(self.now_s - LONG_S)
        assert self.ask(per_s=PER_S, for_s=for_s, length=5) < 0.05
        assert self.controller.is_overloaded


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    return Queue(monkeypatch)


# -- stable


def test_full_queue_admits_nothing_though_no_call_has_waited(queue):
    assert queue.controller.admits(99)
    assert not queue.controller.admits(100)


def test_burst_that_waits_too_long_for_less_than_an_interval_is_served(queue):
    assert queue.leave(waits_s=LONG_S, for_s=LAW.interval_s) == 0
    assert queue.controller.admits(99)


def test_one_short_wait_begins_the_interval_anew(queue):
    for _ in range(5):
        assert queue.leave(waits_s=LONG_S, for_s=LAW.interval_s) == 0
        queue.leave(waits_s=SHORT_S, for_s=1 / PER_S)
    assert not queue.controller.is_overloaded


def test_slow_calls_that_find_the_queue_empty_in_between_are_no_overload(queue):
    for _ in range(10):
        queue.now_s += 1.0
        assert not queue.controller.record_wait(queue.now_s - LONG_S)
    assert queue.controller.admits(99)


def test_process_that_stands_still_again_and_again_is_no_overload(queue):
    for _ in range(5):
        queue.now_s += 0.15
        for number in range(9):  # later calls are served soon
            queue.now_s += 0.001
            assert not queue.controller.record_wait(queue.now_s - 0.15 + 0.015 * number)
    assert queue.controller.admits(99)


# -- overloaded


def test_queue_in_which_all_wait_too_long_for_an_interval_is_overloaded(queue):
    queue.leave(waits_s=LONG_S, for_s=LAW.interval_s * 2)
    assert queue.controller.is_overloaded


@pytest.mark.parametrize("law", [READS, WRITES, LARGE_READS], ids=["reads", "writes", "large reads"])
def test_slow_calls_are_overload_however_far_apart_they_leave(monkeypatch, law):
    queue = Queue(monkeypatch, law)
    for waits_s in (1.0, 2.0, 3.0):
        queue.now_s += 1.0
        queue.controller.record_wait(queue.now_s - waits_s)
    assert queue.controller.is_overloaded


def test_calls_that_wait_before_they_get_to_the_queue_are_overload(queue):
    queue.lag_s = LONG_S
    queue.leave(waits_s=0.0, for_s=LAW.interval_s * 2)
    assert queue.controller.is_overloaded
    assert queue.ask(per_s=PER_S, for_s=0.5, length=0) == 0
    queue.lag_s = 0.0
    assert queue.ask(per_s=PER_S, for_s=0.05, length=0) == 1


def test_overload_admits_while_the_last_wait_was_short(queue):
    queue.overload()
    assert queue.ask(per_s=PER_S, for_s=0.05, length=1) == 0
    queue.controller.record_wait(queue.now_s - SHORT_S)
    assert queue.ask(per_s=10_000, for_s=0.001, length=50) == 1


def test_overload_admits_nothing_behind_calls_that_do_not_move(queue):
    queue.overload()
    queue.controller.record_wait(queue.now_s - SHORT_S)
    queue.now_s += LAW.overloaded_wait_max_s * 1.1
    assert not queue.controller.admits(1)


def test_overload_rejects_what_has_waited_twice_too_long_at_its_turn(queue):
    queue.overload()
    assert queue.leave(waits_s=LAW.overloaded_wait_max_s * 1.9, for_s=0.1) == 0
    assert queue.leave(waits_s=LAW.overloaded_wait_max_s * 2.1, for_s=0.1) == 10


def test_overload_admits_one_of_many_whatever_the_wait(queue):
    queue.overload()
    queue.lag_s = LONG_S
    asked = 3 * (LAW.admitted_every + 1)
    assert queue.ask(per_s=10_000, for_s=asked / 10_000, length=50) == pytest.approx(3 / asked)


def test_wait_max_of_the_operator_holds_under_overload_too(monkeypatch):
    queue = Queue(monkeypatch)
    queue.controller = AdmissionController(LAW, length_max=100, wait_max_s=0.001)
    queue.overload()
    queue.controller.record_wait(queue.now_s - 0.0015)
    assert not queue.controller.admits(1)


# -- stable again


def test_overload_ends_when_nearly_all_of_an_interval_could_be_admitted(queue):
    queue.overload()
    assert queue.ask(per_s=PER_S, for_s=LAW.interval_s * 2, length=0) == 1
    assert not queue.controller.is_overloaded
    assert queue.controller.admits(50)


def test_overload_goes_on_while_some_of_each_interval_have_to_be_rejected(queue):
    queue.overload()
    for _ in range(100):
        queue.ask(per_s=PER_S, for_s=8 / PER_S, length=0)
        queue.stay_overloaded(for_s=2 / PER_S)


def test_overload_goes_on_where_few_calls_come(queue):
    queue.overload()
    for _ in range(3):
        assert queue.ask(per_s=10, for_s=0.1, length=0) == 1  # the queue is empty for a moment
        assert queue.ask(per_s=10, for_s=0.9, length=1) == 0
    assert queue.controller.is_overloaded


def test_overload_ends_when_no_call_comes_for_a_while(queue):
    queue.overload()
    queue.now_s += LAW.idle_s * 1.1
    assert queue.controller.admits(99)
    assert not queue.controller.is_overloaded


def test_overload_goes_on_when_the_machine_stands_still(queue):
    queue.overload()
    for _ in range(5):
        queue.stay_overloaded(for_s=0.5)
        queue.now_s += LAW.idle_s * 0.9


# -- probes


def probe(queue: Queue) -> None:
    """Offer calls until a probe admits one."""
    for _ in range(100 * PER_S):
        if queue.ask(per_s=PER_S, for_s=1 / PER_S, length=5) and not queue.controller.is_overloaded:
            return
    raise AssertionError("no probe")


def test_probe_in_which_no_call_waits_long_ends_the_overload(queue):
    queue.overload()
    queue.stay_overloaded(for_s=LAW.probe_after_s * 0.9)
    probe(queue)
    for _ in range(PER_S):
        queue.leave(waits_s=LAW.probe_wait_max_s * 0.9, for_s=1 / PER_S)
        assert queue.controller.admits(5)
    queue.now_s += LAW.probe_s
    queue.controller.record_wait(queue.now_s - LONG_S)
    assert queue.controller.admits(50)  # the probe has ended; this is a burst


def test_probe_fails_where_calls_wait_and_the_next_comes_after_twice_as_long(queue):
    queue.overload()
    for after_s in (10, 20, 40, 80, 80):
        queue.stay_overloaded(for_s=after_s * 0.95)
        probe(queue)
        queue.controller.record_wait(queue.now_s - LAW.probe_wait_max_s * 1.1)
        assert not queue.controller.admits(5)
        assert queue.controller.is_overloaded


def test_probe_fails_where_calls_wait_before_they_get_to_the_queue(queue):
    queue.overload()
    queue.stay_overloaded(for_s=LAW.probe_after_s * 0.9)
    probe(queue)
    queue.lag_s = LONG_S
    assert not queue.controller.admits(0)
    assert queue.controller.is_overloaded


def test_overload_that_comes_anew_is_probed_after_the_first_time_again(queue):
    queue.overload()
    queue.stay_overloaded(for_s=LAW.probe_after_s * 0.9)
    probe(queue)
    queue.now_s += LAW.probe_s * 1.1
    assert queue.controller.admits(5)
    queue.overload()
    queue.stay_overloaded(for_s=LAW.probe_after_s * 0.9)
    probe(queue)


# -- a simulated server: two threads share one core; one admits or rejects calls, the other serves them

ADMISSION_S, SERVICE_S, REJECTION_S = 0.00003, 0.00007, 0.00003
SETTLE_S = 2.0


@dataclasses.dataclass
class Simulated:
    """The calls of a simulation after it has settled: latencies of the served ones, and the number of rejected ones."""

    took_s: list[float]
    rejected: int = 0

    @property
    def p99_s(self) -> float:
        """The 99th percentile of the latencies, in seconds."""
        return sorted(self.took_s)[int(0.99 * len(self.took_s))]


def arrivals(times: float, seconds: float) -> Iterator[float]:
    """Return random arrival times at a multiple of the rate that can be served."""
    generator, now_s = random.Random(7), 0.0
    while now_s < seconds:
        now_s += generator.expovariate(times / (ADMISSION_S + SERVICE_S))
        yield now_s


def simulate(queue: Queue, *, times: float, seconds: float) -> Simulated:
    """Simulate a server whose queue is under the controller."""
    found, waiting, begun_s = Simulated([]), deque[tuple[float, float]](), queue.now_s
    for after_s in arrivals(times, seconds):
        came_s = begun_s + after_s
        takes_turn = True
        while waiting and (takes_turn or queue.now_s < came_s):
            takes_turn = False
            call_s, queued_s = waiting.popleft()
            is_timed = call_s > begun_s + SETTLE_S
            if queue.controller.record_wait(queued_s):
                queue.now_s += REJECTION_S
                found.rejected += is_timed
            else:
                queue.now_s += SERVICE_S
                if is_timed:
                    found.took_s.append(queue.now_s - call_s)
        queue.now_s = max(queue.now_s, came_s)
        queue.lag_s = queue.now_s - came_s
        if queue.controller.admits(len(waiting)):
            queue.now_s += ADMISSION_S
            waiting.append((came_s, queue.now_s))
        else:
            queue.now_s += REJECTION_S
            found.rejected += after_s > SETTLE_S
    return found


@pytest.mark.parametrize("times", [0.6, 0.95])
def test_load_that_can_be_served_is_served(monkeypatch, times):
    assert simulate(Queue(monkeypatch, READS), times=times, seconds=3).rejected == 0


@pytest.mark.parametrize(("times", "served_min"), [(1.5, 0.7), (2, 0.5), (3, 0.1)])
def test_overload_serves_what_rejecting_leaves_time_for_and_soon(monkeypatch, times, served_min):
    found = simulate(Queue(monkeypatch, READS), times=times, seconds=SETTLE_S + 2)
    assert len(found.took_s) > served_min * 2 / (ADMISSION_S + SERVICE_S)
    assert found.p99_s < 3 * READS.overloaded_wait_max_s


def test_overload_is_forgotten_soon_after_it_has_passed(monkeypatch):
    queue = Queue(monkeypatch, READS)
    simulate(queue, times=3, seconds=2)
    assert queue.controller.is_overloaded
    queue.lag_s = 0.0
    assert simulate(queue, times=0.6, seconds=SETTLE_S + 1).rejected == 0
    assert not queue.controller.is_overloaded
