"""Ports: finding out whether one is free, and keeping it for several workers that listen on it together.

SO_REUSEPORT lets any number of processes of one user listen on a port, also those of another server by mistake.
So a port is tried without it first, and then held by a socket that never listens.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

Place = tuple[Any, ...]
"""Where a socket is bound, as its family has it."""


class AddressTaken(Exception):
    """The server cannot listen where it should."""

    def __init__(self, address: str) -> None:
        super().__init__(f"cannot listen on {address}; is another program, or another server, there already?")
        self.address = address


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
                reserved = _reserve(family, (place[0], port, *place[2:]), address=address)
                port = held.enter_context(reserved).getsockname()[1]
                reached = True
        if not reached:
            raise AddressTaken(address)
        yield f"{address.rpartition(':')[0]}:{port}"


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
    with _bound(family, place, address=address) as alone:
        try:
            alone.listen()
        except OSError:
            raise AddressTaken(address) from None
        place = alone.getsockname()
    reserved = _bound(family, place, address=address, shared=True)
    # Bound with SO_REUSEADDR, so that connections that have just ended do not matter. Without it from here on, so that
    # another server that tries the port sees that it is taken, even before anyone listens.
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return reserved


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
        raise AddressTaken(address) from None
    return made
