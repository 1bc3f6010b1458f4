"""Webhooks, wired to the settings: the rules for addresses, the sender and the secrets."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from storekeep.server.config import Settings
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.webhooks.endpoints import EndpointSecrets
from storekeep.server.integrations.addresses import AddressRules, TargetRefused
from storekeep.server.integrations.requests import Sender
from storekeep.server.integrations.signatures import generate_secret

REPLY_MAX_BYTES = 1_024
"""Bytes of a reply's body that are read and listed: enough for an error message."""


@dataclass(frozen=True, slots=True)
class Webhooks:
    """What webhooks need of a server.

    Attributes:
        secrets: generates, encrypts and decrypts signing secrets.
        check_url: returns why a URL is not allowed; empty if it is.
        sender: sends requests.
    """

    secrets: EndpointSecrets
    check_url: Callable[[str], str]
    sender: Sender


def make_rules(settings: Settings) -> AddressRules:
    """Return what webhooks may be sent to."""
    ports = () if "any" in settings.webhook_ports else settings.webhook_ports
    return AddressRules(
        ports=frozenset(int(port) for port in ports),
        networks=tuple(ipaddress.ip_network(text) for text in settings.webhook_allowed_networks),
    )


def make_webhooks(settings: Settings, *, keyring: Keyring) -> Webhooks:
    """Wire webhooks to the settings.

    Raises: OSError if `webhook_ca_file` cannot be read.
    """
    rules = make_rules(settings)
    secrets = EndpointSecrets(keyring, generate=generate_secret, retention_s=settings.secret_reply_retention_s)
    sender = Sender(
        rules,
        timeout_s=settings.webhook_timeout_s,
        body_max_bytes=REPLY_MAX_BYTES,
        ca_file=settings.webhook_ca_file,
    )
    return Webhooks(secrets, functools.partial(_find_problem, rules), sender)


def _find_problem(rules: AddressRules, url: str) -> str:
    """Return why a URL is not allowed; empty if it is. Its host name is not looked up yet."""
    try:
        rules.parse_url(url)
    except TargetRefused as error:
        return str(error)
    return ""
