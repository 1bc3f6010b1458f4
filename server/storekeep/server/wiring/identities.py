"""The identity provider, wired to the settings: its keys, its tokens and the rules for its people."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from storekeep.server.config import Settings
from storekeep.server.domain.access.identities import Identities, Identity, IdentityRules
from storekeep.server.domain.access.tokens import TokenClaims, Tokens
from storekeep.server.domain.calls import Caller
from storekeep.server.integrations.addresses import AddressRules
from storekeep.server.integrations.provider_keys import ProviderDownloads
from storekeep.server.integrations.requests import Sender
from storekeep.server.runtime.identity_settings import read_role_mapping
from storekeep.server.store.engine import Store
from storekeep.server.transport.jwts import AccessTokens
from storekeep.server.transport.provider_tokens import ProviderKeys, ProviderTokens

KEY_SET_BYTES_MAX = 256 * 1024
"""Longest key set or metadata. Those of large providers have some 10 KB."""


@dataclass(frozen=True)
class Provider:
    """What a server needs of the identity provider.

    Attributes:
        keys: its public keys; without them no token is valid.
        tokens: validates its tokens.
        make_fetch: returns the function that downloads the keys; raises OSError if `oidc_ca_file` cannot be read.
    """

    keys: ProviderKeys
    tokens: ProviderTokens
    make_fetch: Callable[[], Callable[[], bytes]]


def make_provider(settings: Settings) -> Provider:
    """Wire the identity provider to the settings. Without an issuer, none of its tokens is accepted."""
    keys = ProviderKeys(stale_max_s=settings.oidc_stale_keys_max_s)
    tokens = ProviderTokens(
        keys,
        issuer=settings.oidc_issuer,
        client_id=settings.oidc_client_id,
        audience=settings.oidc_audience,
        groups_claim=settings.oidc_groups_claim,
        skew_s=settings.oidc_clock_skew_s,
    )
    return Provider(keys, tokens, lambda: _make_fetch(settings))


def _make_fetch(settings: Settings) -> Callable[[], bytes]:
    if settings.oidc_jwks_file is not None:
        path = settings.oidc_jwks_file
        return lambda: _read_start(path)
    networks = tuple(ipaddress.ip_network(text) for text in settings.oidc_allowed_networks)
    rules = AddressRules(ports=frozenset(), networks=networks)
    sender = Sender(
        rules,
        timeout_s=settings.oidc_timeout_s,
        body_max_bytes=KEY_SET_BYTES_MAX,
        ca_file=settings.oidc_ca_file,
        idle_max=0,  # the next download is minutes later
    )
    return ProviderDownloads(sender, issuer=settings.oidc_issuer, jwks_url=settings.oidc_jwks_url).fetch


def _read_start(path: Path) -> bytes:
    """Return the start of a file. Raises: OSError."""
    with path.open("rb") as file:
        return file.read(KEY_SET_BYTES_MAX)


def make_identities(settings: Settings, store: Store, *, provider: Provider, tokens: Tokens) -> Identities:
    """Wire the sign-ins of people of the provider."""
    rules = IdentityRules(
        roles=read_role_mapping(settings.oidc_roles),
        creates_users=settings.oidc_create_users,
        links_by_email=settings.oidc_link_by_email,
    )
    return Identities(store, rules=rules, read_id_token=provider.tokens.read_id_token, tokens=tokens)


def make_verify(own: AccessTokens, provider: Provider) -> Callable[[str], TokenClaims | Identity]:
    """Return the function that validates an access token of this server or of the provider."""

    def verify(token: str) -> TokenClaims | Identity:
        return provider.tokens.read_access_token(token) if provider.tokens.owns(token) else own.read(token)

    return verify


def make_find_caller(tokens: Tokens, identities: Identities) -> Callable[[TokenClaims | Identity], Caller]:
    """Return the function that finds the caller of a validated access token."""

    def find(claims: TokenClaims | Identity) -> Caller:
        return identities.find_caller(claims) if isinstance(claims, Identity) else tokens.find_caller(claims)

    return find
