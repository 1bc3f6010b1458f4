"""The identity provider as the console sees it (OpenID Connect): its addresses, and the exchange of codes for tokens.

Requests go over HTTPS only, follow no redirect, and are bounded in time and bytes. The ID token is passed on unread:
the server alone decides whether it is valid.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec
from authlib.oauth2 import ClientAuth  # type: ignore[import-untyped, unused-ignore]
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request  # type: ignore[import-untyped, unused-ignore]
from authlib.oauth2.rfc7636 import create_s256_code_challenge  # type: ignore[import-untyped, unused-ignore]

from storekeep.console.requests import BadRequest

DISCOVERY_PATH = "/.well-known/openid-configuration"
BODY_BYTES_MAX = 256 * 1024
TIMEOUT_S = 10.0
METADATA_LIFETIME_S = 300.0
RETRY_S = 5.0
"""How long a failed discovery is not repeated."""
UNAVAILABLE = 503
FORM = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
FAILURES = (httpx.HTTPError, httpx.InvalidURL, msgspec.MsgspecError, ValueError, RecursionError, OSError)
"""What a request to a provider can fail with."""


@dataclass(frozen=True)
class ProviderSettings:
    """The settings of a provider.

    Attributes:
        issuer: its issuer, exactly as in its tokens.
        client_id: the id of the console there.
        client_secret: the secret of the console there; empty for a public client.
        label: what the button says after "Sign in with".
        scope: the requested scopes, separated by spaces.
        console_url: the address of the console, without a path.
        ca_file: PEM certificates of more authorities to trust; None for the usual ones only.
    """

    issuer: str
    client_id: str
    client_secret: str
    label: str
    scope: str
    console_url: str
    ca_file: Path | None = None

    @property
    def redirect_uri(self) -> str:
        """The address to which the provider sends people back."""
        return f"{self.console_url.rstrip('/')}/sign-in/callback"


class Metadata(msgspec.Struct, frozen=True):
    """The addresses of a provider; see OpenID Connect Discovery 1.0."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    end_session_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class _Tokens(msgspec.Struct, frozen=True):
    """The part of a token response that the console needs."""

    id_token: str = ""


