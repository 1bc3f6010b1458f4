"""Budgets: how many things without a token there may be at a time, and which of them go when there are too many.

Whoever holds most goes first, not whoever comes last: an address with the most members loses those that it has held
longest, from the connection with the most. Where members differ in size, most is by size. So a caller whose requests
are complete at once never meets a full budget.
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
        size_max: how large they may be in all.
        peer_of: the peer of a member, such as `ipv4:127.0.0.1:40404`.
        size_of: the size of a member, which stays the same.
        groups_addresses: whether each member is asked for its peer as it comes, so that `count_of` knows, and the
            address with the most is found quickly; otherwise members are asked only when some have to go.
        evicted_min: how many are evicted at a time, at least: without groups it costs as much to find one as many.
    """

    def __init__(
        self,
        size_max: int,
        *,
        peer_of: Callable[[T], str],
        size_of: Callable[[T], int] = lambda _member: 1,
        groups_addresses: bool = False,
        evicted_min: int = 1,
    ) -> None:
        self._size_max = size_max
        self._peer_of = peer_of
        self._size_of = size_of
        self._groups_addresses = groups_addresses
        self._evicted_min = evicted_min
        self._groups: dict[str, _Group[T]] = {}
        self._since_s: dict[T, float] = {}
        self._peers: dict[T, tuple[str, str]] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._since_s)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._since_s))

    def add(self, member: T, *, now_s: float) -> None:
        """Add a member."""
        self._since_s[member] = now_s
        self._size += self._size_of(member)
        if self._groups_addresses:
            self._group_of(self._groups, member).add(member, self._size_of(member))

    def touch(self, member: T) -> None:
        """Note that a member has done something: it is the youngest now."""
        if self._since_s.pop(member, None) is None:
            return
        self._since_s[member] = time.monotonic()
        if self._groups_addresses:
            self._groups[self._place(member)[0]].touch(member)

    def remove(self, member: T) -> bool:
        """Remove a member; False where it is none."""
        place = self._peers.pop(member, None) if self._peers else None
        if place is not None and self._groups_addresses:
            group = self._groups[place[0]]
            group.remove(member, self._size_of(member))
            if not group.members:
                del self._groups[place[0]]
        if self._since_s.pop(member, None) is None:
            return False
        self._size -= self._size_of(member)
        return True

    @property
    def is_over(self) -> bool:
        """Whether its members are larger than they may be."""
        return self._size > self._size_max

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
        before_s = now_s if self._size > FRESH_FACTOR * self._size_max else now_s - FRESH_S
        evicted: list[T] = []
        while self.is_over:
            worst = self._worst(before_s)
            if not worst:
                break
            for member in worst:
                if len(evicted) >= self._evicted_min and not self.is_over:
                    break
                self.remove(member)
                evicted.append(member)
        return evicted

    def count_of(self, address: str) -> int:
        """Return how many members an address has, where they are grouped."""
        group = self._groups.get(address)
        return 0 if group is None else len(group.members)

    def _worst(self, before_s: float) -> list[T]:
        """Return members of the address with the most that are old enough: of the largest connection first, by age.

        None of another address, even when all members of the largest are too young: those will be old enough soon.
        """
        groups = self._groups if self._groups_addresses else self._grouped()
        worst = max(groups.values(), key=lambda group: group.size)
        connections: Counter[str] = Counter()
        for member in worst.members:
            connections[self._place(member)[1]] += self._size_of(member)
        candidates = [member for member in worst.members if self._since_s[member] <= before_s]
        return sorted(candidates, key=lambda member: -connections[self._place(member)[1]])

    def _grouped(self) -> dict[str, _Group[T]]:
        groups: dict[str, _Group[T]] = {}
        for member in self._since_s:
            self._group_of(groups, member).add(member, self._size_of(member))
        return groups

    def _group_of(self, groups: dict[str, _Group[T]], member: T) -> _Group[T]:
        address = self._place(member)[0]
        group = groups.get(address)
        if group is None:
            group = groups[address] = _Group()
        return group

    def _place(self, member: T) -> tuple[str, str]:
        """Address and connection of a member, asked for once."""
        place = self._peers.get(member)
        if place is None:
            peer = self._peer_of(member)
            place = self._peers[member] = (address_of(peer), peer)
        return place


class _Group(Generic[T]):
    """The members of one address, in the order of their last activity.

    Attributes:
        size: of all of them.
    """

    __slots__ = ("members", "size")

    def __init__(self) -> None:
        self.members: dict[T, None] = {}
        self.size = 0

    def add(self, member: T, size: int) -> None:
        self.members[member] = None
        self.size += size

    def touch(self, member: T) -> None:
        del self.members[member]
        self.members[member] = None

    def remove(self, member: T, size: int) -> None:
        del self.members[member]
        self.size -= size
