"""The addresses of a server: a check that they are free before anything is written, and what a client uses."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from storekeep.server.config import UNIX, Settings
from storekeep.server.runtime.ports import METRICS_SETTING, find_free_addresses, split_address
from storekeep.server.transport.tls import read_server_names

ANY_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared, not bound
"""Hosts that mean every address of the machine, and the one at which a client on the machine reaches them."""


def check_addresses(settings: Settings) -> None:
    """Check that the server can listen on its addresses. The port of several workers is reserved elsewhere.

    Raises: AddressTaken.
    """
    if settings.workers == 1 and not settings.listen.startswith(UNIX):
        find_free_addresses(settings.listen)
    if settings.metrics_listen:
        find_free_addresses(settings.metrics_listen, setting=METRICS_SETTING)


def format_login_options(address: str, *, settings: Settings, key_file: Path) -> str:
    """Return the options with which `storekeep login` reaches a server from this machine.

    Args:
        address: on which the server listens, with its port.
        key_file: of the administrator's API key. If it was removed, the option is left out and `login` asks for a key.
    """
    options = ["--address", _find_client_address(address, settings)]
    if settings.tls_certificate_file is not None:
        options += ["--ca-file", _shorten(settings.tls_certificate_file)]
    if settings.tls_client_ca_file is not None:
        options += ["--cert-file", "CLIENT.pem", "--key-file", "CLIENT.key"]
    if key_file.is_file():
        options += ["--api-key-file", str(key_file)]
    return shlex.join(options)


def _find_client_address(address: str, settings: Settings) -> str:
    """Return the address that a client on this machine uses: with TLS, a name that the certificate has."""
    if address.startswith(UNIX):
        return address
    host, port = split_address(address)
    name = ANY_HOSTS.get(host, address.rpartition(":")[0])
    if settings.tls_certificate_file is not None:
        names = read_server_names(settings.tls_certificate_file)
        if names and name.strip("[]") not in names:
            name = "localhost" if "localhost" in names else f"[{names[0]}]" if ":" in names[0] else names[0]
    return f"{name}:{port}"


def _shorten(path: Path) -> str:
    """Return a path relative to the working directory if it is below it."""
    absolute, directory = path.absolute(), Path(os.getcwd())
    return str(absolute.relative_to(directory) if absolute.is_relative_to(directory) else absolute)
