"""Authentication and authorisation: turns the `authorization` metadata into a caller with the method's permission.

Access is denied by default. A verified token is cached by its hash until it expires. After any change of permissions
its caller is looked up again, without verifying the signature again.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import grpc

from storekeep.server.domain.access_errors import PermissionDenied, TokenExpired, TokenRevoked, Unauthenticated
from storekeep.server.domain.calls import Caller
from storekeep.server.interceptors.chain import Layer, Step
from storekeep.server.interceptors.credentials import (
    ACCESS_TOKEN,
    FailedCredentials,
    make_credential,
    parse_bearer_token,
)
from storekeep.server.transport.budgets import get_peer_address
from storekeep.server.transport.rpc import ANONYMOUS, PUBLIC, Method, Rpc

Claims = TypeVar("Claims")

AUTHENTICATED = "authenticated"
"""The permission of methods that accept any valid token."""
VERIFIED_MAX = 10_000
"""Maximum number of cached tokens; each takes about 1 KiB."""
REJECTED_CACHE_S = 60.0
"""How long a rejection is remembered, so that an expired or revoked token costs one signature check. It ends so
that tokens work again after a clock that was ahead is corrected."""


class _Verified(NamedTuple, Generic[Claims]):
    claims: Claims
    caller: Caller
    version: int


class _Rejected(NamedTuple):
    """A rejected token.

    Attributes:
        error: the class of the error.
        version: the version of permissions that it applies to; None if it does not depend on permissions.
        until_s: when to check the token again, as in `time.monotonic()`.
    """

    error: type[TokenExpired | TokenRevoked]
    version: int | None
    until_s: float


class Authenticator(Generic[Claims]):
    """Authenticates callers and checks their permissions. Thread-safe.

    Args:
        verify: Verifies a signed token and returns its claims; raises Unauthenticated or TokenExpired.
        find_caller: Returns the caller of a token and its current permissions; raises TokenRevoked or Unauthenticated.
        version: Returns a number that changes whenever a result of `find_caller` may change; called on every RPC.
        verified_max: Maximum number of cached tokens, and of cached rejections.
        failures: Records invalid tokens; None to record nothing.
    """

    def __init__(
        self,
        *,
        verify: Callable[[str], Claims],
        find_caller: Callable[[Claims], Caller],
        version: Callable[[], int],
        verified_max: int = VERIFIED_MAX,
        failures: FailedCredentials | None = None,
    ) -> None:
        self._verify = verify
        self._find_caller = find_caller
        self._version = version
        self._verified_max = verified_max
        self._failures = failures
        self._verified: dict[bytes, _Verified[Claims]] = {}
        self._rejected: dict[bytes, _Rejected] = {}
        self._lock = threading.Lock()

    def authenticate(self, authorization: str | None, permission: str, *, peer: str = "") -> Caller:
        """Return the caller of a method that requires `permission`; always `ANONYMOUS` for a public method.

        Args:
            authorization: Value of the `authorization` metadata; None if absent.
            permission: Permission that the contract requires; an empty one is denied to every caller.
            peer: Address of the caller.

        Raises: Unauthenticated, TokenExpired, TokenRevoked, PermissionDenied.
        """
        if permission == PUBLIC:
            return ANONYMOUS
        token = parse_bearer_token(authorization)
        key = hashlib.sha256(token.encode()).digest()
        cached = self._verified.get(key)
        version = self._version()
        if cached is not None and cached.version == version:
            caller = cached.caller
        else:
            self._repeat_rejection(key, version)
            claims = cached.claims if cached else self._verify_and_record(token, key, peer)
            caller = self._look_up(key, claims, version)
        if time.time_ns() >= caller.expire_us * 1_000:
            raise TokenExpired
        if permission not in caller.permissions and permission != AUTHENTICATED:
            raise PermissionDenied(permission, is_withheld=permission in caller.withheld)
        return caller

    def _repeat_rejection(self, key: bytes, version: int) -> None:
        """Raise if the token was rejected a moment ago for a reason that still holds.

        Raises: TokenExpired, TokenRevoked.
        """
        rejected = self._rejected.get(key)
        if rejected is not None and rejected.version in (None, version) and time.monotonic() < rejected.until_s:
            raise rejected.error

    def _remember_rejection(self, key: bytes, error: type[TokenExpired | TokenRevoked], version: int | None) -> None:
        with self._lock:
            self._rejected.pop(key, None)
            if len(self._rejected) >= self._verified_max:
                del self._rejected[next(iter(self._rejected))]
            self._rejected[key] = _Rejected(error, version, time.monotonic() + REJECTED_CACHE_S)

    def _verify_and_record(self, token: str, key: bytes, peer: str) -> Claims:
        """Verify a token and record the result.

        Raises: Unauthenticated, TokenExpired.
        """
        try:
            claims = self._verify(token)
        except TokenExpired:
            self._remember_rejection(key, TokenExpired, None)
            raise
        except Unauthenticated:
            if self._failures is not None:
                self._failures.record(get_peer_address(peer), make_credential(ACCESS_TOKEN, token))
            raise
        if self._failures is not None:
            self._failures.prove(get_peer_address(peer), make_credential(ACCESS_TOKEN, token))
        return claims

    def _look_up(self, key: bytes, claims: Claims, version: int) -> Caller:
        """Look up the caller of a verified token and cache it.

        Raises: Unauthenticated, TokenExpired, TokenRevoked.
        """
        try:
            caller = self._find_caller(claims)
        except TokenRevoked:
            self._remember_rejection(key, TokenRevoked, version)
            raise
        with self._lock:
            if len(self._verified) >= self._verified_max and key not in self._verified:
                del self._verified[next(iter(self._verified))]
            self._verified[key] = _Verified(claims, caller, version)
        return caller


def authenticate_calls(authenticator: Authenticator[Any]) -> Layer:
    """Return the layer that authenticates each call, checks its permission and sets `rpc.caller`."""

    def layer(method: Method, serve: Step) -> Step:
        def authenticate(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
            rpc.caller = authenticator.authenticate(rpc.authorization, method.permission, peer=rpc.peer)
            return serve(request, context, rpc)

        return authenticate

    return layer
