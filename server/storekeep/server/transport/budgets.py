"""Budgets: limits for resources that unauthenticated clients hold, and the choice of what to evict above a limit.

The largest holder is evicted first, not the newcomer: the address with the most members loses the oldest ones of its
largest connection. If members differ in size, the largest holder is the one with the largest total. A client whose
requests arrive complete is therefore never evicted.
"""

from __future__ import annotations

import ipaddress
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Generic, TypeVar

FRESH_S = 0.1
"""Members younger than this are not evicted: they may be complete and waiting for the polling thread."""
FRESH_FACTOR = 4
"""Above this multiple of the budget, even fresh members are evicted."""
IPV6_PREFIX = 64
"""Prefix length of the smallest IPv6 block that a subscriber gets (RFC 6177)."""

HOSTS_MAX = 10_000
"""Hosts whose address block is cached; computing one takes some microseconds."""

T = TypeVar("T")


def get_peer_address(peer: str) -> str:
    """Return the address of a peer such as `ipv4:127.0.0.1:40404`: an IPv4 address, an IPv6 /64 block, or `unix`."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return kind
    host = rest.replace("%5B", "[").replace("%5D", "]").rpartition(":")[0].strip("[]")
    return get_address_block(host)


@lru_cache(maxsize=HOSTS_MAX)
def get_address_block(host: str) -> str:
    """Return the /64 block of an IPv6 address. An IPv4 address is returned as it is, an IPv4-mapped one as IPv4."""
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
    """A set of members with a limit on their total size, in the order of their last activity. Not thread-safe.

    Args:
        size_max: the largest total size of all members.
        get_peer: returns the peer of a member, such as `ipv4:127.0.0.1:40404`.
        get_size: returns the size of a member, which must not change.
        groups_addresses: whether members are grouped by address as they are added. This makes `count_members` work and
            eviction fast. Otherwise peers are read only when members are evicted.
        evicted_min: the fewest members to evict at a time. Without groups, finding many costs as much as finding one.
    """

    def __init__(
        self,
        size_max: int,
        *,
        get_peer: Callable[[T], str],
        get_size: Callable[[T], int] = lambda _member: 1,
        groups_addresses: bool = False,
        evicted_min: int = 1,
    ) -> None:
        self._size_max = size_max
        self._get_peer = get_peer
        self._get_size = get_size
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
        self._size += self._get_size(member)
        if self._groups_addresses:
            self._find_group(self._groups, member).add(member, self._get_size(member))

    def touch(self, member: T) -> None:
        """Record activity of a member, which makes it the youngest."""
        if self._since_s.pop(member, None) is None:
            return
        self._since_s[member] = time.monotonic()
        if self._groups_addresses:
            self._groups[self._locate(member)[0]].touch(member)

    def remove(self, member: T) -> bool:
        """Remove a member. Return False if it is not one."""
        peer = self._peers.pop(member, None) if self._peers else None
        if peer is not None and self._groups_addresses:
            group = self._groups[peer[0]]
            group.remove(member, self._get_size(member))
            if not group.members:
                del self._groups[peer[0]]
        if self._since_s.pop(member, None) is None:
            return False
        self._size -= self._get_size(member)
        return True

    @property
    def is_exceeded(self) -> bool:
        """Whether the total size exceeds the limit."""
        return self._size > self._size_max

    def pop_expired(self, *, before_s: float) -> Iterator[T]:
        """Remove and yield the members whose last activity was before a time."""
        while self._since_s:
            member, since_s = next(iter(self._since_s.items()))
            if since_s >= before_s:
                return
            self.remove(member)
            yield member

    def pop_overflow(self, *, now_s: float) -> list[T]:
        """Remove and return the members to evict; none unless the limit is exceeded."""
        before_s = now_s if self._size > FRESH_FACTOR * self._size_max else now_s - FRESH_S
        evicted: list[T] = []
        while self.is_exceeded:
            candidates = self._find_candidates(before_s)
            if not candidates:
                break
            for member in candidates:
                if len(evicted) >= self._evicted_min and not self.is_exceeded:
                    break
                self.remove(member)
                evicted.append(member)
        return evicted

    def count_members(self, address: str) -> int:
        """Return the number of members of an address. Needs `groups_addresses`."""
        group = self._groups.get(address)
        return 0 if group is None else len(group.members)

    def _find_candidates(self, before_s: float) -> list[T]:
        """Return the evictable members of the largest address, from its largest connection first, oldest first.

        Return none of another address, even if all members of the largest are too young: soon they will not be.
        """
        groups = self._groups if self._groups_addresses else self._group_members()
        worst = max(groups.values(), key=lambda group: group.size)
        connections: Counter[str] = Counter()
        for member in worst.members:
            connections[self._locate(member)[1]] += self._get_size(member)
        candidates = [member for member in worst.members if self._since_s[member] <= before_s]
        return sorted(candidates, key=lambda member: -connections[self._locate(member)[1]])

    def _group_members(self) -> dict[str, _Group[T]]:
        groups: dict[str, _Group[T]] = {}
        for member in self._since_s:
            self._find_group(groups, member).add(member, self._get_size(member))
        return groups

    def _find_group(self, groups: dict[str, _Group[T]], member: T) -> _Group[T]:
        address = self._locate(member)[0]
        group = groups.get(address)
        if group is None:
            group = groups[address] = _Group()
        return group

    def _locate(self, member: T) -> tuple[str, str]:
        """Return the address and the peer of a member. They are read once."""
        located = self._peers.get(member)
        if located is None:
            located = self._peers[member] = _locate_peer(self._get_peer(member))
        return located


@lru_cache(maxsize=HOSTS_MAX)
def _locate_peer(peer: str) -> tuple[str, str]:
    """Return the address and the peer. The members of a connection share them, which spares each 200 bytes."""
    return get_peer_address(peer), peer


class _Group(Generic[T]):
    """The members of one address, in the order of their last activity.

    Attributes:
        size: their total size.
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
