"""Downloads of the public keys of an identity provider: discovery (OpenID Connect Discovery 1.0), then the key set."""

from __future__ import annotations

import json
from typing import Any

from storekeep.server.integrations.requests import Sender

OK = 200
DISCOVERY_PATH = "/.well-known/openid-configuration"


class KeysNotAvailable(Exception):
    """The keys cannot be downloaded. The text says why."""


class ProviderDownloads:
    """Downloads the key set of one provider.

    Args:
        sender: sends the requests, to allowed addresses only.
        issuer: the issuer of the provider.
        jwks_url: the URL of its key set; empty to discover it each time.
    """

    def __init__(self, sender: Sender, *, issuer: str, jwks_url: str) -> None:
        self._sender = sender
        self._issuer = issuer
        self._jwks_url = jwks_url

    def fetch(self) -> bytes:
        """Return the key set, at most as long as the sender reads.

        Raises: KeysNotAvailable.
        """
        return self._get(self._jwks_url or self._discover())

    def _discover(self) -> str:
        """Return the URL of the key set in the metadata of the provider, which must be that of the issuer.

        Raises: KeysNotAvailable.
        """
        url = self._issuer.rstrip("/") + DISCOVERY_PATH
        try:
            metadata: Any = json.loads(self._get(url))
        except (ValueError, RecursionError):
            raise KeysNotAvailable(f"{url}: the reply is not JSON, or too large") from None
        if not isinstance(metadata, dict) or metadata.get("issuer") != self._issuer:
            raise KeysNotAvailable(f"{url}: the metadata is of another issuer")
        found = metadata.get("jwks_uri")
        if not isinstance(found, str):
            raise KeysNotAvailable(f"{url}: the metadata has no jwks_uri")
        return found

    def _get(self, url: str) -> bytes:
        reply = self._sender.get(url)
        if reply.status != OK:
            raise KeysNotAvailable(f"{url}: {reply.problem or f'the provider replied with status {reply.status}'}")
        return reply.body
