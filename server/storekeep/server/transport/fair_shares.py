"""Fair shares: finds callers that send fewer calls than others while calls are rejected.

Callers below their share did not cause the overload. With priority for them, one flooding caller does not shut out the
rest.
"""

from __future__ import annotations

import time

from storekeep.server.transport.budgets import get_peer_address

WINDOW_S = 1.0
"""Calls are counted for this long. A decision uses the current window and the one before."""
SHARE_MAX = 0.75
"""Largest part of the mean that counts as below the share. Equal callers differ by chance: with 100 calls per window
each, the counts of one in 200 fall below three quarters of the mean."""
CALLERS_MAX = 10_000
"""Most callers that are counted in a window. Others have no share."""


class FairShares:
    """Counts calls per address and per connection. Not thread-safe.

    Each address has a share, and so has each connection among those of its address.
    """

    def __init__(self) -> None:
        self._addresses = _Counts()
        self._connections = _Counts()
        self._counts_until_s = 0.0

    def activate(self) -> None:
        """Count calls from now on, for one window."""
        self._counts_until_s = time.monotonic() + WINDOW_S

    def is_active(self) -> bool:
        """Return whether calls must be counted."""
        return time.monotonic() < self._counts_until_s

    def count(self, peer: str) -> bool:
        """Count a call of a peer, such as `ipv4:127.0.0.1:40404`.

        Returns: whether its address or its connection is below its share.
        """
        now_s = time.monotonic()
        address = get_peer_address(peer)
        is_quiet_address = self._addresses.add(address, now_s)
        return self._connections.add(peer, now_s) or is_quiet_address


class _Counts:
    """Calls per caller in the current window and in the one before."""

    __slots__ = ("_begun_s", "_current", "_previous", "_total")

    def __init__(self) -> None:
        self._begun_s = 0.0
        self._total = 0
        self._current: dict[str, int] = {}
        self._previous: dict[str, int] = {}

    def add(self, caller: str, now_s: float) -> bool:
        """Count a call. Return whether its caller is below its share."""
        if now_s - self._begun_s > WINDOW_S:
            is_consecutive = now_s - self._begun_s < 2 * WINDOW_S
            self._previous = self._current if is_consecutive else {}
            self._current, self._begun_s = {}, now_s
            self._total = sum(self._previous.values())
        self._total += 1
        if caller not in self._current and len(self._current) >= CALLERS_MAX:
            return False
        self._current[caller] = self._current.get(caller, 0) + 1
        calls = self._current[caller] + self._previous.get(caller, 0)
        return calls * max(len(self._current), len(self._previous)) < SHARE_MAX * self._total
