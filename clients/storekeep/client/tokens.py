"""The client's access token: fetched with the API key, renewed before it expires.

Invariant: at most one thread fetches a token at a time; the others keep using the current one while it is valid. A
refresh token is sent only once, because the server treats a second use as theft.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Protocol

from storekeep.client.attempts import RetryBudget, call_with_retries, send
from storekeep.client.deadlines import Deadline
from storekeep.client.error_families import CallTimedOut, StorekeepError

if TYPE_CHECKING:
    from storekeep.v1.auth_pb2 import TokenSet
    from storekeep.v1.auth_pb2_grpc import AuthServiceStub

RENEW_AT_FRACTION = 0.8
"""Fraction of its lifetime after which a token is renewed."""

RENEW_RETRY_S = 5.0
"""Seconds between a failed renewal and the next, while the current token is valid."""

LIFETIME_MIN_S = 5.0
"""Minimum assumed lifetime in seconds. With a wrong local clock, each call would otherwise fetch a token."""


CACHE_MARGIN_S = 5.0
"""A token from a `TokenCache` is used until this many seconds before it expires."""


@dataclass(frozen=True)
class StoredToken:
    """An access token in a `TokenCache`."""

    access_token: str
    expire_time_s: float
    """Seconds since 1970."""


class TokenCache(Protocol):
    """Stores the access token of an API key, so that the next program needs no new one. Keep it as safe as the key."""

    def load(self) -> StoredToken | None:
        """Return the stored token, expired or not; None if there is none."""

    def save(self, token: StoredToken) -> None:
        """Store a token in place of the previous one."""


@dataclass(frozen=True)
class StoredSession:
    """The tokens of a user who signed in, in a `SessionStore`."""

    access_token: str
    expire_time_s: float
    """When the access token expires, in seconds since 1970."""
    refresh_token: str

    @classmethod
    def from_tokens(cls, tokens: TokenSet) -> StoredSession:
        """Return the tokens of a sign-in or a refresh as they are stored."""
        return cls(tokens.access_token, tokens.expire_time.ToNanoseconds() / 1e9, tokens.refresh_token)


class SessionStore(Protocol):
    """Stores the session of a user, so that the next program goes on with it. Keep it as safe as a password."""

    def lock(self) -> AbstractContextManager[None]:
        """Keep all other programs from refreshing the session: a refresh token works once."""

    def load(self) -> StoredSession | None:
        """Return the stored session, expired or not; None if there is none."""

    def save(self, session: StoredSession) -> None:
        """Store a session in place of the previous one."""


@dataclass(frozen=True)
class _CachedToken:
    access_token: str
    refresh_token: str
    renew_at_s: float
    expire_at_s: float


class Tokens:
    """The access token of a client. Thread-safe."""

    def __init__(
        self,
        make_stub: Callable[[], AuthServiceStub],
        *,
        api_key: str,
        budget: RetryBudget,
        cache: TokenCache | None = None,
    ) -> None:
        self._make_stub = make_stub
        self._cache = cache
        self._api_key = api_key
        self._budget = budget
        self._lock = threading.Lock()
        self._cached = _to_valid_token(cache.load()) if cache is not None else None
        self._has_answer = self._cached is not None

    @cached_property
    def _stub(self) -> AuthServiceStub:
        return self._make_stub()

    def get_access_token(self, *, deadline: Deadline) -> str:
        """Return a valid access token, fetching one if necessary.

        Raises: ApiKeyInvalid, or another StorekeepError of the call that fetches it.
        """
        cached = self._cached
        if cached is None or time.monotonic() >= cached.expire_at_s:
            return self._fetch(deadline).access_token
        if time.monotonic() >= cached.renew_at_s:
            self._renew_early(cached, deadline)
        return (self._cached or cached).access_token

    def discard(self, access_token: str) -> None:
        """Drop a token that the server rejected, together with its refresh token."""
        with self._lock:
            if self._cached is not None and self._cached.access_token == access_token:
                self._cached = None

    def _fetch(self, deadline: Deadline) -> _CachedToken:
        if not self._lock.acquire(timeout=deadline.remaining_s):
            raise CallTimedOut("no access token could be fetched before the deadline")
        try:
            if self._cached is None or time.monotonic() >= self._cached.expire_at_s:
                self._cached = self._refresh(deadline) or self._issue(deadline)
            return self._cached
        finally:
            self._lock.release()

    def _renew_early(self, current: _CachedToken, deadline: Deadline) -> None:
        """Renew the token early. It stays in use if renewal fails or another thread is renewing it."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._cached is current:
                self._cached = self._refresh(deadline) or self._issue(deadline)
        except StorekeepError:
            self._cached = replace(self._cached or current, renew_at_s=time.monotonic() + RENEW_RETRY_S)
        finally:
            self._lock.release()

    def _refresh(self, deadline: Deadline) -> _CachedToken | None:
        cached = self._cached
        if cached is None or not cached.refresh_token:
            return None
        from storekeep.v1.auth_pb2 import RefreshTokenRequest

        self._cached = replace(cached, refresh_token="")
        request = RefreshTokenRequest(refresh_token=cached.refresh_token)
        try:
            return self._keep(send(self._stub.RefreshToken, request, deadline=deadline))
        except StorekeepError:
            return None

    def _issue(self, deadline: Deadline) -> _CachedToken:
        from storekeep.v1.auth_pb2 import IssueTokenRequest

        request = IssueTokenRequest(api_key=self._api_key)
        issue = partial(send, self._stub.IssueToken, request, deadline=deadline)
        return self._keep(call_with_retries(issue, deadline=deadline, budget=self._budget, reconnects=self._has_answer))

    def _keep(self, tokens: TokenSet) -> _CachedToken:
        """Return new tokens with their lifetime, and store the access token if there is a cache."""
        self._has_answer = True
        if self._cache is not None:
            self._cache.save(StoredToken(tokens.access_token, tokens.expire_time.ToNanoseconds() / 1e9))
        return _to_cached_token(tokens)


