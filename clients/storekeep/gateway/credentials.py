"""Credentials of requests: a bearer token is forwarded; an API key is exchanged for one, which is cached.

Invariant: for each API key at most one exchange runs at a time, and a wrong key is not tried again for a while. Keys
are held as digests only, so a memory dump of the cache has none.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass

import grpc

from storekeep.gateway.calls import Calls, Metadata
from storekeep.gateway.config import Settings
from storekeep.gateway.errors import UNAUTHENTICATED, Refused, from_rpc_error
from storekeep.v1.auth_pb2 import IssueTokenRequest, TokenSet

ISSUE_TOKEN = "/storekeep.v1.AuthService/IssueToken"  # noqa: S105 - the path of an RPC
EXPIRY_MARGIN_S = 10.0
"""A cached token is used until this many seconds before it expires."""
LIFETIME_MIN_S = 5.0
"""Minimum assumed lifetime in seconds. With a wrong clock, each request would otherwise exchange its key."""
API_KEY_CHARS_MAX = 200
TOKEN_CHARS_MAX = 8_192
DROP_REASONS = frozenset({"TOKEN_EXPIRED", "TOKEN_REVOKED", "UNAUTHENTICATED"})
"""Errors after which a cached token is exchanged anew, once."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known about a key: its token, or the refusal, until a time of the monotonic clock."""

    until_s: float
    token: str = ""
    refused: Refused | None = None


class Credentials:
    """Turns the `Authorization` header into an access token."""

    def __init__(self, calls: Calls, settings: Settings) -> None:
        self._calls = calls
        self._settings = settings
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._exchanges: dict[bytes, asyncio.Task[_Known]] = {}

    async def get_token(self, credential: str, *, metadata: Metadata) -> str:
        """Return the access token of a credential, a token or an API key.

        Raises: Refused.
        """
        if not is_api_key(credential):
            return credential
        digest = _digest(credential)
        known = self._known.get(digest)
        if known is None or known.until_s <= time.monotonic():
            known = await self._exchange_once(digest, credential, metadata)
        else:
            self._known.move_to_end(digest)
        if known.refused is not None:
            raise Refused(known.refused.http_status, _copy(known.refused), known.refused.headers)
        return known.token

    def drop(self, credential: str) -> bool:
        """Drop the cached token of an API key; return whether there was one."""
        return is_api_key(credential) and self._known.pop(_digest(credential), None) is not None

    async def _exchange_once(self, digest: bytes, api_key: str, metadata: Metadata) -> _Known:
        """Join the running exchange of the key, or start one. It goes on if the request that started it ends."""
        task = self._exchanges.get(digest)
        if task is None:
            task = asyncio.create_task(self._exchange(digest, api_key, metadata))
            self._exchanges[digest] = task
            task.add_done_callback(lambda _: self._exchanges.pop(digest, None))
        return await asyncio.shield(task)

    async def _exchange(self, digest: bytes, api_key: str, metadata: Metadata) -> _Known:
        request = IssueTokenRequest(api_key=api_key).SerializeToString()
        timeout_s = self._settings.request_timeout_s
        try:
            reply = await self._calls.call(ISSUE_TOKEN, request, metadata=metadata, timeout_s=timeout_s)
        except grpc.aio.AioRpcError as error:
            refused = from_rpc_error(error)
            wrong = refused.reason in ("API_KEY_INVALID", "INVALID_FIELD")
            known = _Known(time.monotonic() + (self._settings.wrong_key_cache_s if wrong else 0.0), refused=refused)
            if not wrong:
                return known
        else:
            tokens = TokenSet.FromString(reply.body)
            lifetime_s = tokens.expire_time.ToNanoseconds() / 1e9 - time.time() - EXPIRY_MARGIN_S
            known = _Known(time.monotonic() + max(LIFETIME_MIN_S, lifetime_s), tokens.access_token)
        self._known[digest] = known
        while len(self._known) > self._settings.cached_tokens_max:
            self._known.popitem(last=False)
        return known


def parse_credential(authorization: str | None) -> str:
    """Return the credential of an `Authorization` header; empty without the header.

    Raises: Refused if it is no bearer credential.
    """
    if authorization is None:
        return ""
    scheme, _, credential = authorization.partition(" ")
    credential = credential.strip()
    is_text = credential.isascii() and credential.isprintable() and " " not in credential
    if scheme.lower() != "bearer" or not credential or not is_text or len(credential) > TOKEN_CHARS_MAX:
        raise UNAUTHENTICATED.make("send `Authorization: Bearer` with an access token or an API key")
    return credential


def is_api_key(credential: str) -> bool:
    """Return whether a credential is an API key. A token has dots, a key has none."""
    return bool(credential) and "." not in credential and len(credential) <= API_KEY_CHARS_MAX


def _digest(api_key: str) -> bytes:
    return hashlib.sha256(api_key.encode()).digest()


def _copy(refused: Refused) -> object:
    status = type(refused.status)()
    status.CopyFrom(refused.status)
    return status
