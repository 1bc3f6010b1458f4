"""Ports: finding out whether one is free, and keeping it for several workers that listen on it together.

SO_REUSEPORT lets any number of processes of one user listen on a port, also those of another server by mistake.
So a port is tried without it first, and then held by a socket that never listens.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

FREE_PORT_ATTEMPTS_MAX = 10
"""Free ports that are tried where a name stands for several addresses."""

Place = tuple[Any, ...]
"""Where a socket is bound, as its family has it."""
LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})
PORT_MAX = 65_535


class AddressTaken(Exception):
    """The server cannot listen where it should.

    Args:
        address: as it was asked for.
        taken: the one of the addresses that a name stands for which cannot be had.
    """

    def __init__(self, address: str, *, taken: str = "") -> None:
        also = f" ({taken})" if taken not in ("", address) else ""
        super().__init__(f"cannot listen on {address}{also}; is another program, or another server, there already?")
        self.address = address


def is_host_and_port(address: str) -> bool:
    """Return whether an address has the form `host:port`."""
    host, _, port = address.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit() and int(port) <= PORT_MAX


def is_loopback(address: str) -> bool:
    """Return whether only this machine reaches a `host:port`."""
    host = address.rpartition(":")[0]
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`, the host without the brackets of an IPv6 address."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


@contextmanager
def reserve_port(address: str) -> Iterator[str]:
    """Hold a port that only this process's user can share, and nobody who does not mean to.

    Args:
        address: `host:port`; port 0 takes a free one.

    Returns: the address with the port that it is.

    Raises: AddressTaken.
    """
    _, port = split_address(address)
    with ExitStack() as held:
        reached = False
        for family, place in _places(address):
            with contextlib.suppress(_NotHere):
                reserved = _reserve(family, _with_port(place, port), address=address)
                port = held.enter_context(reserved).getsockname()[1]
                reached = True
        if not reached:
            raise AddressTaken(address)
        yield f"{address.rpartition(':')[0]}:{port}"


def free_addresses(address: str) -> list[str]:
    """Return all addresses that `host:port` stands for on this machine, each free, with one and the same port.

    A name can stand for several, and gRPC is content with any of them.

    Raises: AddressTaken, which names the one that is not free.
    """
    _, asked = split_address(address)
    for attempt in range(1, FREE_PORT_ATTEMPTS_MAX + 1):
        port, addresses = asked, []
        try:
            for family, place in _places(address):
                with (
                    contextlib.suppress(_NotHere),
                    _listening(family, _with_port(place, port), address=address) as alone,
                ):
                    port = alone.getsockname()[1]
                    addresses.append(_written(place[0], port))
        except AddressTaken:
            if asked or attempt == FREE_PORT_ATTEMPTS_MAX:  # a port that is free on one may be taken on another
                raise
            continue
        if addresses:
            return addresses
        break
    raise AddressTaken(address)


def _with_port(place: Place, port: int) -> Place:
    return (place[0], port, *place[2:])


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _NotHere(Exception):
    """The machine has no such address, as for `localhost` where there is no IPv6."""


def _places(address: str) -> list[tuple[int, Place]]:
    """What a host's name stands for, each once, as families and the addresses of sockets."""
    host, port = split_address(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise AddressTaken(address) from None
    places: dict[tuple[int, Place], None] = {(family, place): None for family, _, _, _, place in found}
    return list(places)


def _reserve(family: int, place: Place, *, address: str) -> socket.socket:
    """Try one place alone, then hold it; what comes after it is refused while it is held.

    Raises: AddressTaken, _NotHere.
    """
    with _listening(family, place, address=address) as alone:
        place = alone.getsockname()
    reserved = _bound(family, place, address=address, shared=True)
    # Bound with SO_REUSEADDR, so that connections that have just ended do not matter. Without it from here on, so that
    # another server that tries the port sees that it is taken, even before anyone listens.
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return reserved


def _listening(family: int, place: Place, *, address: str) -> socket.socket:
    """A socket that listens at a place alone. Raises: AddressTaken, _NotHere."""
    made = _bound(family, place, address=address)
    try:
        made.listen()
    except OSError:
        made.close()
        raise AddressTaken(address, taken=_written(place[0], place[1])) from None
    return made


def _bound(family: int, place: Place, *, address: str, shared: bool = False) -> socket.socket:
    """A socket at a place. Raises: AddressTaken, _NotHere."""
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(place)
    except OSError as error:
        made.close()
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise _NotHere from None
        raise AddressTaken(address, taken=_written(place[0], place[1])) from None
    return made