class SessionTokens(Tokens):
    """The access token of a user who signed in. It cannot be fetched again once the session has ended. Thread-safe."""

    def __init__(self, make_stub: Callable[[], AuthServiceStub], *, tokens: TokenSet, budget: RetryBudget) -> None:
        super().__init__(make_stub, api_key="", budget=budget)
        self._cached = _to_cached_token(tokens)

    def discard(self, access_token: str) -> None:
        """Drop a token that the server rejected, but not its refresh token: that tells whether the session goes on."""
        with self._lock:
            if self._cached is not None and self._cached.access_token == access_token:
                self._cached = replace(self._cached, expire_at_s=0.0)

    def _refresh(self, deadline: Deadline) -> _CachedToken:
        """Refresh the tokens. After a lost reply the next attempt ends the session, which is lost in any case.

        Raises: StorekeepError.
        """
        from storekeep.v1.auth_pb2 import RefreshTokenRequest

        refresh_token = "" if self._cached is None else self._cached.refresh_token
        return self._keep(
            send(self._stub.RefreshToken, RefreshTokenRequest(refresh_token=refresh_token), deadline=deadline)
        )


class SharedSessionTokens(Tokens):
    """The access token of a session that several programs share by a `SessionStore`. Thread-safe."""

    def __init__(self, make_stub: Callable[[], AuthServiceStub], *, store: SessionStore, budget: RetryBudget) -> None:
        super().__init__(make_stub, api_key="", budget=budget)
        self._store = store
        self._cached = _to_valid_token(store.load())
        self._rejected = ""

    def discard(self, access_token: str) -> None:
        """Drop a token that the server rejected, also if it is stored."""
        self._rejected = access_token
        super().discard(access_token)

    def _refresh(self, deadline: Deadline) -> _CachedToken:
        """Use the tokens of another program if it has refreshed them; refresh them otherwise.

        Raises: StorekeepError.
        """
        from storekeep.v1.auth_pb2 import RefreshTokenRequest

        with self._store.lock():
            stored = self._store.load()
            valid = _to_valid_token(stored)
            if valid is not None and valid.access_token != self._rejected:
                return valid
            request = RefreshTokenRequest(refresh_token="" if stored is None else stored.refresh_token)
            tokens = send(self._stub.RefreshToken, request, deadline=deadline)
            self._store.save(StoredSession.from_tokens(tokens))
        return _to_cached_token(tokens)


def _to_valid_token(stored: StoredToken | StoredSession | None) -> _CachedToken | None:
    """Return a stored token; None if there is none or it has expired. It is not renewed before it expires."""
    remaining_s = 0.0 if stored is None else stored.expire_time_s - time.time() - CACHE_MARGIN_S
    if stored is None or remaining_s <= 0:
        return None
    expire_at_s = time.monotonic() + remaining_s
    return _CachedToken(stored.access_token, "", renew_at_s=expire_at_s, expire_at_s=expire_at_s)


def _to_cached_token(tokens: TokenSet) -> _CachedToken:
    lifetime_s = max(LIFETIME_MIN_S, tokens.expire_time.ToNanoseconds() / 1e9 - time.time())
    now_s = time.monotonic()
    renew_at_s = now_s + RENEW_AT_FRACTION * lifetime_s
    return _CachedToken(tokens.access_token, tokens.refresh_token, renew_at_s, now_s + lifetime_s)
