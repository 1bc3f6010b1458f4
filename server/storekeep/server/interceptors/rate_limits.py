"""Rate limits: token buckets per address, API key and account, for each class of methods.

A bucket is one number (GCRA, ITU-T I.371): the time at which it will be full. A call costs one dictionary lookup, full
buckets need no memory, and the number of buckets is bounded. Each process counts separately.
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
from storekeep.server.transport.rpc import BULK, PUBLIC, Method, Rpc

READ, WRITE, ADMIN = "read", "write", "admin"
CLASSES = (PUBLIC, READ, WRITE, BULK, ADMIN)


class Rate(NamedTuple):
    """A rate of calls with a burst.

    Attributes:
        per_s: Sustained calls per second; above 0.
        burst: Maximum number of calls at once, after a pause; at least 1.
    """

    per_s: float
    burst: float


class TokenBuckets:
    """Token buckets of one rate, by key. Thread-safe.

    Args:
        rate: Fill rate and capacity of each bucket.
        buckets_max: Maximum number of buckets; beyond it the least recently used one is dropped and counts as full.
    """

    def __init__(self, rate: Rate, *, buckets_max: int) -> None:
        self.rate = rate
        self._interval_s = 1.0 / rate.per_s
        self._tolerance_s = (max(1.0, rate.burst) - 1.0) * self._interval_s
        self._buckets_max = buckets_max
        self._full_s: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, key: str, now_s: float) -> float:
        """Take a token and return 0; if there is none, return the seconds until the next one."""
        with self._lock:
            full_s, wait_s = self._full_s.get(key, 0.0), self.wait_s(key, now_s)
            self._put(key, full_s if wait_s else max(full_s, now_s) + self._interval_s)
            return wait_s

    def charge(self, key: str, now_s: float) -> None:
        """Take a token for what has happened already. An empty bucket owes it, so that many at once gain nothing.

        It owes at most its capacity, so that others with the same key need not wait much longer than the attack.
        """
        with self._lock:
            full_s = max(self._full_s.get(key, 0.0), now_s) + self._interval_s
            self._put(key, min(full_s, now_s + 2 * (self._tolerance_s + self._interval_s)))

    def _put(self, key: str, full_s: float) -> None:
        self._full_s.pop(key, None)
        self._full_s[key] = full_s
        if len(self._full_s) > self._buckets_max:
            del self._full_s[next(iter(self._full_s))]

    def wait_s(self, key: str, now_s: float) -> float:
        """Return the seconds until the next token; 0 if there is one now."""
        return max(0.0, self._full_s.get(key, 0.0) - now_s - self._tolerance_s)

    def is_full(self, key: str, now_s: float) -> bool:
        """Return whether the bucket is full."""
        return self._full_s.get(key, 0.0) <= now_s


class RateLimits:
    """The limits of one process.

    Args:
        per_address, per_key, per_account: Rates by class of methods; a missing class has no limit.
        changes: Paths of the methods that change data.
        buckets_max: Maximum number of buckets per rate.
        counts: Counts the rejected calls.
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
        def make_buckets(rates: Mapping[str, Rate]) -> dict[str, TokenBuckets]:
            return {name: TokenBuckets(rate, buckets_max=buckets_max) for name, rate in rates.items()}

        self._addresses = make_buckets(per_address)
        self._keys = make_buckets(per_key)
        self._accounts = make_buckets(per_account)
        self._changes = changes
        self._counts = counts

    def limits_addresses(self, method: Method) -> bool:
        """Return whether a method has a limit per address."""
        return classify_method(method, changes=self._changes) in self._addresses

    def take_address(self, method: Method, address: str) -> None:
        """Count a call of an address, before its token is verified.

        Raises: RateLimited.
        """
        class_ = classify_method(method, changes=self._changes)
        buckets = self._addresses.get(class_)
        if buckets is not None:
            self._take(buckets, address, f"{class_} calls per address")

    def limit_callers(self, method: Method, serve: Step) -> Step:
        """Apply the limits per API key and per account; inside auth."""
        class_ = classify_method(method, changes=self._changes)
        keys, accounts = self._keys.get(class_), self._accounts.get(class_)
        if method.is_public or (keys is None and accounts is None):
            return serve

        def check_limits(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
            if keys is not None:
                self._take(keys, rpc.caller.api_key or rpc.caller.subject, f"{class_} calls per key")
            if accounts is not None:
                self._take(accounts, rpc.caller.subject, f"{class_} calls per account")
            return serve(request, context, rpc)

        return check_limits

    def _take(self, buckets: TokenBuckets, key: str, limit: str) -> None:
        """Take a token.

        Raises: RateLimited.
        """
        wait_s = buckets.take(key, time.monotonic())
        if wait_s:
            self._counts.limit(limit)
            raise RateLimited(limit, per_s=buckets.rate.per_s, wait_s=wait_s)


def classify_method(method: Method, *, changes: frozenset[str]) -> str:
    """Return the rate limit class of a method: that of the contract, or else `PUBLIC`, `WRITE` or `READ`."""
    if method.is_public:
        return PUBLIC
    return method.rate_limit_class or (WRITE if f"/{method.name}" in changes else READ)


def parse_rates(text: str, *, burst_s: float) -> dict[str, Rate]:
    """Parse the rates of a setting such as `public=100 write=50`, in calls per second; 0 means no limit.

    Args:
        burst_s: Burst, in seconds of the sustained rate.
    """
    pairs = (part.partition("=") for part in text.split())
    return {name: Rate(float(per_s), float(per_s) * burst_s) for name, _, per_s in pairs if float(per_s)}
