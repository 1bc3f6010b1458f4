"""The gateway's own pages: health for load balancers, metrics, token keys, and the description of the API."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import msgspec

from storekeep.gateway.calls import Calls
from storekeep.gateway.documentation import read_documents
from storekeep.gateway.errors import Header
from storekeep.gateway.json_codec import JsonCodec
from storekeep.gateway.metrics import Metrics
from storekeep.v1.auth_pb2 import GetJwksRequest, GetJwksResponse

GET_JWKS = "/storekeep.v1.AuthService/GetJwks"
JWKS_TIMEOUT_S = 5.0
JWKS_LIFETIME_S = 5.0
"""How long the key set is kept, in seconds: requests for it must not use up the server's limit of public calls."""
JSON_TYPE: Header = (b"content-type", b"application/json; charset=utf-8")
Reply = tuple[int, list[Header], bytes]


@dataclass(frozen=True, slots=True)
class Page:
    """A page at a fixed path."""

    path: str
    build: Callable[[], Awaitable[Reply]]
    is_local: bool = False
    """Whether it exists only for addresses of this host, unless the settings say otherwise."""


class Pages:
    """The pages by path. Another page is another line in `__init__`."""

    def __init__(
        self,
        calls: Calls,
        metrics: Metrics,
        *,
        is_draining: Callable[[], bool],
        metrics_public: bool,
        has_start_page: bool,
    ) -> None:
        self._calls = calls
        self._metrics = metrics
        self._is_draining = is_draining
        self._metrics_public = metrics_public
        self._jwks = JsonCodec(GetJwksResponse.DESCRIPTOR)
        self._key_set, self._key_set_until_s = b"", 0.0
        pages = (
            Page("/livez", self._build_livez),
            Page("/readyz", self._build_readyz),
            Page("/metrics", self._build_metrics, is_local=True),
            Page("/.well-known/jwks.json", self._build_jwks),
        )
        documents = (
            Page(path, partial(_build_document, *reply))
            for path, reply in read_documents(has_start_page=has_start_page).items()
        )
        self._pages = {page.path.encode(): page for page in (*pages, *documents)}

    def find(self, raw_path: bytes, *, peer: str) -> Page | None:
        """Return the page of a path; None if there is none for the address `peer`."""
        page = self._pages.get(raw_path)
        is_hidden = page is not None and page.is_local and not self._metrics_public and not _is_loopback(peer)
        return None if is_hidden else page

    async def _build_livez(self) -> Reply:
        return 200, [JSON_TYPE], b'{"status":"alive"}'

    async def _build_readyz(self) -> Reply:
        """Answer 503 while the gateway drains, and while the server does not accept calls."""
        state = "ready" if await self._calls.is_serving() else "server unreachable"
        state = "draining" if self._is_draining() else state
        return 200 if state == "ready" else 503, [JSON_TYPE], msgspec.json.encode({"status": state})

    async def _build_metrics(self) -> Reply:
        return 200, [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")], self._metrics.format()

    async def _build_jwks(self) -> Reply:
        """Answer with the key set of RFC 7517."""
        if time.monotonic() >= self._key_set_until_s:
            request = GetJwksRequest().SerializeToString()
            reply = await self._calls.call(GET_JWKS, request, metadata=(), timeout_s=JWKS_TIMEOUT_S)
            self._key_set = self._jwks.encode(reply.body)
            self._key_set_until_s = time.monotonic() + JWKS_LIFETIME_S
        return 200, [JSON_TYPE], self._key_set


async def _build_document(headers: list[Header], body: bytes) -> Reply:
    return 200, list(headers), body


def _is_loopback(peer: str) -> bool:
    try:
        return ipaddress.ip_address(peer).is_loopback
    except ValueError:
        return False
