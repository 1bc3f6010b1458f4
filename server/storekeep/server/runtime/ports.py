"""Ports: find a free port, and reserve it for several workers that share it.

SO_REUSEPORT lets any number of processes of one user listen on a port, including another server by mistake. So a port
is first bound without it, and then reserved by a socket that never listens.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

FREE_PORT_ATTEMPTS_MAX = 10
"""Attempts to find a port that is free on every address of a host name."""

SocketAddress = tuple[Any, ...]
"""The address of a socket, in the form of its family."""
LISTEN_SETTING = "STOREKEEP_LISTEN"
METRICS_SETTING = "STOREKEEP_METRICS_LISTEN"
IN_USE = os.strerror(errno.EADDRINUSE).lower()
UNAVAILABLE = "this machine has no such address"
UNKNOWN_HOST = "the host name is unknown"
LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})
PORT_MAX = 65_535


class AddressTaken(Exception):
    """The server cannot listen on an address.

    Args:
        address: the configured address.
        taken: the resolved address that is not available; empty if none was resolved.
        reason: why, such as `address already in use`.
        setting: the setting that holds the address; empty if none does.
    """

    def __init__(
        self, address: str, *, taken: str = "", reason: str = UNAVAILABLE, setting: str = LISTEN_SETTING
    ) -> None:
        detail = f" ({taken})" if taken not in ("", address) else ""
        advice = f"; set {setting} to another address" if setting else ""
        also = ", or stop the other program" if setting and reason == IN_USE else ""
        super().__init__(f"cannot listen on {address}{detail}: {reason}{advice}{also}")
        self.address = address


def describe_bind_error(error: OSError) -> str:
    """Return why a socket cannot be bound, in lower case."""
    return (error.strerror or str(error)).lower()


def is_host_and_port(address: str) -> bool:
    """Return whether an address has the form `host:port`."""
    host, _, port = address.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit() and int(port) <= PORT_MAX


def is_loopback(address: str) -> bool:
    """Return whether a `host:port` can be reached only from this machine."""
    host = address.rpartition(":")[0]
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def split_address(address: str) -> tuple[str, int]:
    """Return the host and the port of `host:port`, without the brackets of an IPv6 address."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


@contextmanager
def reserve_port(address: str) -> Iterator[str]:
    """Reserve a port until the block ends, so that only this user's workers can share it.

    Args:
        address: `host:port`; port 0 selects a free port.

    Returns: the address with the reserved port.

    Raises: AddressTaken.
    """
    _, port = split_address(address)
    with ExitStack() as sockets:
        is_reserved = False
        for family, target in _resolve_host(address):
            with contextlib.suppress(_AddressUnavailable):
                reserved = _reserve(family, _replace_port(target, port), address=address)
                port = sockets.enter_context(reserved).getsockname()[1]
                is_reserved = True
        if not is_reserved:
            raise AddressTaken(address)
        yield f"{address.rpartition(':')[0]}:{port}"


def find_free_addresses(address: str, *, setting: str = LISTEN_SETTING) -> list[str]:
    """Return every address that `host:port` resolves to on this machine, all with the same free port.

    A name can resolve to several addresses. gRPC itself would be satisfied with binding any one of them.

    Args:
        address: `host:port`; port 0 selects a free port.
        setting: the setting that holds the address, for the error.

    Raises: AddressTaken, with the resolved address that is not free.
    """
    _, requested_port = split_address(address)
    for attempt in range(1, FREE_PORT_ATTEMPTS_MAX + 1):
        port, addresses = requested_port, []
        try:
            for family, target in _resolve_host(address, setting=setting):
                with (
                    contextlib.suppress(_AddressUnavailable),
                    _open_listener(family, _replace_port(target, port), address=address, setting=setting) as listener,
                ):
                    port = listener.getsockname()[1]
                    addresses.append(_format_address(target[0], port))
        except AddressTaken:
            # A port that is free on one address may be taken on another.
            if requested_port or attempt == FREE_PORT_ATTEMPTS_MAX:
                raise
            continue
        if addresses:
            return addresses
        break
    raise AddressTaken(address, setting=setting)


def _replace_port(target: SocketAddress, port: int) -> SocketAddress:
    return (target[0], port, *target[2:])


def _format_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _AddressUnavailable(Exception):
    """The machine does not have the address, such as an IPv6 `localhost` without IPv6."""


def _resolve_host(address: str, *, setting: str = LISTEN_SETTING) -> list[tuple[int, SocketAddress]]:
    """Return the distinct families and socket addresses that a host name resolves to. Raises: AddressTaken."""
    host, port = split_address(address)
    try:
        resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise AddressTaken(address, reason=UNKNOWN_HOST, setting=setting) from None
    targets: dict[tuple[int, SocketAddress], None] = {(family, target): None for family, _, _, _, target in resolved}
    return list(targets)


def _reserve(family: int, target: SocketAddress, *, address: str) -> socket.socket:
    """Return a socket that reserves an address, after checking that nothing else listens on it.

    Raises: AddressTaken, _AddressUnavailable.
    """
    with _open_listener(family, target, address=address) as listener:
        target = listener.getsockname()
    reserved = _bind_socket(family, target, address=address, shared=True)
    # SO_REUSEADDR is set for the bind, so that recently closed connections do not block it. It is cleared afterwards,
    # so that another server finds the port taken even before a worker listens.
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return reserved


def _open_listener(family: int, target: SocketAddress, *, address: str, setting: str = LISTEN_SETTING) -> socket.socket:
    """Return a socket that listens on an address exclusively. Raises: AddressTaken, _AddressUnavailable."""
    listener = _bind_socket(family, target, address=address, setting=setting)
    try:
        listener.listen()
    except OSError as error:
        listener.close()
        taken = _format_address(target[0], target[1])
        raise AddressTaken(address, taken=taken, reason=describe_bind_error(error), setting=setting) from None
    return listener


def _bind_socket(
    family: int, target: SocketAddress, *, address: str, shared: bool = False, setting: str = LISTEN_SETTING
) -> socket.socket:
    """Return a socket bound to an address. Raises: AddressTaken, _AddressUnavailable."""
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(target)
    except OSError as error:
        bound.close()
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise _AddressUnavailable from None
        taken = _format_address(target[0], target[1])
        raise AddressTaken(address, taken=taken, reason=describe_bind_error(error), setting=setting) from None
    return bound
