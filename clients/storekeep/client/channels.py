"""gRPC channels: address, proxy, TLS, message limits and transport retries.

Plaintext is the default only for loopback addresses and Unix sockets; elsewhere it must be requested explicitly,
because it exposes the API key. RefreshToken is never retried, because a refresh token works only once.
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

from storekeep.client.error_families import InvalidSettings
from storekeep.client.files import read_file

DEFAULT_PORT = 50051
DEFAULT_ADDRESS = f"127.0.0.1:{DEFAULT_PORT}"
"""The default address of a server."""
PORT_MAX = 65_535
PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""Environment variables from which gRPC takes a proxy, the first that is set. It ignores their uppercase forms."""
NO_PROXY_VARIABLES = ("no_grpc_proxy", "no_proxy")

RECEIVE_BYTES_MAX = 64 * 1024 * 1024
"""Maximum size of a reply in bytes: a page of 1,000 orders of 500 lines fits."""

TRANSPORT_ATTEMPTS_MAX = 5
"""Attempts of gRPC's transport retries, and gRPC's own maximum. They apply until the server begins to answer."""

KEEPALIVE_MS = 30_000
KEEPALIVE_TIMEOUT_MS = 10_000
"""A lost peer is detected after the sum while calls are in progress. The server allows a ping every 10 s."""

CONNECT_TIMEOUT_MS = 10_000
"""Time limit for a connection attempt, TLS handshake included, with margin for a busy or distant server. gRPC names the
option as the minimum time between attempts, but after a refused connection it waits only for the backoff."""

_RETRY_POLICY: Mapping[str, object] = {
    "maxAttempts": TRANSPORT_ATTEMPTS_MAX,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}

SERVICES = tuple(
    f"storekeep.v1.{name}Service"
    for name in (
        *("Product", "Inventory", "Customer", "Order", "Quote", "Event", "Webhook"),
        *("Pricing", "Auth", "User", "Audit"),
    )
)
"""The full names of the contract's services. They are written here, because their modules take long to import."""

_DNS_SCHEMES = ("dns:///", "dns:")
_SCHEME = re.compile(r"(?:unix|unix-abstract|ipv4|ipv6|vsock|xds):|[a-z][a-z0-9+.-]*://")
"""Other target URIs of gRPC, which are passed on unchanged."""
_LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Certificates to verify the server and, for mTLS, to identify the client."""

    ca_file: Path | None = None
    """PEM file of trusted CA certificates (default: gRPC's own root certificates)."""
    cert_file: Path | None = None
    """PEM file of the client's certificate chain. Requires `key_file`."""
    key_file: Path | None = None
    """PEM file of the client's private key. Requires `cert_file`."""
    server_name: str | None = None
    """Expected name in the server's certificate (default: the host of the address)."""


def build_service_config() -> str:
    """Return the gRPC service config as JSON. It retries UNAVAILABLE on every method except RefreshToken.

    It omits `retryThrottling`, which would stop all retries after about fifty failures, as one restart causes within a
    second. `attempts.py` limits retries under overload instead.
    """
    retried = {"name": [{"service": service} for service in SERVICES], "retryPolicy": _RETRY_POLICY}
    once = {"name": [{"service": "storekeep.v1.AuthService", "method": "RefreshToken"}]}
    return json.dumps({"methodConfig": [retried, once]})


def is_local(address: str) -> bool:
    """Return whether an address is a loopback address or a Unix socket, so that traffic stays on this machine."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.removeprefix("dns:").lstrip("/").rpartition(":")[0].strip("[]")
    if host.lower() in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def add_default_port(address: str) -> str:
    """Return `address` with port 50051 if it has no port. gRPC would use 443.

    Raises: InvalidSettings if the port is not a valid number, or if the address is a URL of HTTP.
    """
    if address.lower().startswith(("http://", "https://")):
        scheme = address.partition("://")[0]
        raise InvalidSettings(
            f"{address}: leave out {scheme}://; the address of gRPC is HOST:PORT, such as {DEFAULT_ADDRESS}"
        )
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
        raise InvalidSettings(f"{address}: {port} is not a port number")
    return f"{scheme}{host}:{port or DEFAULT_PORT}"


def find_proxy(address: str) -> str:
    """Return the environment variable and proxy that gRPC uses for `address`, as `http_proxy=http://proxy:3128`.

    Return an empty string for a direct connection. Credentials are removed.
    """
    if is_local(address) or _is_exempt(address):
        return ""
    for name in PROXY_VARIABLES:
        if value := os.environ.get(name, ""):
            return f"{name}={re.sub('//[^/@]*@', '//', value)}"
    return ""


def _is_exempt(address: str) -> bool:
    """Return whether `no_proxy` lists the host. Its networks (CIDR), which gRPC supports too, are not evaluated."""
    exempt = next((value for name in NO_PROXY_VARIABLES if (value := os.environ.get(name, ""))), "")
    host = address.rpartition("/")[2].rpartition(":")[0].strip("[]").lower()
    return any(host.endswith(entry.strip().lower()) for entry in exempt.split(",") if entry.strip())


def open_channel(address: str, *, tls: Tls | bool | None) -> grpc.Channel:
    """Open a channel. It connects on its first call.

    Args:
        tls: a `Tls`, True for TLS with gRPC's own root certificates, False for plaintext, or None for plaintext to
            local addresses and TLS to all others.

    Raises: InvalidSettings if a file cannot be read, or only one of certificate and key is given.
    """
    options = _build_options(tls if isinstance(tls, Tls) else None)
    if is_local(address):
        options.append(("grpc.enable_http_proxy", 0))
    if tls is False or (tls is None and is_local(address)):
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, _build_credentials(tls if isinstance(tls, Tls) else Tls()), options=options)


def _build_options(tls: Tls | None) -> list[tuple[str, str | int]]:
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", build_service_config()),
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


def _build_credentials(tls: Tls) -> grpc.ChannelCredentials:
    if (tls.cert_file is None) != (tls.key_file is None):
        raise InvalidSettings("a client certificate requires both cert_file and key_file")
    return grpc.ssl_channel_credentials(
        root_certificates=_read(tls.ca_file),
        private_key=_read(tls.key_file),
        certificate_chain=_read(tls.cert_file),
    )


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        content = read_file(Path(path))
    except OSError as error:
        raise InvalidSettings(f"cannot read {path}: {error.strerror}") from error
    if b"-----BEGIN " not in content:
        raise InvalidSettings(f"{path} is not a PEM file")
    return content
