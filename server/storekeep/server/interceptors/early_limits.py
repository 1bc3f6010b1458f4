"""Early limits: calls that a rate limit refuses are refused in the polling thread, before they wait for a thread.

So whoever is over a limit takes no place in a queue, and costs no more than a refusal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import grpc

from storekeep.server.domain.errors import Unauthenticated
from storekeep.server.interceptors.chain import Step
from storekeep.server.interceptors.credentials import (
    ACCESS_TOKEN,
    Credential,
    FailedCredentials,
    Find,
    bearer_token,
    credential_finder,
    credential_from,
)
from storekeep.server.interceptors.early_refusals import EarlyRefusals
from storekeep.server.interceptors.rate_limits import RateLimits
from storekeep.server.interceptors.request_log import PEER
from storekeep.server.transport.budgets import address_of
from storekeep.server.transport.errors import RateLimited
from storekeep.server.transport.rpc import Method, Rpc
from storekeep.server.transport.unary import Limit, Metadata, Refusal, UnaryCall


class CallContext(Protocol):
    """What there is to know of a call besides its request, as both gRPC and `UnaryCall` have it."""

    def peer(self) -> str:
        """Return the caller's address, such as `ipv4:127.0.0.1:40404`."""

    def invocation_metadata(self) -> Metadata:
        """Return what came with the call."""


class EarlyLimits:
    """Refuses calls of addresses that call too often, and credentials of those that have failed too often.

    Args:
        rate_limits: the limits of addresses.
        failures: the credentials that failed.
        refusals: makes and counts the refusals.
        key_id_of: as for `credential_finder`.
        trusts_sockets: as for `RequestLog`.
    """

    def __init__(
        self,
        rate_limits: RateLimits,
        failures: FailedCredentials,
        refusals: EarlyRefusals,
        *,
        key_id_of: Callable[[str], str],
        trusts_sockets: bool,
    ) -> None:
        self._rate_limits = rate_limits
        self._failures = failures
        self._refusals = refusals
        self._key_id_of = key_id_of
        self._trusts_sockets = trusts_sockets

    def limit(self, method: Method) -> Limit:
        """Return what refuses calls of a method in the polling thread, and notes whose share of a queue they use."""
        check, failures = self._check(method), self._failures
        find = credential_finder(method, key_id_of=self._key_id_of)
        is_quick = find is None and not self._rate_limits.limits_addresses(method) and not method.is_public

        def limit(raw: bytes, call: UnaryCall) -> Refusal | None:
            if is_quick and not failures.slows_down:  # most calls: nothing is asked of them
                return None
            address, is_forwarded = self._address(call)
            try:
                call.flow = check(raw, call, address, is_forwarded)
            except RateLimited as error:
                return self._refusals.refuse(method.name, error, call.invocation_metadata(), address=address)
            return None

        return limit

    def layer(self, method: Method, serve: Step) -> Step:
        """The same as a layer, for calls that gRPC serves in its own way."""
        check = self._check(method)

        def limited(request: Any, context: grpc.ServicerContext, rpc: Rpc) -> Any:
            check(request, context, *self._address(context))
            return serve(request, context, rpc)

        return limited

    def _check(self, method: Method) -> Callable[[bytes, Any, str, bool], str]:
        """What checks a call: gives its flow, or raises RateLimited."""
        rate_limits, failures = self._rate_limits, self._failures
        find = credential_finder(method, key_id_of=self._key_id_of)

        def check(raw: bytes, context: CallContext, address: str, is_forwarded: bool) -> str:
            credential = self._shown(find, raw, context, method)
            if credential is not None:  # first, as a call that is refused for it takes nothing from its neighbours
                failures.admit(address, credential)
            if not is_forwarded:  # the worker that has forwarded it has counted it
                rate_limits.take_address(method, address)
            return f"{address} proven" if credential is not None and failures.is_proven(credential) else address

        return check

    def _shown(self, find: Find | None, raw: bytes, context: CallContext, method: Method) -> Credential | None:
        """The credential that a call shows, if it is of any interest."""
        if method.is_public:
            return None if find is None else find(raw)
        return _access_token(context.invocation_metadata()) if self._failures.slows_down else None

    def _address(self, context: CallContext) -> tuple[str, bool]:
        """The address of who calls, and whether another worker has forwarded the call."""
        peer = context.peer()
        if self._trusts_sockets and peer.startswith("unix:"):
            for key, value in context.invocation_metadata():
                if key == PEER and isinstance(value, str):
                    return address_of(value), True
        return address_of(peer), False


def _access_token(metadata: Metadata) -> Credential | None:
    """The token that is going to be verified; None where there is none."""
    given = [value for key, value in metadata if key == "authorization" and isinstance(value, str)]
    try:
        return credential_from(ACCESS_TOKEN, bearer_token(", ".join(given)))
    except Unauthenticated:
        return None
