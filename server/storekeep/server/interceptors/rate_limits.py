"""Rate limits: token buckets per address, API key and account, for each class of methods; and for failed credentials.

A bucket is one number (GCRA, the algorithm of ITU-T I.371): when it would be full again. So a call costs one look into
a dictionary, a full bucket need not be kept, and memory has a limit. Each process counts for itself.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import grpc

from storekeep.server.domain.errors import ApiKeyInvalid, Unauthenticated
from storekeep.server.interceptors.chain import PUBLIC, Layer, Step
from storekeep.server.telemetry.counts import CallCounts
from storekeep.server.transport.budgets import address_of
from storekeep.server.transport.errors import RateLimited
from storekeep.server.transport.rpc import Method, Rpc

READ, WRITE, BULK, ADMIN = "read", "write", "bulk", "admin"
CLASSES = (PUBLIC, READ, WRITE, BULK, ADMIN)
BULK_METHOD = re.compile(r".*/(Batch\w+|ImportOrders|ReconcileStock|VerifyAuditChain)")
"""One call of these does the work of many."""
ADMIN_METHOD = re.compile(r"storekeep\.v1\.(AuthService|AuditService)/.*")


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

    def limit_addresses(self, method: Method, serve: Step) -> Step:
        """The layer before auth. A call that another worker has forwarded was counted there."""
        class_ = class_of(method, changes=self._changes)
        buckets = self._addresses.get(class_)
        if buckets is None:
            return serve

        def limited(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
            if not rpc.forwarded:
                self._take(buckets, address_of(rpc.peer), f"{class_} calls per address")
            return serve(request, context, rpc)

        return limited

    def limit_callers(self, method: Method, serve: Step) -> Step:
        """The layer after auth."""
        class_ = class_of(method, changes=self._changes)
        keys, accounts = self._keys.get(class_), self._accounts.get(class_)
        if method.permission == PUBLIC or (keys is None and accounts is None):
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


class FailedCredentials:
    """Slows down whoever tries credentials that are wrong, before anything is made of the next one.

    An address has some failures for nothing. A key that others try waits only for addresses that have failed lately, so
    that nobody locks its owner out who knows no more than its public part.

    Args:
        rate: at which an address, and all together with one key, may fail.
        buckets_max: of each of the two.
        counts: where refusals are counted.
    """

    def __init__(self, rate: Rate, *, buckets_max: int, counts: CallCounts) -> None:
        self._addresses = TokenBuckets(rate, buckets_max=buckets_max)
        self._keys = TokenBuckets(rate, buckets_max=buckets_max)
        self._counts = counts

    def admit(self, peer: str, *, key_id: str = "") -> None:
        """Pass whoever may try a credential now.

        Raises: RateLimited.
        """
        address, now_s = address_of(peer), time.monotonic()
        limit, wait_s = "failed credentials per address", self._addresses.wait_s(address, now_s)
        if not wait_s and key_id and not self._addresses.is_full(address, now_s):
            limit, wait_s = "failed credentials per key", self._keys.wait_s(key_id, now_s)
        if wait_s:
            self._counts.limit(limit)
            raise RateLimited(limit, per_s=self._addresses.rate.per_s, wait_s=wait_s)

    def record(self, peer: str, *, key_id: str = "") -> None:
        """Count a credential that was wrong."""
        now_s = time.monotonic()
        self._addresses.take(address_of(peer), now_s)
        if key_id:
            self._keys.take(key_id, now_s)


def slow_down_failures(failures: FailedCredentials, *, key_id_of: Callable[[str], str]) -> Layer:
    """The layer around public methods that take a credential in their request.

    Args:
        key_id_of: gives the public part of an API key; empty where it is none.
    """

    def layer(method: Method, serve: Step) -> Step:
        if method.permission != PUBLIC:
            return serve

        def guarded(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
            key_id = key_id_of(getattr(request, "api_key", ""))
            failures.admit(rpc.peer, key_id=key_id)
            try:
                return serve(request, context, rpc)
            except (ApiKeyInvalid, Unauthenticated):
                failures.record(rpc.peer, key_id=key_id)
                raise

        return guarded

    return layer


def class_of(method: Method, *, changes: frozenset[str]) -> str:
    """Return the class of a method's calls, one of `CLASSES`."""
    if method.permission == PUBLIC:
        return PUBLIC
    if BULK_METHOD.fullmatch(method.name):
        return BULK
    if ADMIN_METHOD.fullmatch(method.name) and "." in method.permission:
        return ADMIN
    return WRITE if f"/{method.name}" in changes else READ


def rates_of(text: str, *, burst_s: float) -> dict[str, Rate]:
    """Return the rates that a setting has, such as `public=100 write=50`; a class that has 0 has no limit.

    Args:
        burst_s: how many seconds' worth may come at once.
    """
    pairs = (part.partition("=") for part in text.split())
    return {name: Rate(float(per_s), float(per_s) * burst_s) for name, _, per_s in pairs if float(per_s)}
