"""Budgets: how many things without a token there may be at a time, and which of them go when there are too many.

Whoever holds most goes first, not whoever comes last: an address with the most members loses those that it has held
longest, from the connection with the most. So a caller whose requests are complete at once never meets a full budget.
"""

from __future__ import annotations

import ipaddress
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Generic, TypeVar

FRESH_S = 0.1
"""A member younger than this is not evicted: it may be complete already and wait for the polling thread."""
FRESH_FACTOR = 4
"""Beyond this many times the budget even fresh members are evicted."""
EVICTED_SHARE = 8
"""One of so many members is evicted at a time, so that looking for them costs little for each newcomer."""
IPV6_PREFIX = 64
"""What one subscriber has of IPv6 addresses at least (RFC 6177)."""

HOSTS_MAX = 10_000
"""Hosts whose /64 is remembered, as it takes some microseconds to find."""

T = TypeVar("T")


def address_of(peer: str) -> str:
    """Return whom a peer such as `ipv4:127.0.0.1:40404` stands for: an IPv4 address, an IPv6 /64, or `unix`."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return kind
    host = rest.replace("%5B", "[").replace("%5D", "]").rpartition(":")[0].strip("[]")
    return block_of(host)


@lru_cache(maxsize=HOSTS_MAX)
def block_of(host: str) -> str:
    """Return an IPv4 address as it is, and the /64 of an IPv6 address; an IPv4 address in IPv6 clothes is IPv4."""
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, IPV6_PREFIX), strict=False))


class Budget(Generic[T]):
    """Members in the order of their last activity, for one thread.

    Args:
        members_max: how many there may be.
        peer_of: the peer of a member, such as `ipv4:127.0.0.1:40404`.
        counts_addresses: whether each member is asked for its peer as it comes, so that `count_of` knows; otherwise
            members are asked only when some have to go.
    """

    def __init__(self, members_max: int, *, peer_of: Callable[[T], str], counts_addresses: bool = False) -> None:
        self._members_max = members_max
        self._peer_of = peer_of
        self._counts_addresses = counts_addresses
        self._counts: Counter[str] = Counter()
        self._since_s: dict[T, float] = {}
        self._peers: dict[T, tuple[str, str]] = {}

    def __len__(self) -> int:
        return len(self._since_s)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._since_s))

    def add(self, member: T, *, now_s: float) -> None:
        """Add a member."""
        self._since_s[member] = now_s
        if self._counts_addresses:
            self._counts[self._place(member)[0]] += 1

    def touch(self, member: T) -> None:
        """Note that a member has done something: it is the youngest now."""
        if self._since_s.pop(member, None) is not None:
            self._since_s[member] = time.monotonic()

    def remove(self, member: T) -> bool:
        """Remove a member; False where it is none."""
        place = self._peers.pop(member, None) if self._peers else None
        if place is not None and self._counts_addresses:
            self._counts[place[0]] -= 1
            if not self._counts[place[0]]:
                del self._counts[place[0]]
        return self._since_s.pop(member, None) is not None

    @property
    def is_over(self) -> bool:
        """Whether there are more than there may be."""
        return len(self._since_s) > self._members_max

    def expired(self, *, before_s: float) -> Iterator[T]:
        """Remove and yield the members whose last activity was before this time."""
        while self._since_s:
            member, since_s = next(iter(self._since_s.items()))
            if since_s >= before_s:
                return
            self.remove(member)
            yield member

    def overflow(self, *, now_s: float) -> list[T]:
        """Remove and return the members that have to go; none where there are not too many."""
        if not self.is_over:
            return []
        before_s = now_s if len(self) > FRESH_FACTOR * self._members_max else now_s - FRESH_S
        candidates = [member for member, since_s in self._since_s.items() if since_s <= before_s]
        evicted = self._worst(candidates)[: max(1, self._members_max // EVICTED_SHARE)]
        for member in evicted:
            self.remove(member)
        return evicted

    def count_of(self, address: str) -> int:
        """Return how many members an address has, where that is counted."""
        return self._counts[address]

    def _worst(self, candidates: list[T]) -> list[T]:
        """Those of the address with the most members: first of the connection with the most, oldest first."""
        if not candidates:
            return []
        places = [self._place(member) for member in self._since_s]
        addresses = Counter(address for address, _ in places)
        connections = Counter(connection for _, connection in places)
        worst = max((self._place(member)[0] for member in candidates), key=lambda address: addresses[address])
        of_worst = [member for member in candidates if self._place(member)[0] == worst]
        return sorted(of_worst, key=lambda member: -connections[self._place(member)[1]])

    def _place(self, member: T) -> tuple[str, str]:
        """Address and connection of a member, asked for once."""
        place = self._peers.get(member)
        if place is None:
            peer = self._peer_of(member)
            place = self._peers[member] = (address_of(peer), peer)
        return place
