"""Advice that the command line adds to errors of the client: what to type instead."""

from __future__ import annotations

import socket
from difflib import get_close_matches
from typing import TYPE_CHECKING

from storekeep.client import (
    ServerUnreachable,
    SkuNotFound,
    StorekeepError,
    TokenExpired,
    TokenRevoked,
    Unauthenticated,
)

if TYPE_CHECKING:
    from storekeep.cli.sessions import Session

SKUS_MAX = 1_000
"""Maximum number of SKUs to search for one that the user may have meant."""
PROBE_TIMEOUT_S = 1.0
ENDED = (Unauthenticated, TokenExpired, TokenRevoked)
"""Errors of a session that has ended."""
HTTP_SIGN = b"HTTP/1."
OTHER_ADDRESS = "use --address, STOREKEEP_ADDRESS or storekeep login"


def add_advice(error: StorekeepError, session: Session) -> StorekeepError:
    """Return an error with advice in its message, or as it is if there is none."""
    if isinstance(error, ServerUnreachable) and _speaks_http(session.login.address):
        error.message = f"{session.login.address} speaks HTTP, not gRPC; use the gRPC port, which is 50051 by default"
    elif isinstance(error, ServerUnreachable):
        error.message += f"; {_describe_address(session)}"
    elif isinstance(error, ENDED) and session.login.email and not session.login.api_key:
        error.message = f"the session has ended; run: storekeep login --email {session.login.email}"
    elif isinstance(error, Unauthenticated) and not session.login.api_key:
        address = session.login.address
        error.message = f"not logged in at {address}; run: storekeep login --address {address} --api-key-file FILE"
    elif isinstance(error, SkuNotFound):
        error.message += _suggest_sku(error.sku, session)
    return error


def _speaks_http(address: str) -> bool:
    """Return whether a server without TLS answers in HTTP/1, as the gateway does. Nothing is told to it."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_TIMEOUT_S) as connection:
            connection.settimeout(PROBE_TIMEOUT_S)
            connection.sendall(b"HEAD / HTTP/1.1\r\nhost: storekeep\r\nconnection: close\r\n\r\n")
            return connection.recv(len(HTTP_SIGN)) == HTTP_SIGN
    except (OSError, ValueError):
        return False


def _describe_address(session: Session) -> str:
    if session.uses_default_address:
        return f"there is no login, so this is the default address; {OTHER_ADDRESS} for another one"
    return f"for another address, {OTHER_ADDRESS}"


def _suggest_sku(sku: str, session: Session) -> str:
    """Return a question with the SKUs that are most similar to one that does not exist; empty if none is."""
    try:
        page = session.client.variants.list("products/-", page_size=SKUS_MAX).page()
    except StorekeepError:
        return ""
    existing = {variant.sku.lower(): variant.sku for variant in page.items}
    close = get_close_matches(sku.lower(), existing, n=1)
    return f"; did you mean {existing[close[0]]}?" if close else ""
