"""Callers and calls, as the domain sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

READ_PERSONAL_DATA = "customers.personal.read"
"""The permission to read personal data in all resources that the caller may read."""


class Caller(msgspec.Struct, frozen=True):
    """An authenticated caller.

    Attributes:
        subject: the resource name, such as `serviceAccounts/shop`.
        display_name: the name for people.
        roles: the resource names of its roles, sorted.
        permissions: all its effective permissions.
        withheld: those of its roles that its password does not give.
        token_id: the token's `jti`; empty for a caller without a token, such as the command line on the server.
        expire_us: when the token expires, microseconds since 1970; 0 without a token.
        api_key: the resource name of the API key that the token was issued for; empty without one.
        session_id: the session of the token; empty without one.
    """

    subject: str
    display_name: str = ""
    roles: tuple[str, ...] = ()
    permissions: frozenset[str] = frozenset()
    withheld: frozenset[str] = frozenset()
    token_id: str = ""
    expire_us: int = 0
    api_key: str = ""
    session_id: str = ""

    @property
    def reads_personal_data(self) -> bool:
        """Whether the caller may read personal data. Otherwise it gets masked values."""
        return READ_PERSONAL_DATA in self.permissions


class Call(msgspec.Struct, frozen=True):
    """A request for one mutation.

    Attributes:
        caller: the authenticated caller.
        method: the RPC, such as `storekeep.v1.OrderService/PlaceOrder`.
        request_id: makes a retry safe; empty if the request has none.
        fingerprint: SHA-256 of the request; tells a retry from another request with the same id. Only a keyed hash of
            it is stored.
        validate_only: whether this is a dry run, which changes nothing.
        deadline: the latest start, in seconds of `time.monotonic()`; None without one.
        on_replay: called if the reply is the stored reply of an earlier call.
        prepared: what was computed for its transaction beforehand; see `Preparation`. None if nothing was.
        on_record: called with the names of the resources of which the audit log has a new entry by the caller.
    """

    caller: Caller
    method: str
    request_id: str = ""
    fingerprint: bytes = b""
    validate_only: bool = False
    deadline: float | None = None
    on_replay: Callable[[], None] | None = None
    on_record: Callable[[Sequence[str]], None] | None = None
    prepared: Any = None
