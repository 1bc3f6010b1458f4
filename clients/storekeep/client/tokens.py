"""Tokens: the access token of the client, fetched with its API key and renewed before it is over.

Invariant: at most one thread fetches at a time; while a token still holds, the others go on with it. A refresh
token is sent once only, because the server takes a second use for theft.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from functools import partial

from storekeep.client.attempts import RetryBudget, retried, send
from storekeep.client.deadlines import Deadline
from storekeep.client.errors import CallTimedOut, StorekeepError
from storekeep.v1.auth_pb2 import IssueTokenRequest, RefreshTokenRequest, TokenSet
from storekeep.v1.auth_pb2_grpc import AuthServiceStub

RENEW_AT = 0.8
"""The part of its lifetime after which a token is renewed."""

RENEW_AGAIN_S = 5.0
"""How long a renewal that failed waits for the next one, while the token still holds."""

LIFETIME_MIN_S = 5.0
"""Taken for the lifetime when this machine's clock says it is shorter: a wrong clock must not cost a call each."""


@dataclass(frozen=True)
class _Held:
    access_token: str
    refresh_token: str
    renew_at_s: float
    over_at_s: float


class Tokens:
    """The access token, for as many threads as use the client."""

    def __init__(self, stub: AuthServiceStub, *, api_key: str, budget: RetryBudget) -> None:
        self._stub = stub
        self._api_key = api_key
        self._budget = budget
        self._lock = threading.Lock()
        self._held: _Held | None = None

    def current(self, *, deadline: Deadline) -> str:
        """Return an access token that holds, fetching one when there is none.

        Raises: ApiKeyInvalid, and what else a call can end with.
        """
        held = self._held
        if held is None or time.monotonic() >= held.over_at_s:
            return self._fetch(deadline).access_token
        if time.monotonic() >= held.renew_at_s:
            self._renew_in_passing(held, deadline)
        return (self._held or held).access_token

    def discard(self, access_token: str) -> None:
        """Forget a token that the server no longer takes, and the refresh token that came with it."""
        with self._lock:
            if self._held is not None and self._held.access_token == access_token:
                self._held = None

    def _fetch(self, deadline: Deadline) -> _Held:
        if not self._lock.acquire(timeout=deadline.left_s):
            raise CallTimedOut("No access token could be fetched before the deadline")
        try:
            if self._held is None or time.monotonic() >= self._held.over_at_s:
                self._held = self._refresh(deadline) or self._issue(deadline)
            return self._held
        finally:
            self._lock.release()

    def _renew_in_passing(self, seen: _Held, deadline: Deadline) -> None:
        """Renew ahead of time. Where another thread does so already, or it fails, the held token stays in use."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._held is seen:
                self._held = self._refresh(deadline) or self._issue(deadline)
        except StorekeepError:
            self._held = replace(seen, refresh_token="", renew_at_s=time.monotonic() + RENEW_AGAIN_S)
        finally:
            self._lock.release()

    def _refresh(self, deadline: Deadline) -> _Held | None:
        held = self._held
        if held is None or not held.refresh_token:
            return None
        self._held = replace(held, refresh_token="")
        request = RefreshTokenRequest(refresh_token=held.refresh_token)
        try:
            return _hold(send(self._stub.RefreshToken, request, deadline=deadline))
        except StorekeepError:
            return None

    def _issue(self, deadline: Deadline) -> _Held:
        request = IssueTokenRequest(api_key=self._api_key)
        known = self._held is not None
        issue = partial(send, self._stub.IssueToken, request, deadline=deadline)
        return _hold(retried(issue, deadline=deadline, budget=self._budget, reconnects=known))


def _hold(tokens: TokenSet) -> _Held:
    lifetime_s = max(LIFETIME_MIN_S, tokens.expire_time.ToNanoseconds() / 1e9 - time.time())
    now_s = time.monotonic()
    return _Held(tokens.access_token, tokens.refresh_token, now_s + RENEW_AT * lifetime_s, now_s + lifetime_s)
