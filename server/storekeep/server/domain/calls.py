"""Who calls, and what a call is to the domain."""

from __future__ import annotations

import msgspec


class Caller(msgspec.Struct, frozen=True):
    """Who calls, once that is verified.

    Attributes:
        subject: resource name, such as `serviceAccounts/shop`.
        display_name: what people read.
        roles: names of its roles, sorted.
        permissions: all that it may do.
        token_id: the token's `jti`; empty for a caller without a token, such as the command line on the server.
        expire_us: when the token ends, microseconds since 1970; 0 without a token.
        api_key: resource name of the API key that the token came from; empty without one.
        session_id: the session that the token belongs to; empty without one.
    """

    subject: str
    display_name: str = ""
    roles: tuple[str, ...] = ()
    permissions: frozenset[str] = frozenset()
    token_id: str = ""
    expire_us: int = 0
    api_key: str = ""
    session_id: str = ""


class Call(msgspec.Struct, frozen=True):
    """One mutation that somebody asked for.

    Attributes:
        caller: who.
        method: the RPC, such as `storekeep.v1.OrderService/PlaceOrder`.
        request_id: makes a retry safe; empty when the caller gave none.
        fingerprint: SHA-256 of the request, by which a retry is told from a reuse of its id.
        validate_only: do all of it and keep nothing.
        deadline: the `time.monotonic()` after which it must not begin; None without one.
    """

    caller: Caller
    method: str
    request_id: str = ""
    fingerprint: bytes = b""
    validate_only: bool = False
    deadline: float | None = None
