"""Rate limits: token buckets per address, API key and account, for each class of methods.

A bucket is one number (GCRA, the algorithm of ITU-T I.371): when it would be full again. So a call costs one look into
a dictionary, a full bucket need not be kept, and memory has a limit. Each process counts for itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import grpc

from storekeep.server.interceptors.chain import Step
from storekeep.server.telemetry.counts import CallCounts
from storekeep.server.transport.errors import RateLimited
from storekeep.server.transport.rpc import PUBLIC, Method, Rpc

READ, WRITE, BULK, ADMIN = "read", "write", "bulk", "admin"
CLASSES = (PUBLIC, READ, WRITE, BULK, ADMIN)


class Rate(NamedTuple):
    """How often something may be done.

    Attributes:
        per_s: in the long run; above 0.
        burst: how often at once, after a pause; at least 1.
    """

    per_s: float
    burst: float


class TokenBuckets:
    """Buckets of one rate, each with a key; safe in any thread.

    Args:
        rate: at which they fill, and how much they hold.
        buckets_max: how many are kept; beyond it the one that was asked for least recently counts as full again.
    """

    def __init__(self, rate: Rate, *, buckets_max: int) -> None:
        self.rate = rate
        self._interval_s = 1.0 / rate.per_s
        self._tolerance_s = (max(1.0, rate.burst) - 1.0) * self._interval_s
        self._buckets_max = buckets_max
        self._full_s: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, key: str, now_s: float) -> float:
        """Take a token; return 0 where there was one, or else in how many seconds there will be."""
        with self._lock:
            full_s = self._full_s.pop(key, 0.0)
            wait_s = full_s - now_s - self._tolerance_s
            if wait_s > 0.0:
                self._full_s[key] = full_s
                return wait_s
            self._full_s[key] = max(full_s, now_s) + self._interval_s
            if len(self._full_s) > self._buckets_max:
                del self._full_s[next(iter(self._full_s))]
            return 0.0

    def wait_s(self, key: str, now_s: float) -> float:
        """Return in how many seconds there is a token; 0 where there is one."""
        return max(0.0, self._full_s.get(key, 0.0) - now_s - self._tolerance_s)

    def is_full(self, key: str, now_s: float) -> bool:
        """Return whether no token is missing."""
        return self._full_s.get(key, 0.0) <= now_s


class RateLimits:
    """The limits of one process.

    Args:
        per_address, per_key, per_account: the rates of the classes of methods that have a limit.
        changes: the paths of the methods that change something.
        buckets_max: of each of them.
        counts: where refusals are counted.
    """

    def __init__(
        self,
        *,
        per_address: Mapping[str, Rate],
        per_key: Mapping[str, Rate],
        per_account: Mapping[str, Rate],
        changes: frozenset[str],
        buckets_max: int,
        counts: CallCounts,
    ) -> None:
        def buckets(rates: Mapping[str, Rate]) -> dict[str, TokenBuckets]:
            return {name: TokenBuckets(rate, buckets_max=buckets_max) for name, rate in rates.items()}

        self._addresses = buckets(per_address)
        self._keys = buckets(per_key)
        self._accounts = buckets(per_account)
        self._changes = changes
        self._counts = counts

    def limits_addresses(self, method: Method) -> bool:
        """Return whether calls of a method are limited by address."""
        return class_of(method, changes=self._changes) in self._addresses

    def take_address(self, method: Method, address: str) -> None:
        """Count a call of an address, before its token is looked at.

        Raises: RateLimited.
        """
        class_ = class_of(method, changes=self._changes)
        buckets = self._addresses.get(class_)
        if buckets is not None:
            self._take(buckets, address, f"{class_} calls per address")

    def limit_callers(self, method: Method, serve: Step) -> Step:
        """The layer after auth."""
        class_ = class_of(method, changes=self._changes)
        keys, accounts = self._keys.get(class_), self._accounts.get(class_)
        if method.is_public or (keys is None and accounts is None):
            return serve

        def limited(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
            if keys is not None:
                self._take(keys, rpc.caller.api_key, f"{class_} calls per key")
            if accounts is not None:
                self._take(accounts, rpc.caller.subject, f"{class_} calls per account")
            return serve(request, context, rpc)

        return limited

    def _take(self, buckets: TokenBuckets, key: str, limit: str) -> None:
        """Raises: RateLimited."""
        wait_s = buckets.take(key, time.monotonic())
        if wait_s:
            self._counts.limit(limit)
            raise RateLimited(limit, per_s=buckets.rate.per_s, wait_s=wait_s)


def class_of(method: Method, *, changes: frozenset[str]) -> str:
    """Return the class of a method's calls, one of `CLASSES`: as the contract says, or else read or write."""
    if method.is_public:
        return PUBLIC
    return method.rate_limit_class or (WRITE if f"/{method.name}" in changes else READ)


def rates_of(text: str, *, burst_s: float) -> dict[str, Rate]:
    """Return the rates that a setting has, such as `public=100 write=50`; a class that has 0 has no limit.

    Args:
        burst_s: how many seconds' worth may come at once.
    """
    pairs = (part.partition("=") for part in text.split())
    return {name: Rate(float(per_s), float(per_s) * burst_s) for name, _, per_s in pairs if float(per_s)}
