"""Early limits: applies rate limits in the polling thread, before calls are queued.

A caller over its limit takes no room in a queue and costs only a rejection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import grpc

from storekeep.server.domain.access_errors import Unauthenticated
from storekeep.server.interceptors.chain import Step
from storekeep.server.interceptors.credentials import (
    ACCESS_TOKEN,
    Credential,
    FailedCredentials,
    FindCredential,
    make_credential,
    make_credential_finder,
    parse_bearer_token,
)
from storekeep.server.interceptors.early_rejections import EarlyRejections
from storekeep.server.interceptors.rate_limits import RateLimits
from storekeep.server.interceptors.request_log import PEER
from storekeep.server.transport.budgets import get_peer_address
from storekeep.server.transport.call_statuses import CallStatus, Metadata
from storekeep.server.transport.errors import RateLimited
from storekeep.server.transport.rpc import Method, Rpc
from storekeep.server.transport.unary import Limit, UnaryCall


class CallContext(Protocol):
    """The metadata of a call, as both gRPC and `UnaryCall` provide it."""

    def peer(self) -> str:
        """Return the caller's address, such as `ipv4:127.0.0.1:40404`."""

    def invocation_metadata(self) -> Metadata:
        """Return the metadata that the client sent."""


class EarlyLimits:
    """Rejects calls of addresses over their rate limit, and credentials after too many failures.

    Args:
        rate_limits: Limits per address.
        failures: Failed credentials.
        rejections: Builds and counts the rejections.
        parse_key_id: See `make_credential_finder`.
        trusts_sockets: See `RequestLog`.
    """

    def __init__(
        self,
        rate_limits: RateLimits,
        failures: FailedCredentials,
        rejections: EarlyRejections,
        *,
        parse_key_id: Callable[[str], str],
        trusts_sockets: bool,
    ) -> None:
        self._rate_limits = rate_limits
        self._failures = failures
        self._rejections = rejections
        self._parse_key_id = parse_key_id
        self._trusts_sockets = trusts_sockets

    def limit(self, method: Method) -> Limit:
        """Return the limit on a method's calls for the polling thread; it also sets the flow of each call."""
        check, failures = self._check(method), self._failures
        find = make_credential_finder(method, parse_key_id=self._parse_key_id)
        is_quick = find is None and not self._rate_limits.limits_addresses(method) and not method.is_public

        def limit(raw: bytes, call: UnaryCall) -> CallStatus | None:
            if is_quick and not failures.is_slowing_down:  # the common case: no check is needed
                return None
            address, is_forwarded = self._address(call)
            try:
                call.flow = check(raw, call, address, is_forwarded)
            except RateLimited as error:
                return self._rejections.reject(method.name, error, call.invocation_metadata(), address=address)
            return None

        return limit

    def layer(self, method: Method, serve: Step) -> Step:
        """Apply the same limit as a layer, for calls that gRPC serves itself."""
        check = self._check(method)

        def check_limits(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
            check(request, context, *self._address(context))
            return serve(request, context, rpc)

        return check_limits

    def _check(self, method: Method) -> Callable[[bytes, Any, str, bool], str]:
        """Return a function that checks a call: it returns the flow of the call or raises RateLimited."""
        rate_limits, failures = self._rate_limits, self._failures
        find = make_credential_finder(method, parse_key_id=self._parse_key_id)

        def check(raw: bytes, context: CallContext, address: str, is_forwarded: bool) -> str:
            credential = self._find_credential(find, raw, context, method)
            if credential is not None:  # first: a call that fails here does not use up the limit of its address
                failures.admit(address, credential)
            if not is_forwarded:  # the forwarding worker has counted it
                rate_limits.take_address(method, address)
            is_proven = credential is not None and failures.is_proven(address, credential)
            return f"{address} proven" if is_proven else address

        return check

    def _find_credential(
        self, find: FindCredential | None, raw: bytes, context: CallContext, method: Method
    ) -> Credential | None:
        """Return the credential of a call; None if it has none or it need not be checked."""
        if method.is_public:
            return None if find is None else find(raw)
        return _parse_access_token(context.invocation_metadata()) if self._failures.is_slowing_down else None

    def _address(self, context: CallContext) -> tuple[str, bool]:
        """Return the address of the caller, and whether another worker forwarded the call."""
        peer = context.peer()
        if self._trusts_sockets and peer.startswith("unix:"):
            for key, value in context.invocation_metadata():
                if key == PEER and isinstance(value, str):
                    return get_peer_address(value), True
        return get_peer_address(peer), False


def _parse_access_token(metadata: Metadata) -> Credential | None:
    """Return the access token in the metadata; None if there is no valid one."""
    values = [value for key, value in metadata if key == "authorization" and isinstance(value, str)]
    try:
        return make_credential(ACCESS_TOKEN, parse_bearer_token(", ".join(values)))
    except Unauthenticated:
        return None
