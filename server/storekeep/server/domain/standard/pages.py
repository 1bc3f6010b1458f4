"""Pages: opaque tokens that continue one query at the place where its last page ended.

Invariant: a token works only for the query that it came from, and only as this server wrote it.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from storekeep.server.domain.errors import BatchTooLarge, InvalidPageToken
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.runtime import base64url

T = TypeVar("T")

MAC_BYTES = 12
"""Of the HMAC-SHA256 over a token: enough that nobody guesses one."""


PAGE_BYTES_MAX = 3 * 1024 * 1024
"""How large the items of a page may be all together, as JSON: half of that is sent of orders, about all of it of long
texts. Clients of gRPC take 4 MiB by default; AIP-158 allows fewer items on a page than were asked for."""
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list.

    Attributes:
        items: what is on it.
        next_page_token: for the page after it; empty on the last.
    """

    items: list[T]
    next_page_token: str = ""


def count_fitting(items: Sequence[Any]) -> int:
    """Return how many of the items fit on one page, at least one where there are any."""
    if len(items) <= 1 or len(_encode(items)) <= PAGE_BYTES_MAX:
        return len(items)
    left = PAGE_BYTES_MAX
    for number, item in enumerate(items):
        left -= len(_encode(item))
        if left < 0:
            return max(1, number)
    return len(items)


def check_batch(items: Sequence[Any]) -> None:
    """Refuse a batch that is larger than a page may be: it is all or nothing, so it cannot be cut short.

    Raises: BatchTooLarge.
    """
    count = count_fitting(items)
    if count < len(items):
        raise BatchTooLarge(count)


class PageTokens:
    """Writes and reads the tokens of one server.

    Args:
        keyring: the server's secrets; a token is good under any of them.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def write(self, query: Sequence[str], position: Sequence[Any]) -> str:
        """The token that continues `query` after the row whose sort keys are `position`."""
        body = msgspec.json.encode(list(position))
        return base64url.encode(_mac(self._keyring.writing(), query, body) + body)

    def read(self, query: Sequence[str], token: str) -> list[Any] | None:
        """The position in a token; None for the empty token, which begins at the beginning.

        Raises: InvalidPageToken.
        """
        if not token:
            return None
        try:
            raw = base64url.decode(token)
        except ValueError:
            raise InvalidPageToken from None
        mac, body = raw[:MAC_BYTES], raw[MAC_BYTES:]
        if base64url.encode(raw) != token or not self._is_ours(mac, query, body):
            raise InvalidPageToken
        position: list[Any] = msgspec.json.decode(body)
        return position

    def _is_ours(self, mac: bytes, query: Sequence[str], body: bytes) -> bool:
        return any(hmac.compare_digest(mac, _mac(secret, query, body)) for secret in self._keyring.known())


@functools.lru_cache(maxsize=4)
def _key(secret: bytes) -> bytes:
    return hashlib.sha256(b"page-token:" + secret).digest()


def _mac(secret: bytes, query: Sequence[str], body: bytes) -> bytes:
    return hmac.digest(_key(secret), msgspec.json.encode(list(query)) + body, "sha256")[:MAC_BYTES]
