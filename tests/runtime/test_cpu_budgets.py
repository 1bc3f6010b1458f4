"""The budget of CPU time for work that can wait: no limit in an idle process, a share of its time in a busy one."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading

import pytest

from storekeep.server.runtime.cpu_budgets import WINDOW_S, CpuBudget, read_waiting_s
from tests.support.hostile.wire import wait_until

COST_S = 0.002
DATA = bytes(1_000_000)


class Process:
    """A process whose time and CPU time the test sets."""

    now_s = 100.0
    cpu_s = 5.0
    waiting_s = 2.0


def count_work(process: Process, budget: CpuBudget, *, seconds: float, others: float, waiting: float = 0.0) -> int:
    """Run as much work as the budget allows, looking every 10 ms. Return how often it ran.

    Args:
        others: the share of a core that the rest of the process uses.
        waiting: the share of the time for which a thread waits for a processor.
    """
    ran = 0
    for _ in range(round(seconds / 0.01)):
        process.now_s += 0.01
        process.cpu_s += 0.01 * others
        process.waiting_s += 0.01 * waiting
        for _ in range(4):
            if budget.has_room():
                ran += 1
                budget.spend(COST_S)
                process.cpu_s += COST_S
    return ran


def make_budget(process: Process) -> CpuBudget:
    return CpuBudget(0.1, read_clock=lambda: process.now_s, read_cpu=lambda: process.cpu_s)


def test_idle_process_has_no_limit() -> None:
    process = Process()
    assert count_work(process, make_budget(process), seconds=3, others=0.1) == 1_200


def test_busy_process_gives_its_share_and_no_more() -> None:
    process = Process()
    budget = make_budget(process)
    count_work(process, budget, seconds=2 * WINDOW_S, others=0.9)
    ran = count_work(process, budget, seconds=10, others=0.9)
    assert 0.5 <= ran * COST_S / (0.1 * 10) <= 1.2


def test_process_that_is_idle_again_has_no_limit() -> None:
    process = Process()
    budget = make_budget(process)
    count_work(process, budget, seconds=3, others=0.9)
    count_work(process, budget, seconds=3, others=0.0)
    assert count_work(process, budget, seconds=1, others=0.0) == 400


@pytest.mark.parametrize(
    ("writes_per_commit", "waiting", "is_busy"),
    [
        pytest.param(8, 0.6, True, id="a busy process on a crowded host"),
        pytest.param(8, 0.05, False, id="a slow disk"),
        pytest.param(1, 0.6, False, id="a few calls on a crowded host"),
    ],
)
def test_process_that_gets_less_than_half_a_core_is_busy_only_if_writes_wait_for_a_processor(
    writes_per_commit: int, waiting: float, is_busy: bool
) -> None:
    process, commits = Process(), itertools.count()

    def count_commits() -> tuple[int, int]:
        number = next(commits)
        return number, number * writes_per_commit

    budget = CpuBudget(
        0.1,
        count_commits=count_commits,
        read_clock=lambda: process.now_s,
        read_cpu=lambda: process.cpu_s,
        read_waiting=lambda: process.waiting_s,
    )
    count_work(process, budget, seconds=2 * WINDOW_S, others=0.2, waiting=waiting)
    ran = count_work(process, budget, seconds=10, others=0.2, waiting=waiting)
    assert 1 <= ran <= 200 if is_busy else ran == 4_000


def test_threads_that_share_a_processor_wait_for_it() -> None:
    processor = min(os.sched_getaffinity(0))
    ended = threading.Event()

    def count() -> None:
        os.sched_setaffinity(0, {processor})  # of this thread
        while not ended.is_set():
            hashlib.sha256(DATA).digest()  # without the interpreter's lock

    before_s = read_waiting_s()
    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: read_waiting_s() > before_s + 0.1, what="threads wait for the processor")
    finally:
        ended.set()
        for thread in threads:
            thread.join()
