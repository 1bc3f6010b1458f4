"""Wrong credentials: which were shown, by which addresses, and who has to wait before the next one is looked at.

Only calls that show a credential of the kind that failed have to wait. A credential that was right in this process is
known again by its hash, and goes on at an address where others fail.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError

from storekeep.server.domain.errors import ApiKeyInvalid, Unauthenticated
from storekeep.server.interceptors.chain import Layer, Step
from storekeep.server.interceptors.forwarding import ForwardedRefusal
from storekeep.server.interceptors.rate_limits import Rate, TokenBuckets
from storekeep.server.telemetry.counts import CallCounts
from storekeep.server.transport.budgets import address_of
from storekeep.server.transport.errors import RateLimited
from storekeep.server.transport.rpc import Checked, Method, Rpc
from storekeep.v1 import auth_pb2

API_KEY, REFRESH_TOKEN, ACCESS_TOKEN = "api_key", "refresh_token", "access_token"
IN_REQUESTS = (API_KEY, REFRESH_TOKEN)
"""The credentials that public methods take in a field of that name."""
SHOWING_BYTES_MAX = 1_024
"""A larger request shows no credential of ours (200 characters at most), and is not parsed to find it."""
DIGEST_BYTES = 16
"""Of the hash by which a credential is known again."""
WRONG = frozenset({"API_KEY_INVALID", "UNAUTHENTICATED"})
"""The reasons that a wrong credential is refused for."""
SCHEME = "Bearer "
HEADER_LENGTH_MAX = 8_192 + len(SCHEME)


class Credential(NamedTuple):
    """A credential that a call shows.

    Attributes:
        kind: `API_KEY`, `REFRESH_TOKEN` or `ACCESS_TOKEN`.
        digest: a hash of it.
        key_id: the public part of an API key; empty for all else.
    """

    kind: str
    digest: bytes
    key_id: str = ""


def credential_from(kind: str, text: str, *, key_id: str = "") -> Credential:
    """Return the credential that a text is."""
    return Credential(kind, hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:DIGEST_BYTES], key_id)


def bearer_token(authorization: str | None) -> str:
    """Return the token of an `authorization` metadata.

    Raises: Unauthenticated.
    """
    if not authorization:
        raise Unauthenticated(
            "the call names no caller: it needs the metadata `authorization: Bearer TOKEN`, with a token of IssueToken"
        )
    if len(authorization) > HEADER_LENGTH_MAX:
        raise Unauthenticated(f"the authorization metadata is longer than {HEADER_LENGTH_MAX} characters")
    if "," in authorization:
        raise Unauthenticated("the call has more than one authorization")
    if authorization[: len(SCHEME)].title() != SCHEME:
        raise Unauthenticated("the authorization metadata is not `Bearer TOKEN`")
    return authorization[len(SCHEME) :]


class FailedCredentials:
    """Slows down whoever tries credentials that are wrong, before anything is made of the next one.

    An address has some failures of each kind for nothing. A key that others try waits only at addresses that have
    failed lately, so that nobody locks its owner out who knows no more than its public part.

    Args:
        rate: at which an address, and all together with one key, may fail.
        buckets_max: of each of the two; as many credentials are remembered as right.
        counts: where refusals are counted.
    """

    def __init__(self, rate: Rate, *, buckets_max: int, counts: CallCounts) -> None:
        self._addresses = TokenBuckets(rate, buckets_max=buckets_max)
        self._keys = TokenBuckets(rate, buckets_max=buckets_max)
        self._counts = counts
        self._proven: dict[bytes, None] = {}
        self._proven_max = buckets_max
        self._lock = threading.Lock()
        self._slow_until_s = 0.0

    @property
    def slows_down(self) -> bool:
        """Whether anybody has to wait now; if not, there is no need to look at credentials."""
        return time.monotonic() < self._slow_until_s

    def is_proven(self, credential: Credential) -> bool:
        """Return whether a credential was right when it was last shown here."""
        return credential.digest in self._proven

    def admit(self, address: str, credential: Credential) -> None:
        """Pass whoever may try a credential now.

        Args:
            address: as from `address_of`.

        Raises: RateLimited.
        """
        if not self.slows_down or self.is_proven(credential):
            return
        place, now_s = f"{credential.kind} {address}", time.monotonic()
        limit, wait_s = "failed credentials per address", self._addresses.wait_s(place, now_s)
        if not wait_s and credential.key_id and not self._addresses.is_full(place, now_s):
            limit, wait_s = "failed credentials per key", self._keys.wait_s(credential.key_id, now_s)
        if wait_s:
            self._counts.limit(limit)
            raise RateLimited(limit, per_s=self._addresses.rate.per_s, wait_s=wait_s)

    def record(self, address: str, credential: Credential) -> None:
        """Count a credential that was wrong."""
        now_s = time.monotonic()
        self.forget(credential)
        self._fail(self._addresses, f"{credential.kind} {address}", now_s)
        if credential.key_id:
            self._fail(self._keys, credential.key_id, now_s)

    def _fail(self, buckets: TokenBuckets, key: str, now_s: float) -> None:
        buckets.take(key, now_s)
        self._slow_until_s = max(self._slow_until_s, now_s + buckets.wait_s(key, now_s))

    def prove(self, *credentials: Credential) -> None:
        """Remember credentials that are right."""
        with self._lock:
            for credential in credentials:
                self._proven.pop(credential.digest, None)
                self._proven[credential.digest] = None
            while len(self._proven) > self._proven_max:
                del self._proven[next(iter(self._proven))]

    def forget(self, credential: Credential) -> None:
        """Forget a credential that is not right any more."""
        with self._lock:
            self._proven.pop(credential.digest, None)


Find = Callable[[bytes], Credential | None]
"""Finds the credential that a request shows, given its bytes; None where it shows none."""


def credential_finder(method: Method, *, key_id_of: Callable[[str], str]) -> Find | None:
    """Return what finds the credential that a request of a method shows; None where it takes none.

    Args:
        key_id_of: gives the public part of an API key; empty where it is none.
    """
    if not method.is_public:
        return None
    kind = next((name for name in IN_REQUESTS if name in method.request_type.DESCRIPTOR.fields_by_name), "")
    if not kind:
        return None
    request_type: Any = method.request_type

    def find(raw: bytes) -> Credential | None:
        text = ""
        if len(raw) <= SHOWING_BYTES_MAX:
            try:
                text = getattr(request_type.FromString(raw), kind)
            except (DecodeError, UnicodeDecodeError):
                return None
        return credential_from(kind, text, key_id=key_id_of(text)) if text else None

    return find


def watch_credentials(
    failures: FailedCredentials, *, key_id_of: Callable[[str], str], forwarded: frozenset[str]
) -> Layer:
    """The layer around forwarding: records credentials that were wrong, and remembers those that were right.

    Args:
        key_id_of: as for `credential_finder`.
        forwarded: the paths of the methods whose calls may be answered by another worker.
    """

    def layer(method: Method, serve: Step) -> Step:
        find = credential_finder(method, key_id_of=key_id_of)
        if find is not None:
            return _watch_requests(failures, find, serve)
        return _watch_forwarded(failures, serve) if f"/{method.name}" in forwarded else serve

    return layer


def _watch_requests(failures: FailedCredentials, find: Find, serve: Step) -> Step:
    def watched(raw: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
        credential = find(raw)
        try:
            reply = serve(raw, context, rpc)
        except (ApiKeyInvalid, Unauthenticated, ForwardedRefusal) as refusal:
            is_wrong = not isinstance(refusal, ForwardedRefusal) or refusal.reason in WRONG
            if credential is not None and is_wrong:
                failures.record(address_of(rpc.peer), credential)
            raise
        if credential is not None and not isinstance(reply, Checked):  # checked apart: there are no tokens yet
            _prove(failures, credential, reply)
        return reply

    return watched


def _prove(failures: FailedCredentials, shown: Credential, reply: Any) -> None:
    """Remember what a call has shown, and the tokens that it was given."""
    tokens = auth_pb2.TokenSet.FromString(reply) if isinstance(reply, bytes) else reply
    if shown.kind == REFRESH_TOKEN:  # it works once
        failures.forget(shown)
    else:
        failures.prove(shown)
    failures.prove(
        credential_from(ACCESS_TOKEN, tokens.access_token), credential_from(REFRESH_TOKEN, tokens.refresh_token)
    )


def _watch_forwarded(failures: FailedCredentials, serve: Step) -> Step:
    """Record access tokens that another worker has refused; those that are refused here record themselves."""

    def watched(raw: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
        try:
            return serve(raw, context, rpc)
        except ForwardedRefusal as refusal:
            if refusal.reason in WRONG and rpc.authorization:
                with contextlib.suppress(Unauthenticated):  # what is no token at all is no guess
                    credential = credential_from(ACCESS_TOKEN, bearer_token(rpc.authorization))
                    failures.record(address_of(rpc.peer), credential)
            raise

    return watched
