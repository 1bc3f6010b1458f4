"""The settings of an identity provider: whose tokens are accepted, and which roles its groups have here."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from storekeep.server.runtime.setting_types import Interval, Words

ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
URL = re.compile(r"https://[!\"$-~]{1,1900}", re.ASCII)
"""An absolute URL without a fragment."""
DEPENDENT = ("oidc_client_id", "oidc_audience", "oidc_jwks_url", "oidc_jwks_file", "oidc_roles")
"""Settings that mean nothing without an issuer."""


class IdentitySettings(BaseSettings):
    """The part of the settings that OpenID Connect uses."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    oidc_issuer: str = ""
    """The issuer of an OpenID Connect provider, exactly as in its tokens, such as `https://login.example.com`. Empty:
    no tokens of others are accepted."""
    oidc_client_id: str = ""
    """The client id of the console at the provider: ID tokens must be for it. Empty: nobody signs in with one."""
    oidc_audience: str = ""
    """The audience of access tokens of the provider that gRPC accepts, such as `https://shop.example/api`. It must
    differ from the client id, so that an ID token is not an access token. Empty: gRPC accepts none."""
    oidc_jwks_url: str = ""
    """The URL of the provider's public keys. Empty: found by discovery, at the issuer's
    `/.well-known/openid-configuration`."""
    oidc_jwks_file: Path | None = None
    """A file with the provider's public keys (JWKS), read in place of the URL, for servers that must not connect
    outward. A new one is noticed at the next refresh."""
    oidc_groups_claim: str = "groups"
    """The claim of the tokens that lists the groups of a person, or a path to it, such as `realm_access.roles`."""
    oidc_roles: Words = ()
    """The roles of groups, separated by spaces: `shop-admins=admin shop-staff=operator`. A group may be named more than
    once. Write a space in the name of a group as `%20`, a comma as `%2C`. People without any of the groups stay out."""
    oidc_create_users: bool = True
    """Whether the first sign-in of a person creates a user. If not, only users who are linked already get in."""
    oidc_link_by_email: bool = False
    """Whether the first sign-in of a person takes over the user with the same email address, if the provider says that
    it is verified. Set it only if nobody can have a wrong address verified there."""
    oidc_session_lifetime_s: Annotated[float, Field(ge=60, le=30 * 86_400)] = 43_200.0
    """When a session that began with an ID token ends at the latest, in seconds. Then the person signs in again, with
    the groups of that time. The default is a working day."""
    oidc_clock_skew_s: Annotated[float, Field(ge=0, le=300)] = 30.0
    """How far the provider's clock may differ from this one, in seconds."""
    oidc_refresh_interval_s: Interval = 300.0
    """Interval in seconds between downloads of the provider's keys. Between them, an unknown key causes at most one
    every 30 seconds."""
    oidc_stale_keys_max_s: Annotated[float, Field(ge=60, le=30 * 86_400)] = 86_400.0
    """How long keys are used after the last download that succeeded, in seconds, so that an outage of the provider
    stops nobody who has a token."""
    oidc_timeout_s: Interval = 10.0
    """Maximum time in seconds for one download of keys."""
    oidc_allowed_networks: Words = ()
    """Networks in which the provider may be although they are private or reserved, such as `10.1.0.0/16`, separated by
    spaces. Empty: public addresses only."""
    oidc_ca_file: Path | None = None
    """PEM certificates of more authorities to trust for the provider, such as a private one. Empty: the usual ones."""


def read_role_mapping(words: tuple[str, ...]) -> Mapping[str, frozenset[str]]:
    """Return the ids of the roles of each group.

    Args:
        words: pairs `group=role`; the last `=` separates.

    Raises: ValueError, with the pair that is none.
    """
    mapping: dict[str, frozenset[str]] = {}
    for word in words:
        group, _, role = word.rpartition("=")
        role = role.removeprefix("roles/")
        if not group or not ROLE.fullmatch(role):
            raise ValueError(word)
        group = unquote(group)
        mapping[group] = mapping.get(group, frozenset()) | {role}
    return mapping


def find_identity_problems(settings: IdentitySettings) -> Iterator[str]:
    """Yield a line for each setting of the provider that cannot work, alone or with the others."""
    if not settings.oidc_issuer:
        for name in DEPENDENT:
            if getattr(settings, name):
                yield f"STOREKEEP_{name.upper()}: needs STOREKEEP_OIDC_ISSUER"
        return
    for name in ("oidc_issuer", "oidc_jwks_url"):
        url = getattr(settings, name)
        if url and not URL.fullmatch(url):
            yield f"STOREKEEP_{name.upper()}: {url!r} is not a URL such as https://login.example.com"
    if not settings.oidc_client_id and not settings.oidc_audience:
        yield "STOREKEEP_OIDC_ISSUER: set STOREKEEP_OIDC_CLIENT_ID, STOREKEEP_OIDC_AUDIENCE or both"
    if settings.oidc_client_id == settings.oidc_audience != "":
        yield "STOREKEEP_OIDC_AUDIENCE: must not be the client id, or an ID token would be an access token"
    if settings.oidc_jwks_url and settings.oidc_jwks_file:
        yield "STOREKEEP_OIDC_JWKS_URL and STOREKEEP_OIDC_JWKS_FILE exclude each other; set one"
    yield from _check_roles(settings)
    yield from _check_networks(settings)


def _check_networks(settings: IdentitySettings) -> Iterator[str]:
    for network in settings.oidc_allowed_networks:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            yield f"STOREKEEP_OIDC_ALLOWED_NETWORKS: {network!r} is not a network such as 10.1.0.0/16"


def _check_roles(settings: IdentitySettings) -> Iterator[str]:
    try:
        mapping = read_role_mapping(settings.oidc_roles)
    except ValueError as error:
        yield f"STOREKEEP_OIDC_ROLES: {str(error)!r} is not GROUP=ROLE"
        return
    if not mapping:
        yield "STOREKEEP_OIDC_ROLES: nobody would get in; map a group to a role, such as shop-staff=operator"