class ProviderClient:
    """Speaks with one provider. Thread-safe."""

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._metadata: Metadata | None = None
        self._fetch_at_s = 0.0
        self._tls: ssl.SSLContext | None = None

    def make_url(self, *, state: str, verifier: str, nonce: str) -> str:
        """Return the address at the provider where a person signs in.

        Raises: BadRequest.
        """
        url: str = prepare_grant_uri(
            self.get_metadata().authorization_endpoint,
            self.settings.client_id,
            "code",
            self.settings.redirect_uri,
            self.settings.scope,
            state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
        )
        return url

    def check_issuer(self, parameters: Mapping[str, str]) -> None:
        """Refuse a reply of another provider (RFC 9207).

        Raises: BadRequest.
        """
        issuer = parameters.get("iss", "")
        is_required = self.get_metadata().authorization_response_iss_parameter_supported
        if issuer != self.settings.issuer and (issuer or is_required):
            raise BadRequest("The reply is from another identity provider. Sign in again.")

    def redeem(self, code: str, *, verifier: str) -> str:
        """Exchange a code for an ID token.

        Raises: BadRequest.
        """
        metadata = self.get_metadata()
        body = prepare_token_request(
            "authorization_code", code=code, redirect_uri=self.settings.redirect_uri, code_verifier=verifier
        )
        url, headers, body = self._choose_auth(metadata).prepare("POST", metadata.token_endpoint, dict(FORM), body)
        try:
            with httpx.Client(**self._make_options()) as client:
                reply = client.post(url, headers=headers, content=body)
            if reply.status_code == httpx.codes.UNAUTHORIZED:
                raise BadRequest("The identity provider refused the console: its client id or secret is wrong.")
            if reply.is_client_error:
                raise BadRequest("The identity provider did not accept this sign-in. Sign in again.")
            reply.raise_for_status()
            id_token = msgspec.json.decode(reply.content, type=_Tokens).id_token
        except FAILURES as error:
            raise _describe_failure(error) from None
        if not id_token:
            raise BadRequest("The identity provider sent no ID token: its settings for the console lack `openid`.")
        return id_token

    def find_sign_out_url(self) -> str:
        """Return the address where people sign out of the provider; empty if it has none or is not known now."""
        metadata = self._metadata
        if metadata is None or not metadata.end_session_endpoint.startswith("https://"):
            return ""
        query = urlencode({"client_id": self.settings.client_id})
        separator = "&" if "?" in metadata.end_session_endpoint else "?"
        return f"{metadata.end_session_endpoint}{separator}{query}"

    def get_metadata(self) -> Metadata:
        """Return the addresses of the provider, which are kept for some minutes; older ones if it cannot be reached.

        Raises: BadRequest if it was never reached.
        """
        with self._lock:
            now_s = time.monotonic()
            if now_s >= self._fetch_at_s:
                self._fetch_at_s = now_s + RETRY_S
                try:
                    self._metadata = self._discover()
                    self._fetch_at_s = now_s + METADATA_LIFETIME_S
                except FAILURES as error:
                    if self._metadata is None:
                        raise _describe_failure(error) from None
            if self._metadata is None:
                raise _describe_failure(None)
            return self._metadata

    def _discover(self) -> Metadata:
        """Raises: httpx.HTTPError, httpx.InvalidURL, msgspec.MsgspecError, ValueError."""
        with httpx.Client(**self._make_options()) as client:
            reply = client.get(self.settings.issuer.rstrip("/") + DISCOVERY_PATH)
        reply.raise_for_status()
        metadata = msgspec.json.decode(reply.content, type=Metadata)
        endpoints = (metadata.authorization_endpoint, metadata.token_endpoint)
        if metadata.issuer != self.settings.issuer or not all(url.startswith("https://") for url in endpoints):
            raise ValueError("the metadata is of another issuer, or names an address without HTTPS")
        return metadata

    def _choose_auth(self, metadata: Metadata) -> ClientAuth:
        """Return how the console proves who it is."""
        secret, method = self.settings.client_secret, "none"
        if secret:
            is_basic = "client_secret_basic" in metadata.token_endpoint_auth_methods_supported
            method = "client_secret_basic" if is_basic else "client_secret_post"
        return ClientAuth(self.settings.client_id, secret, method)

    def _make_options(self) -> dict[str, Any]:
        """Return the options of a client of httpx."""
        if self._tls is None:
            tls = httpx.create_ssl_context(trust_env=False)
            if self.settings.ca_file is not None:
                tls.load_verify_locations(self.settings.ca_file)
            self._tls = tls
        return {
            "transport": _BoundedTransport(httpx.HTTPTransport(verify=self._tls, trust_env=False)),
            "timeout": TIMEOUT_S,
            "trust_env": False,
            "follow_redirects": False,
            "headers": {"accept-encoding": "identity", "user-agent": "Storekeep"},
        }


class _BoundedTransport(httpx.BaseTransport):
    """Sends requests over HTTPS only, and reads replies whole, up to `BODY_BYTES_MAX` and `TIMEOUT_S`."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self._inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises: httpx.TransportError."""
        if request.url.scheme != "https":
            raise httpx.UnsupportedProtocol("only HTTPS is allowed")
        end_s = time.monotonic() + TIMEOUT_S
        response = self._inner.handle_request(request)
        body = bytearray()
        try:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise httpx.RemoteProtocolError("the reply is compressed")
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > BODY_BYTES_MAX or time.monotonic() > end_s:
                    raise httpx.RemoteProtocolError("the reply is too long, or takes too long")
        finally:
            response.close()
        return httpx.Response(response.status_code, headers=response.headers, content=bytes(body))

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()


def _describe_failure(error: Exception | None) -> BadRequest:
    """Return the error for people; the kind of failure helps administrators."""
    kind = "" if error is None else f" ({type(error).__name__})"
    return BadRequest(f"The identity provider cannot be reached now{kind}. Try again in a moment.", status=UNAVAILABLE)
