"""Channels: how the client reaches a server: address, TLS, message limits, transport retries.

Plaintext is taken without asking only for loopback addresses and Unix sockets; anywhere else it must be asked
for in words, because an API key travels over it. RefreshToken is never retried: its token works once.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from storekeep.client.errors import InvalidSettings
from storekeep.v1 import audit_pb2, auth_pb2, customers_pb2, inventory_pb2, orders_pb2, products_pb2

DEFAULT_PORT = 50051
DEFAULT_ADDRESS = f"127.0.0.1:{DEFAULT_PORT}"
"""Where a server listens when it is not told otherwise."""
PORT_MAX = 65_535
PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""What gRPC reads of the environment, the first that is set; in capitals they mean nothing to it."""
NO_PROXY_VARIABLES = ("no_grpc_proxy", "no_proxy")

RECEIVE_BYTES_MAX = 64 * 1024 * 1024
"""A page of 1,000 orders of 500 lines fits; a server that sends more is refused."""

TRANSPORT_ATTEMPTS_MAX = 5
"""gRPC's own ceiling for `maxAttempts`. Applies while the server has not begun to answer."""

KEEPALIVE_MS = 30_000
KEEPALIVE_TIMEOUT_MS = 10_000
"""While calls are under way, a peer that has vanished is noticed after the sum. The server takes a ping every 10 s."""

CONNECT_TIMEOUT_MS = 10_000
"""How long a connection may take to come about, TLS included. gRPC calls it the least time between two attempts, but
one that was refused is followed by the next after the backoff alone. A busy or distant server needs its time."""

_RETRY_POLICY: Mapping[str, object] = {
    "maxAttempts": TRANSPORT_ATTEMPTS_MAX,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}

SERVICES = tuple(
    service.full_name
    for file in (products_pb2, inventory_pb2, customers_pb2, orders_pb2, auth_pb2, audit_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
)
"""The full names of the contract's services."""

_DNS_SCHEMES = ("dns:///", "dns:")
_SCHEME = re.compile(r"(?:unix|unix-abstract|ipv4|ipv6|vsock|xds):|[a-z][a-z0-9+.-]*://")
"""Other names of gRPC's, which it takes as they are."""
_LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})


@dataclass(frozen=True, kw_only=True)
class Tls:
    """How to verify the server, and how to show who we are (mTLS)."""

    ca_file: Path | None = None
    """PEM certificates to trust; the certificates that gRPC brings along when not given."""
    cert_file: Path | None = None
    """PEM certificate chain of the client, together with `key_file`."""
    key_file: Path | None = None
    """PEM private key of the client, together with `cert_file`."""
    server_name: str | None = None
    """The name to expect in the server's certificate, where it is not the address's host."""


def service_config() -> str:
    """Return the gRPC service config of the channel, as JSON: UNAVAILABLE is retried, but for RefreshToken.

    It has no `retryThrottling`: that ends all retries after some fifty failures, which a restart makes within a second.
    `attempts.py` has a budget for overload in its place.
    """
    retried = {"name": [{"service": service} for service in SERVICES], "retryPolicy": _RETRY_POLICY}
    once = {"name": [{"service": "storekeep.v1.AuthService", "method": "RefreshToken"}]}
    return json.dumps({"methodConfig": [retried, once]})


def is_local(address: str) -> bool:
    """Say whether `address` is a Unix socket or a loopback address, so that nobody can listen in on the way."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.removeprefix("dns:").lstrip("/").rpartition(":")[0].strip("[]")
    if host.lower() in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def with_port(address: str) -> str:
    """Return `address` with the port that servers have by default, where it names none. gRPC would take 443.

    Raises: InvalidSettings when what stands in the port's place is not one.
    """
    scheme = next((scheme for scheme in _DNS_SCHEMES if address.startswith(scheme)), "")
    host = address.removeprefix(scheme)
    if not scheme and _SCHEME.match(address):
        return address
    if host.startswith("["):
        host, _, port = host.partition("]")
        host, port = f"{host}]", port.removeprefix(":")
    elif host.count(":") > 1:
        host, port = f"[{host}]", ""
    else:
        host, _, port = host.partition(":")
    if port and not (port.isascii() and port.isdigit() and int(port) <= PORT_MAX):
        raise InvalidSettings(f"{address}: {port} is not a port")
    return f"{scheme}{host}:{port or DEFAULT_PORT}"


def find_proxy(address: str) -> str:
    """Return the proxy that gRPC calls `address` through, as the environment says: `http_proxy=http://proxy:3128`.

    Empty where it calls directly. A password is left out.
    """
    if is_local(address) or _is_exempt(address):
        return ""
    for name in PROXY_VARIABLES:
        if value := os.environ.get(name, ""):
            return f"{name}={re.sub('//[^/@]*@', '//', value)}"
    return ""


def _is_exempt(address: str) -> bool:
    """Say whether `no_proxy` has the host; networks, which gRPC takes too, are not looked at."""
    exempt = next((value for name in NO_PROXY_VARIABLES if (value := os.environ.get(name, ""))), "")
    host = address.rpartition("/")[2].rpartition(":")[0].strip("[]").lower()
    return any(host.endswith(entry.strip().lower()) for entry in exempt.split(",") if entry.strip())


def open_channel(address: str, *, tls: Tls | bool | None) -> grpc.Channel:
    """Open a channel. It connects when it is first used.

    `tls`: a `Tls`, True for TLS with gRPC's own certificates, False for plaintext, None for plaintext on this machine
    and TLS elsewhere.

    Raises: InvalidSettings when a file cannot be read or only one of certificate and key is given.
    """
    options = _options(tls if isinstance(tls, Tls) else None)
    if is_local(address):
        options.append(("grpc.enable_http_proxy", 0))
    if tls is False or (tls is None and is_local(address)):
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, _credentials(tls if isinstance(tls, Tls) else Tls()), options=options)


def _options(tls: Tls | None) -> list[tuple[str, str | int]]:
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", service_config()),
        ("grpc.enable_retries", 1),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.max_receive_message_length", RECEIVE_BYTES_MAX),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_MS),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.primary_user_agent", "storekeep-client"),
    ]
    if tls is not None and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    if (tls.cert_file is None) != (tls.key_file is None):
        raise InvalidSettings("A client certificate needs both cert_file and key_file")
    return grpc.ssl_channel_credentials(
        root_certificates=_read(tls.ca_file),
        private_key=_read(tls.key_file),
        certificate_chain=_read(tls.cert_file),
    )


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InvalidSettings(f"Cannot read {path}: {error.strerror}") from error
    if b"-----BEGIN " not in content:
        raise InvalidSettings(f"{path} is not PEM")
    return content
