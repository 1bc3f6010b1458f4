"""Fair shares: who sends fewer calls than others is found, by address and by connection."""

from __future__ import annotations

import pytest

from storekeep.server.transport import fair_shares
from storekeep.server.transport.fair_shares import CALLERS_MAX, WINDOW_S, FairShares

FLOODS = [f"ipv4:10.0.0.1:{port}" for port in (1, 2, 3)]
QUIET = "ipv4:10.0.0.2:1"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still; its only item is the time in seconds."""
    now_s = [1_000.0]
    monkeypatch.setattr(fair_shares.time, "monotonic", lambda: now_s[0])
    return now_s


def count(shares: FairShares, peer: str, calls: int) -> bool:
    """Count calls of a peer; return whether it was below its share at the last one."""
    return [shares.count(peer) for _ in range(calls)][-1]


def test_quiet_address_beside_a_flood_is_below_its_share(clock):
    shares = FairShares()
    assert not any(count(shares, peer, 1_000) for peer in FLOODS)
    assert count(shares, QUIET, 100)


def test_quiet_connection_at_the_address_of_a_flood_is_below_its_share(clock):
    shares = FairShares()
    for peer in FLOODS:
        count(shares, peer, 1_000)
    assert count(shares, "ipv4:10.0.0.1:4", 100)


def test_address_of_a_flood_over_many_connections_is_not_below_its_share(clock):
    shares = FairShares()
    quiet = [count(shares, f"ipv4:10.0.0.1:{port}", 10) for port in range(1_000)]
    assert not any(quiet[1:])
    assert count(shares, QUIET, 1_000)


def test_equal_callers_have_no_priority(clock):
    shares = FairShares()
    peers = [f"ipv4:10.0.0.{host}:1" for host in range(10)]
    for _ in range(50):
        below = [shares.count(peer) for peer in peers]
    assert not any(below)
    assert not FairShares().count(QUIET)


def test_flood_of_the_window_before_still_counts_and_then_no_more(clock):
    shares = FairShares()
    count(shares, FLOODS[0], 1_000)
    clock[0] += WINDOW_S * 1.1
    assert count(shares, QUIET, 10)
    clock[0] += WINDOW_S * 2.1
    assert not count(shares, QUIET, 10)


def test_callers_beyond_the_limit_have_no_share_and_take_no_memory(clock):
    shares = FairShares()
    count(shares, FLOODS[0], 20 * CALLERS_MAX)
    for number in range(CALLERS_MAX + 10):
        below = shares.count(f"ipv4:10.{number >> 16}.{number >> 8 & 255}.{number & 255}:1")
    assert not below


def test_calls_are_counted_for_a_window_after_each_rejection(clock):
    shares = FairShares()
    assert not shares.is_active()
    shares.activate()
    assert shares.is_active()
    clock[0] += WINDOW_S * 1.1
    assert not shares.is_active()
