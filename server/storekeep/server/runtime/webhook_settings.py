"""The settings of webhooks: what the server may connect to, for how long, and how often."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from storekeep.server.runtime.setting_types import Count, Interval, Words

PORT_MAX = 65_535


class WebhookSettings(BaseSettings):
    """The part of the settings that webhooks use."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    webhook_ports: Words = ("443",)
    """The TCP ports that webhooks may be sent to, separated by spaces; `any` for all. The default, that of HTTPS, keeps
    callers from probing other services."""
    webhook_allowed_networks: Words = ()
    """Networks that webhooks may be sent to although they are private or reserved, such as `10.1.0.0/16`, separated by
    spaces. Empty: public addresses only, so that no caller reaches your internal servers."""
    webhook_ca_file: Path | None = None
    """PEM certificates of more authorities to trust for webhooks, such as a private one. Empty: the usual ones only."""
    webhook_timeout_s: Interval = 10.0
    """Maximum time in seconds for one attempt, from the look-up of the host name to the reply. Receivers should reply
    before they process an event."""
    webhook_attempts_max: Annotated[int, Field(ge=2, le=1_000)] = 16
    """Maximum number of attempts at once in a process; each uses a thread. Endpoints that fail get at most half."""
    webhook_attempts_per_endpoint_max: Count = 4
    """Maximum number of attempts at once to one endpoint, so that a slow one leaves the others their share. An endpoint
    that fails gets one."""
    webhook_retry_days: Annotated[float, Field(gt=0, le=365)] = 3.0
    """Number of days after the first attempt that a delivery is tried again. Three days outlast a weekend."""
    webhook_disable_days: Annotated[float, Field(gt=0, le=365)] = 5.0
    """Disable an endpoint that has failed for this many days without a success. Its events wait."""
    webhook_retention_days: Annotated[float, Field(gt=0, le=3650)] = 7.0
    """Number of days that finished deliveries are listed. The events themselves are kept longer."""
    webhook_interval_s: Interval = 0.5
    """Interval in seconds between looks for new events. It is the delay of an event on an idle server."""


def find_webhook_problems(settings: WebhookSettings) -> Iterator[str]:
    """Yield a line for each port or network that is none."""
    for port in settings.webhook_ports:
        if port != "any" and not (port.isascii() and port.isdecimal() and 0 < int(port) <= PORT_MAX):
            yield f"STOREKEEP_WEBHOOK_PORTS: {port!r} is not a port from 1 to {PORT_MAX}, or any"
    for network in settings.webhook_allowed_networks:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            yield f"STOREKEEP_WEBHOOK_ALLOWED_NETWORKS: {network!r} is not a network such as 10.1.0.0/16"
