"""Failed credentials: limits how often an address or an API key may fail before its next attempt is checked.

Only calls with a credential of the kind that failed are limited. A credential that succeeded in this process is
recognised by its hash, so it keeps working at an address where others fail; a password only where it succeeded, and at
a limited rate, because people choose passwords that can be guessed.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError

from storekeep.server.domain.access_errors import TokenExpired, TokenRevoked, Unauthenticated
from storekeep.server.interceptors.chain import Layer, Step
from storekeep.server.interceptors.error_table import ERRORS
from storekeep.server.interceptors.forwarding import ForwardedError
from storekeep.server.interceptors.rate_limits import Rate, TokenBuckets
from storekeep.server.runtime.emails import normalize_email
from storekeep.server.telemetry.counts import CallCounts
from storekeep.server.transport.budgets import get_peer_address
from storekeep.server.transport.errors import RateLimited
from storekeep.server.transport.rpc import CheckedCall, Method, Rpc
from storekeep.v1 import auth_pb2

API_KEY, REFRESH_TOKEN, ACCESS_TOKEN = "api_key", "refresh_token", "access_token"
PASSWORD, LINK_TOKEN, ID_TOKEN = "password", "link_token", "id_token"
IN_REQUESTS = (API_KEY, REFRESH_TOKEN, PASSWORD, LINK_TOKEN, ID_TOKEN)
"""Credentials that public methods take in a request field of the same name."""
CREDENTIAL_REQUEST_BYTES_MAX = 4_096
"""Larger requests are not parsed: an email address, a password and a program of the allowed lengths take 3 KB."""
PASSWORD_KEY = secrets.token_bytes(32)
"""The key of this process for digests of passwords: a copy of its memory alone cannot verify guesses of them."""
UNREAD = b""
"""Digest of the credential in a larger request. Its failures count; it is never proven, lest padding prove others."""
DIGEST_BYTES = 16
"""Length of the hash that identifies a credential."""
WERE_RIGHT = (TokenExpired, TokenRevoked)
"""The errors of a credential that was valid before: it is no guess."""
WRONG: tuple[type[Exception], ...] = tuple(
    kind for kind, row in ERRORS.items() if row.code is grpc.StatusCode.UNAUTHENTICATED and kind not in WERE_RIGHT
)
"""The errors of a wrong credential."""
WRONG_REASONS = frozenset(ERRORS[kind].reason for kind in WRONG)
RECORDED: tuple[type[Exception], ...] = (*WRONG, ForwardedError)
"""The errors that a wrong credential can end in, here or in the leader."""
WRONG_TOKEN_REASON = ERRORS[Unauthenticated].reason
"""The error reason of a wrong access token. A signed-in user who mistypes a password has a right one."""
SCHEME = "Bearer "
HEADER_LENGTH_MAX = 8_192 + len(SCHEME)


class Credential(NamedTuple):
    """A credential that a call presents.

    Attributes:
        kind: `API_KEY`, `REFRESH_TOKEN`, `PASSWORD`, `LINK_TOKEN`, `ID_TOKEN` or `ACCESS_TOKEN`.
        digest: Hash of the credential, `DIGEST_BYTES` long.
        key_id: Public part of an API key, or digest of an email address; empty for other kinds.
    """

    kind: str
    digest: bytes
    key_id: str = ""


def make_credential(kind: str, text: str, *, key_id: str = "") -> Credential:
    """Return the credential with this text."""
    return Credential(kind, hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:DIGEST_BYTES], key_id)


def make_password_credential(email: str, password: str) -> Credential:
    """Return the credential of a user: the email address is its public part."""
    address = normalize_email(email).encode()
    digest = hmac.digest(PASSWORD_KEY, hashlib.sha256(address).digest() + password.encode(), "sha256")
    return Credential(PASSWORD, digest[:DIGEST_BYTES], hashlib.sha256(address).hexdigest()[: 2 * DIGEST_BYTES])


def parse_bearer_token(authorization: str | None) -> str:
    """Return the bearer token in the value of the `authorization` metadata.

    Raises: Unauthenticated.
    """
    if not authorization:
        raise Unauthenticated(
            "the call has no credentials: send the metadata `authorization: Bearer TOKEN`, with a token from IssueToken"
        )
    if len(authorization) > HEADER_LENGTH_MAX:
        raise Unauthenticated(f"the authorization metadata is longer than {HEADER_LENGTH_MAX} characters")
    if "," in authorization:
        raise Unauthenticated("the call has more than one authorization header; send one")
    if authorization[: len(SCHEME)].title() != SCHEME:
        raise Unauthenticated("the authorization metadata is not `Bearer TOKEN`")
    return authorization[len(SCHEME) :]


class FailedCredentials:
    """Limits the rate of failed credentials, before the next one is checked. Thread-safe.

    An address may fail in a burst, for each kind of credential. The limit of a key applies only at addresses that
    failed recently, so knowing the public part of a key is not enough to lock out its owner.

    Args:
        rate: Rate of failures allowed per address, and per key over all addresses.
        buckets_max: Maximum number of addresses, of keys and of proven credentials that are tracked.
        counts: Counts the rejected calls.
    """

    def __init__(self, rate: Rate, *, buckets_max: int, counts: CallCounts) -> None:
        self._addresses = TokenBuckets(rate, buckets_max=buckets_max)
        self._keys = TokenBuckets(rate, buckets_max=buckets_max)
        self._recognitions = TokenBuckets(rate, buckets_max=buckets_max)
        self._counts = counts
        self._proven: dict[bytes, None] = {}
        self._proven_max = buckets_max
        self._lock = threading.Lock()
        self._slow_until_s = 0.0

    @property
    def is_slowing_down(self) -> bool:
        """Whether any address or key must wait now; if not, credentials need not be checked here."""
        return time.monotonic() < self._slow_until_s

    def is_proven(self, address: str, credential: Credential) -> bool:
        """Return whether a credential succeeded when this process last saw it; a password: at this address."""
        return _make_proof(address, credential) in self._proven

    def admit(self, address: str, credential: Credential) -> None:
        """Raise unless this address may try this credential now.

        Args:
            address: Address of the caller, as `get_peer_address` returns it.

        Raises: RateLimited.
        """
        if not self.is_slowing_down:
            return
        is_proven = self.is_proven(address, credential)
        if is_proven and credential.kind != PASSWORD:
            return
        address_key, now_s = f"{credential.kind} {address}", time.monotonic()
        limit, wait_s = "failed credentials per address", self._addresses.wait_s(address_key, now_s)
        if not wait_s and credential.key_id and not self._addresses.is_full(address_key, now_s):
            limit, wait_s = "failed credentials per key", self._keys.wait_s(credential.key_id, now_s)
        if not wait_s:
            return
        if credential.kind == PASSWORD:  # each guess counts: else the one that is not rejected would tell the password
            is_proven = not self._recognitions.take(f"{address} {credential.key_id}", now_s) and is_proven
        if not is_proven:
            self._counts.limit(limit)
            raise RateLimited(limit, per_s=self._addresses.rate.per_s, wait_s=wait_s)

    def record(self, address: str, credential: Credential) -> None:
        """Record a failed credential."""
        now_s = time.monotonic()
        self.forget(address, credential)
        self._fail(self._addresses, f"{credential.kind} {address}", now_s)
        if credential.key_id:
            self._fail(self._keys, credential.key_id, now_s)

    def _fail(self, buckets: TokenBuckets, key: str, now_s: float) -> None:
        buckets.charge(key, now_s)
        self._slow_until_s = max(self._slow_until_s, now_s + buckets.wait_s(key, now_s))

    def prove(self, address: str, *credentials: Credential) -> None:
        """Record credentials that succeeded."""
        with self._lock:
            for credential in credentials:
                proof = _make_proof(address, credential)
                self._proven.pop(proof, None)
                self._proven[proof] = None
            while len(self._proven) > self._proven_max:
                del self._proven[next(iter(self._proven))]

    def forget(self, address: str, credential: Credential) -> None:
        """Forget a credential that is no longer valid."""
        with self._lock:
            self._proven.pop(_make_proof(address, credential), None)


def _make_proof(address: str, credential: Credential) -> bytes:
    """Return what a credential that succeeded is remembered by: its digest, and for a password the address too."""
    return credential.digest + address.encode() if credential.kind == PASSWORD else credential.digest


FindCredential = Callable[[bytes], Credential | None]
"""Returns the credential in a request, given its bytes; None if it has none."""


def make_credential_finder(method: Method, *, parse_key_id: Callable[[str], str]) -> FindCredential | None:
    """Return a function that finds the credential in a request of a method; None if its requests have none.

    Args:
        parse_key_id: Returns the public part of an API key; empty if the text is not one.
    """
    if not method.is_public:
        return None
    kind = next((name for name in IN_REQUESTS if name in method.request_type.DESCRIPTOR.fields_by_name), "")
    if not kind:
        return None
    request_type: Any = method.request_type

    def find(raw: bytes) -> Credential | None:
        if len(raw) > CREDENTIAL_REQUEST_BYTES_MAX:
            return Credential(kind, UNREAD)
        try:
            request = request_type.FromString(raw)
            text = getattr(request, kind)
        except (DecodeError, UnicodeDecodeError):
            return None
        if kind == PASSWORD:
            return make_password_credential(request.email, text) if text else None
        return make_credential(kind, text, key_id=parse_key_id(text)) if text else None

    return find


def watch_credentials(
    failures: FailedCredentials, *, parse_key_id: Callable[[str], str], forwarded: frozenset[str]
) -> Layer:
    """Return the layer around forwarding that records which credentials failed and which succeeded.

    Args:
        parse_key_id: See `make_credential_finder`.
        forwarded: Paths of the methods whose calls may be answered by another worker.
    """

    def layer(method: Method, serve: Step) -> Step:
        find = make_credential_finder(method, parse_key_id=parse_key_id)
        if find is not None:
            return _watch_requests(failures, find, serve)
        return _watch_forwarded(failures, serve) if f"/{method.name}" in forwarded else serve

    return layer


def _watch_requests(failures: FailedCredentials, find: FindCredential, serve: Step) -> Step:
    """Record the credential in each request."""

    def watch(raw: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
        credential = find(raw)
        try:
            reply = serve(raw, context, rpc)
        except RECORDED as error:
            is_wrong = not isinstance(error, ForwardedError) or error.reason in WRONG_REASONS
            if credential is not None and is_wrong:
                failures.record(get_peer_address(rpc.peer), credential)
            raise
        if credential is not None and not isinstance(reply, CheckedCall):  # checked apart: there are no tokens yet
            _prove(failures, get_peer_address(rpc.peer), credential, reply)
        return reply

    return watch


def _prove(failures: FailedCredentials, address: str, credential: Credential, reply: Any) -> None:
    """Record a credential that succeeded and the tokens in the reply."""
    if credential.kind == LINK_TOKEN:  # valid only once, and without tokens in the reply
        failures.forget(address, credential)
        return
    tokens = auth_pb2.TokenSet.FromString(reply) if isinstance(reply, bytes) else reply
    if credential.kind in (REFRESH_TOKEN, ID_TOKEN):  # valid only once
        failures.forget(address, credential)
    elif credential.digest != UNREAD:
        failures.prove(address, credential)
    access, refresh = make_credential(ACCESS_TOKEN, tokens.access_token), tokens.refresh_token
    failures.prove(address, access, make_credential(REFRESH_TOKEN, refresh))


def _watch_forwarded(failures: FailedCredentials, serve: Step) -> Step:
    """Record access tokens that the leader rejected; `Authenticator` records those that this worker rejects."""

    def watch(raw: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
        try:
            return serve(raw, context, rpc)
        except ForwardedError as error:
            if error.reason == WRONG_TOKEN_REASON and rpc.authorization:
                with contextlib.suppress(Unauthenticated):  # a malformed header is not an attempt
                    credential = make_credential(ACCESS_TOKEN, parse_bearer_token(rpc.authorization))
                    failures.record(get_peer_address(rpc.peer), credential)
            raise

    return watch
