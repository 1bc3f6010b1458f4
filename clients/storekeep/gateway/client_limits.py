"""Limits per client address, so that one client of the gateway cannot shut out the others.

To the server all clients have the gateway's address. The gateway therefore limits what the server would limit per
address: requests without a credential, and failed credentials. A credential that succeeded is never held back.
"""

from __future__ import annotations

import hmac
import math
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from storekeep.client.error_families import NotAuthenticated
from storekeep.client.errors import REASONS, TokenExpired, TokenRevoked
from storekeep.gateway.config import Settings
from storekeep.gateway.errors import OVERLOADED, RATE_LIMITED

TRACKED_MAX = 50_000
"""Maximum number of addresses, and of credentials that succeeded, that are remembered."""
WERE_RIGHT = (TokenExpired, TokenRevoked)
"""The errors of a credential that was valid before: it is no guess."""
WRONG_REASONS = frozenset(
    reason for reason, kind in REASONS.items() if issubclass(kind, NotAuthenticated) and kind not in WERE_RIGHT
)
"""Reasons for which a credential counts as failed, as on the server."""
RETRY_S = 1
DIGEST_KEY = secrets.token_bytes(32)
"""The key of this process for digests of credentials: a copy of its memory alone verifies no guess of a password."""
ADDRESS_SHARE = 0.5
"""Share of all bytes of bodies that one address can hold."""


class Buckets:
    """Token buckets by address. Those used least recently are dropped.

    Args:
        burst: number of tokens of a full bucket.
        per_s: tokens added per second.
    """

    def __init__(self, *, burst: float, per_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def get_wait_s(self, key: str) -> float:
        """Return the time until the bucket has a token, in seconds; 0 if it has one."""
        return max(0.0, (1 - self._get_level(key)) / self._per_s)

    def take(self, key: str) -> None:
        """Take one token. A bucket is never below empty, so a flood does not lengthen the wait."""
        self._levels[key] = (max(0.0, self._get_level(key) - 1), time.monotonic())
        self._levels.move_to_end(key)
        if len(self._levels) > TRACKED_MAX:
            self._levels.popitem(last=False)

    def give_back(self, key: str) -> None:
        """Return a token that was taken."""
        self._levels[key] = (min(self._burst, self._get_level(key) + 1), time.monotonic())

    def _get_level(self, key: str) -> float:
        known = self._levels.get(key)
        if known is None:
            return self._burst
        level, taken_s = known
        return min(self._burst, level + (time.monotonic() - taken_s) * self._per_s)


class ClientLimits:
    """What each client address uses now, and what it may use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._requests: Counter[str] = Counter()
        self._anonymous = Buckets(burst=settings.anonymous_requests_burst, per_s=settings.anonymous_requests_per_s)
        self._failures = Buckets(burst=settings.failed_credentials_burst, per_s=settings.failed_credentials_per_s)
        self._proven: OrderedDict[bytes, None] = OrderedDict()
        self._bytes: Counter[str] = Counter()
        self._bytes_total = 0
        share = int(settings.bodies_size_max_bytes * ADDRESS_SHARE)
        self._bytes_per_address_max = max(share, settings.body_size_max_bytes)

    @contextmanager
    def count_request(self, address: str) -> Iterator[None]:
        """Count a request while it is answered.

        Raises: Refused if the address has too many.
        """
        limit = self._settings.requests_per_address_max
        if limit and self._requests[address] >= limit:
            raise RATE_LIMITED.make("this address has too many concurrent requests; retry", retry_s=RETRY_S)
        self._requests[address] += 1
        try:
            yield
        finally:
            _subtract(self._requests, address, 1)

    def admit(self, address: str, credential: str) -> None:
        """Admit a request by its credential, before its body is read.

        Args:
            address: address of the client, as `get_limit_key` returns it.
            credential: access token or API key; empty without one.

        Raises: Refused if the address failed too often, or sends too many requests without a credential.
        """
        wait_s = self._failures.get_wait_s(address)
        if wait_s and not (credential and _digest(credential) in self._proven):
            text = "this address sent too many wrong credentials; retry"
            raise RATE_LIMITED.make(text, retry_s=math.ceil(wait_s))
        if credential:
            return
        if wait_s := self._anonymous.get_wait_s(address):
            text = "this address sent too many requests without a credential; retry"
            raise RATE_LIMITED.make(text, retry_s=math.ceil(wait_s))
        self._anonymous.take(address)

    def reserve(self, address: str, credential: str) -> bool:
        """Admit a sign-in, and count it as a failure until `settle`: many at once are no more than one after the other.

        Returns: whether it was counted. A credential that succeeded before is not.

        Raises: Refused.
        """
        self.admit(address, "")
        self.admit(address, credential)
        if _digest(credential) in self._proven:
            return False
        self._failures.take(address)
        return True

    def settle(self, address: str, credential: str, reason: str, *, reserved: bool) -> None:
        """Record how the server answered a sign-in.

        Args:
            reason: reason of the error; empty for a success.
            reserved: what `reserve` returned.
        """
        if reserved and reason in WRONG_REASONS:
            return
        if reserved:
            self._failures.give_back(address)
        self.record(address, credential, reason)

    def record(self, address: str, credential: str, reason: str) -> None:
        """Record how the server answered: a credential that succeeded is proven, a wrong one counts as a failure.

        Args:
            address: address of the client.
            credential: access token or API key; empty without one.
            reason: reason of the error; empty for a success.
        """
        if reason in WRONG_REASONS:
            self._failures.take(address)
            if credential:
                self._proven.pop(_digest(credential), None)
        elif credential and not reason:
            digest = _digest(credential)
            self._proven[digest] = None
            self._proven.move_to_end(digest)
            if len(self._proven) > TRACKED_MAX:
                self._proven.popitem(last=False)

    def hold_bytes(self, address: str, size: int) -> None:
        """Count bytes of bodies that the gateway holds for an address.

        Raises: Refused if the gateway, or the address, holds too many. Nothing is counted then.
        """
        if self._bytes_total + size > self._settings.bodies_size_max_bytes:
            raise OVERLOADED.make("the gateway holds too many bytes of request bodies; retry", retry_s=RETRY_S)
        if self._bytes[address] + size > self._bytes_per_address_max:
            text = "this address has too many bytes of request bodies in progress; retry"
            raise RATE_LIMITED.make(text, retry_s=RETRY_S)
        self._bytes[address] += size
        self._bytes_total += size

    def release_bytes(self, address: str, size: int) -> None:
        """Stop counting bytes."""
        _subtract(self._bytes, address, size)
        self._bytes_total -= size


def _subtract(counts: Counter[str], key: str, number: int) -> None:
    counts[key] -= number
    if counts[key] <= 0:
        del counts[key]


def _digest(credential: str) -> bytes:
    return hmac.digest(DIGEST_KEY, credential.encode(), "sha256")[:16]
