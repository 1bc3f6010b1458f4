"""Connections: which of them are closed as one address has too many, which gRPC's core has no option for.

Once a second the guard looks through the process's own sockets and closes the newest of an address first: those before
were there when all was well. It closes no descriptor itself: it may be another's by then. It also has the memory of
closed ones given back to the system.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from storekeep.server.transport.budgets import block_of

LOOK_EVERY_S = 1.0
LOOK_OFTEN_S = 0.1
"""The same while there are so many that an address could soon have all that there may be."""
CROWDED_SHARE = 0.5
"""From which share of them on it looks often."""
TRIM_EVERY_S = 15.0
"""How often freed memory is given back: glibc keeps it, after a flood some 50 MiB. It takes a few milliseconds."""
DESCRIPTORS = "/proc/self/fd"
FAMILIES = (socket.AF_INET, socket.AF_INET6)

log = logging.getLogger("storekeep.server")


class ConnectionLimits(NamedTuple):
    """How many connections there may be.

    Attributes:
        connections_max: in all; gRPC's core holds them to it, and this says from when on it is worth looking.
        per_address_max: from one IPv4 address or IPv6 /64; 0: no limit.
    """

    connections_max: int
    per_address_max: int


class ConnectionGuard:
    """Closes connections in a thread of its own, from `start` to `stop`."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._stop = threading.Event()
        self._port = 0
        self._is_crowded = False
        self._looks = 0
        self._known: dict[int, _Connection] = {}

    def start(self, address: str) -> None:
        """Look from now on.

        Args:
            address: where the server listens: `host:port`; on a Unix socket there is nothing to look for.
        """
        port = address.rpartition(":")[2]
        if self._limits.per_address_max and not address.startswith("unix") and os.path.isdir(DESCRIPTORS):
            self._port = int(port)
        threading.Thread(target=self._run, name="connections", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()

    def _run(self) -> None:
        trimmed_s = time.monotonic()
        while not self._stop.wait(LOOK_OFTEN_S if self._is_crowded else LOOK_EVERY_S):
            if time.monotonic() - trimmed_s > TRIM_EVERY_S:
                trim_memory()
                trimmed_s = time.monotonic()
            try:
                if self._port:
                    self.look()
            except OSError:
                log.exception("connections were not looked through")

    def look(self) -> int:
        """Close the connections that are too many; gives how many."""
        self._looks += 1
        descriptors = [int(name) for name in os.listdir(DESCRIPTORS)]
        self._is_crowded = len(descriptors) > CROWDED_SHARE * self._limits.connections_max
        if len(descriptors) <= self._limits.per_address_max:
            return 0
        self._known = {number: known for number in descriptors if (known := self._connection(number)) is not None}
        counts = Counter(connection.address for connection in self._known.values())
        closed = 0
        for number, connection in sorted(self._known.items(), key=lambda item: (item[1].look, item[0]), reverse=True):
            if counts[connection.address] <= self._limits.per_address_max:
                continue
            if self._close(number, connection):
                counts[connection.address] -= 1
                closed += 1
        if closed:
            log.warning("connections closed: too many from one address", extra={"connections": closed})
        return closed

    def _connection(self, number: int) -> _Connection | None:
        """The connection behind a file descriptor; None where there is none, or it is not one of the server's."""
        try:
            inode = os.stat(number).st_ino
        except OSError:
            return None
        known = self._known.get(number)
        if known is not None and known.inode == inode:
            return known
        return self._find(number, inode)

    def _find(self, number: int, inode: int) -> _Connection | None:
        with _borrowed(number) as found:
            if found is None or found.family not in FAMILIES or found.getsockname()[1] != self._port:
                return None
            return _Connection(inode, block_of(str(found.getpeername()[0])), self._looks)
        return None  # it listens, or is gone

    def _close(self, number: int, connection: _Connection) -> bool:
        """Close a connection, if it is still the same behind this descriptor."""
        with _borrowed(number) as found:
            if found is not None and os.stat(number).st_ino == connection.inode:
                found.shutdown(socket.SHUT_RDWR)
                return True
        return False


def trim_memory() -> None:
    """Give freed memory back to the system, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class _Connection(NamedTuple):
    """One connection.

    Attributes:
        inode: of its socket, by which it is known again.
        address: see `block_of`.
        look: the number of the look that found it. Of those found at once the one with the highest descriptor counts as
            the newest, as the system gives out the lowest that is free.
    """

    inode: int
    address: str
    look: int


@contextlib.contextmanager
def _borrowed(number: int) -> Iterator[socket.socket | None]:
    """A socket of gRPC's by its descriptor; None where it is none. An error of the system ends the block silently.

    The descriptor is neither duplicated nor closed: it may be the database's, and to close any descriptor of a file
    drops all locks that the process has on it (POSIX, fcntl).
    """
    with contextlib.suppress(OSError):
        try:
            found = socket.socket(fileno=number)
        except OSError:
            yield None
            return
        try:
            yield found
        finally:
            found.detach()
