"""Authentication and authorisation: from the `authorization` metadata to a caller who may call the method.

Refuses by default. A token that was verified once is remembered by its hash until it is over, or until anything
changes about who may do what; then its holder is looked up again, without verifying the signature again.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import grpc

from storekeep.server.domain.calls import Caller
from storekeep.server.domain.errors import PermissionDenied, TokenExpired, Unauthenticated
from storekeep.server.interceptors.chain import Layer, Step
from storekeep.server.interceptors.credentials import (
    ACCESS_TOKEN,
    FailedCredentials,
    bearer_token,
    credential_from,
)
from storekeep.server.transport.budgets import address_of
from storekeep.server.transport.rpc import NOBODY, PUBLIC, Method, Rpc

Claims = TypeVar("Claims")

AUTHENTICATED = "authenticated"
"""The class of methods that any valid token opens."""
VERIFIED_MAX = 10_000
"""Tokens that are remembered; one takes about 1 KiB."""


class _Verified(NamedTuple, Generic[Claims]):
    claims: Claims
    caller: Caller
    version: int


class Authenticator(Generic[Claims]):
    """Tells who calls, and whether it may.

    Args:
        verify: reads a signed token; raises Unauthenticated or TokenExpired.
        find_caller: who holds the token and what it may do now; raises TokenRevoked or Unauthenticated.
        version: a number that changes when an answer of `find_caller` may have; asked on every call.
        verified_max: how many tokens are remembered.
        failures: is told of tokens that are wrong; nothing is where it is None.
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
        self._lock = threading.Lock()

    def authenticate(self, authorization: str | None, permission: str, *, peer: str = "") -> Caller:
        """The caller of a method that asks for `permission`; nobody where it is public, whatever comes along.

        Args:
            authorization: the metadata's value, None without one.
            permission: of the contract's option; an empty one is refused to everybody.
            peer: the address of who calls.

        Raises: Unauthenticated, TokenExpired, TokenRevoked, PermissionDenied.
        """
        if permission == PUBLIC:
            return NOBODY
        token = bearer_token(authorization)
        key = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(key)
        version = self._version()
        if known is not None and known.version == version:
            caller = known.caller
        else:
            claims = known.claims if known else self._verify_and_record(token, peer)
            caller = self._look_up(key, claims, version)
        if time.time_ns() >= caller.expire_us * 1_000:
            raise TokenExpired
        if permission not in caller.permissions and permission != AUTHENTICATED:
            raise PermissionDenied(permission)
        return caller

    def _verify_and_record(self, token: str, peer: str) -> Claims:
        """Raises: Unauthenticated, TokenExpired."""
        if self._failures is None:
            return self._verify(token)
        credential = credential_from(ACCESS_TOKEN, token)
        try:
            claims = self._verify(token)
        except Unauthenticated:
            self._failures.record(address_of(peer), credential)
            raise
        self._failures.prove(credential)
        return claims

    def _look_up(self, key: bytes, claims: Claims, version: int) -> Caller:
        """Raises: Unauthenticated, TokenExpired, TokenRevoked."""
        caller = self._find_caller(claims)
        with self._lock:
            if len(self._verified) >= self._verified_max and key not in self._verified:
                del self._verified[next(iter(self._verified))]
            self._verified[key] = _Verified(claims, caller, version)
        return caller


def authenticate_calls(authenticator: Authenticator[Any]) -> Layer:
    """The layer: lets a call through to whom the method's permission is given, and says who that is."""

    def layer(method: Method, serve: Step) -> Step:
        def authenticated(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
            rpc.caller = authenticator.authenticate(rpc.authorization, method.permission, peer=rpc.peer)
            return serve(request, context, rpc)

        return authenticated

    return layer
