"""Budgets: which members are evicted, and how many."""

from __future__ import annotations

import pytest

from storekeep.server.transport.budgets import FRESH_S, Budget


class Held:
    """A member of a budget."""

    def __init__(self, peer: str, size: int = 1) -> None:
        self.peer = peer
        self.size = size


def budget(size_max: int, **more: object) -> Budget[Held]:
    return Budget(size_max, get_peer=lambda held: held.peer, get_size=lambda held: held.size, **more)  # type: ignore[arg-type]


def add(to: Budget[Held], *members: Held) -> list[Held]:
    """Add members; return those that are evicted once none of them is fresh."""
    for member in members:
        to.add(member, now_s=0.0)
    return to.pop_overflow(now_s=2 * FRESH_S)


@pytest.mark.parametrize("counts", [False, True])
def test_only_as_many_go_as_have_to(counts: bool):
    held = budget(8, groups_addresses=counts)
    hog = [Held("ipv4:192.0.2.1:1") for _ in range(6)]
    other = Held("ipv4:192.0.2.2:1")
    assert add(held, *hog, other) == []
    assert add(held, Held("ipv4:192.0.2.3:1"), Held("ipv4:192.0.2.4:1")) == [hog[0]]
    assert len(held) == 8


def test_several_go_at_a_time_where_looking_for_them_costs_much():
    held = budget(8, evicted_min=3)
    hog = [Held("ipv4:192.0.2.1:1") for _ in range(9)]
    assert add(held, *hog) == hog[:3]


def test_size_counts_and_not_the_number():
    held = budget(100)
    small = [Held("ipv4:192.0.2.1:1", 2) for _ in range(20)]
    large = [Held("ipv4:192.0.2.2:1", 30), Held("ipv4:192.0.2.2:2", 31)]
    assert add(held, *small, *large) == [large[1]]  # from the largest connection
    assert not held.is_exceeded
    assert held.remove(large[0])
    assert not held.remove(large[0])
    assert add(held, Held("ipv4:192.0.2.3:1", 60)) == []


def test_where_the_worst_address_has_too_little_the_next_one_loses_too():
    held = budget(10)
    members = [Held("ipv4:192.0.2.1:1", 9), Held("ipv4:192.0.2.2:1", 8), Held("ipv4:192.0.2.3:1", 7)]
    assert add(held, *members) == members[:2]


def test_fresh_members_stay_unless_there_are_far_too_many():
    held = budget(2)
    members = [Held("ipv4:192.0.2.1:1") for _ in range(9)]
    for member in members[:8]:
        held.add(member, now_s=1.0)
    assert held.pop_overflow(now_s=1.0) == []
    held.add(members[8], now_s=1.0)
    assert held.pop_overflow(now_s=1.0) == members[:7]
