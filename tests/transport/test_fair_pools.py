"""Fair pools: flows are served in round-robin order, and the longest flow loses tasks when the queue is full."""

from __future__ import annotations

import threading

import pytest

from storekeep.server.transport.fair_pools import FairPool, FairQueue
from tests.support.routes import TIMEOUT_S


class Call:
    """A task of a flow, which records its outcome."""

    def __init__(self, flow: str, number: int = 0) -> None:
        self.flow = flow
        self.number = number
        self.outcome = ""
        self.done = threading.Event()

    def __call__(self) -> None:
        self.outcome = "served"
        self.done.set()

    def give_up(self) -> None:
        self.outcome = "refused"
        self.done.set()


def test_flows_take_turns_and_keep_their_own_order():
    queue = FairQueue(100)
    for number in range(5):
        queue.put(Call("hog", number))
    for number in range(2):
        queue.put(Call("other", number))
    taken = [queue.get() for _ in range(7)]
    assert [(call.flow, call.number) for call in taken] == [  # type: ignore[union-attr]  # all are calls
        ("hog", 0),
        ("other", 0),
        ("hog", 1),
        ("other", 1),
        ("hog", 2),
        ("hog", 3),
        ("hog", 4),
    ]


def test_full_queue_refuses_the_newest_of_the_flow_with_the_most():
    queue = FairQueue(4)
    hog = [Call("hog", number) for number in range(4)]
    assert [queue.put(call) for call in hog] == [None] * 4
    late = Call("hog", 4)
    assert queue.put(late) is late
    others = [Call("other", 0), Call("other", 1)]
    assert queue.put(others[0]) is hog[3]
    third = Call("third")
    assert queue.put(third) is hog[2]
    assert queue.put(others[1]) is others[1]  # its flow would be as long as the one that loses a task
    assert [queue.get() for _ in range(4)] == [hog[0], others[0], third, hog[1]]


@pytest.mark.parametrize("drops", [False, True])
def test_pool_refuses_what_is_evicted_and_ends(drops: bool):
    begun, goes_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        goes_on.wait(TIMEOUT_S)

    pool = FairPool(1, name="fair", length_max=3)
    pool.put(hold)
    assert begun.wait(TIMEOUT_S)
    hog = [Call("hog", number) for number in range(3)]
    assert all(pool.put(call) for call in hog)
    assert not pool.put(Call("hog"))
    other = Call("other")
    assert pool.put(other)
    assert hog[2].outcome == "refused"
    pool.shutdown(wait=False, cancel_futures=drops)
    goes_on.set()
    pool.shutdown()
    assert [call.outcome for call in (hog[0], hog[1], other)] == [""] * 3 if drops else ["served"] * 3


def test_task_that_cannot_be_refused_runs_apart():
    ran = threading.Event()
    goes_on = threading.Event()
    pool = FairPool(1, name="fair", length_max=2)
    begun = threading.Event()
    pool.put(lambda: begun.set() or goes_on.wait(TIMEOUT_S))
    assert begun.wait(TIMEOUT_S)
    pool.put(lambda: None)
    pool.put(ran.set)
    assert pool.put(Call("other"))
    assert ran.wait(TIMEOUT_S)
    goes_on.set()
    pool.shutdown()
