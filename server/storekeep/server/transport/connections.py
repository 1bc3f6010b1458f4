"""Connection limits for each address, and the end of single connections: gRPC's core has no option for either.

Once a second the guard scans the sockets of its process and shuts down the newest ones of an address above the limit.
Older connections are more likely legitimate. It never closes a file descriptor, which may have been reused. It also
returns memory of closed connections to the system.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from storekeep.server.telemetry.counts import Counts, Total
from storekeep.server.transport.budgets import get_address_block, get_peer_address

SCAN_INTERVAL_S = 1.0
"""Interval of scans."""
CROWDED_SCAN_INTERVAL_S = 0.1
"""The same while connections are crowded, when one address could soon use up the total."""
CROWDED_SHARE = 0.5
"""Share of `connections_max` from which connections count as crowded."""
TRIM_INTERVAL_S = 15.0
"""Interval at which freed memory is returned to the system. glibc keeps it otherwise, about 50 MiB after a flood. It
takes a few milliseconds."""
DESCRIPTORS = "/proc/self/fd"
NOWHERE = bytes(16)
"""An address of the family AF_UNSPEC (0). Connecting a socket to it dissolves its connection (connect(2))."""
SO_ATTACH_FILTER = 26
"""Option of a socket with a filter of its packets (socket(7)), which Python does not name."""
DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)
"""A filter of one instruction, which returns 0: keep no byte."""
FAMILIES = (socket.AF_INET, socket.AF_INET6)

log = logging.getLogger("storekeep.server")


class ConnectionLimits(NamedTuple):
    """Limits for connections.

    Attributes:
        connections_max: the most connections in total. gRPC's core enforces it; here it sets the scan interval.
        per_address_max: the most connections of one IPv4 address or IPv6 /64 block. 0 means no limit.
    """

    connections_max: int
    per_address_max: int


METADATA = "metadata"
PER_ADDRESS = "connections per address"
CLOSED_BY = (METADATA, PER_ADDRESS)
"""The limits beyond which the guard closes connections, as the metrics name them."""


class ConnectionGuard:
    """Shuts down excess connections, in its own thread from `start` to `stop`.

    Args:
        limits: the limits to enforce.
    """

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._wake = threading.Event()
        self._has_ended = False
        self._unwanted: set[str] = set()
        self._port = 0
        self._is_crowded = False
        self._scans = 0
        self._known: dict[int, _Connection] = {}
        self._closed = dict.fromkeys(CLOSED_BY, 0)

    def start(self, address: str) -> None:
        """Start the thread.

        Args:
            address: the address of the server, as `host:port`. Connections of a Unix socket are not limited.
        """
        port = address.rpartition(":")[2]
        if not address.startswith("unix") and os.path.isdir(DESCRIPTORS):
            self._port = int(port)
        threading.Thread(target=self._run, name="connections", daemon=True).start()

    def stop(self) -> None:
        """Stop the thread."""
        self._has_ended = True
        self._wake.set()

    def close_connection(self, peer: str) -> None:
        """Shut down the connection of a client at once, in the thread of the guard. Never blocks.

        Args:
            peer: the client, such as `ipv4:127.0.0.1:40404`. A client of a Unix socket is left alone.
        """
        self._unwanted.add(peer)
        self._wake.set()

    def hold_connections_off(self) -> None:
        """Let the system ignore attempts to connect, until the port is closed or another process takes it.

        gRPC's core has no option for it, and logs an error if it cannot accept. A client tries again after a second.
        """
        instruction = ctypes.create_string_buffer(DROP_ALL)
        program = struct.pack("HL", 1, ctypes.addressof(instruction))
        for number in _list_descriptors():
            with _borrow_socket(number) as borrowed:
                if borrowed is not None and self._is_at_port(borrowed) and _is_listening(borrowed):
                    borrowed.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    def half_close(self, *, other_than: frozenset[str]) -> None:
        """Send the end of each connection, so that its client gets nothing more and sends its next call elsewhere.

        Replies that were written before still arrive.

        Args:
            other_than: clients whose connections stay open, such as `ipv4:127.0.0.1:40404`. Clients of Unix sockets
                cannot be told apart: if one is in it, they all stay open.
        """
        ports = {(get_peer_address(peer), peer.rpartition(":")[2]) for peer in other_than}
        keeps_unix = any(peer.startswith("unix") for peer in other_than)
        for number in _list_descriptors():
            with _borrow_socket(number) as borrowed:
                if borrowed is None or _is_listening(borrowed):
                    continue
                if borrowed.family == socket.AF_UNIX:
                    is_kept = keeps_unix or not borrowed.getsockname()  # only an accepted one has a name
                elif self._is_at_port(borrowed):
                    host, port, *_ = borrowed.getpeername()
                    is_kept = (get_address_block(str(host)), str(port)) in ports
                else:
                    is_kept = True
                if not is_kept:
                    borrowed.shutdown(socket.SHUT_WR)

    def _is_at_port(self, borrowed: socket.socket) -> bool:
        """Return whether a socket belongs to the port of the server."""
        return borrowed.family in FAMILIES and bool(self._port) and borrowed.getsockname()[1] == self._port

    def count(self) -> Counts:
        """Return the number of connections that it has closed, by the limit that they exceeded."""
        return Counts(totals=tuple(Total("storekeep_connections_closed", *row) for row in self._closed.items()))

    def _run(self) -> None:
        trimmed_s = time.monotonic()
        while True:
            self._wake.wait(CROWDED_SCAN_INTERVAL_S if self._is_crowded else SCAN_INTERVAL_S)
            if self._has_ended:
                return
            self._wake.clear()
            if time.monotonic() - trimmed_s > TRIM_INTERVAL_S:
                trim_memory()
                trimmed_s = time.monotonic()
            try:
                if self._port:
                    self._close_unwanted()
                    self.close_excess()
            except OSError:
                log.exception("connections were not scanned")

    def _close_unwanted(self) -> None:
        """Shut down the connections that `close_connection` was called for."""
        peers, self._unwanted = self._unwanted, set()
        unwanted = {(get_peer_address(peer), peer.rpartition(":")[2]) for peer in peers}
        closed = 0
        for number in map(int, os.listdir(DESCRIPTORS) if unwanted else ()):
            with _borrow_socket(number) as borrowed:
                if borrowed is None or borrowed.family not in FAMILIES or borrowed.getsockname()[1] != self._port:
                    continue
                host, port, *_ = borrowed.getpeername()
                if (get_address_block(str(host)), str(port)) in unwanted:
                    _abort(borrowed)
                    closed += 1
        if closed:
            self._closed[METADATA] += closed
            log.warning("connections closed: far too much metadata", extra={"connections": closed})

    def close_excess(self) -> int:
        """Shut down the connections above the limit, and return their number."""
        if not self._limits.per_address_max:
            return 0
        self._scans += 1
        descriptors = [int(name) for name in os.listdir(DESCRIPTORS)]
        self._is_crowded = len(descriptors) > CROWDED_SHARE * self._limits.connections_max
        if len(descriptors) <= self._limits.per_address_max:
            return 0
        self._known = {number: known for number in descriptors if (known := self._find_connection(number)) is not None}
        counts = Counter(connection.address for connection in self._known.values())
        closed = 0
        for number, connection in sorted(self._known.items(), key=lambda item: (item[1].scan, item[0]), reverse=True):
            if counts[connection.address] <= self._limits.per_address_max:
                continue
            if self._close(number, connection):
                counts[connection.address] -= 1
                closed += 1
        if closed:
            self._closed[PER_ADDRESS] += closed
            log.warning("connections closed: too many from one address", extra={"connections": closed})
        return closed

    def _find_connection(self, number: int) -> _Connection | None:
        """Return the connection of a file descriptor; None if it is not a connection of the server's port."""
        try:
            inode = os.stat(number).st_ino
        except OSError:
            return None
        known = self._known.get(number)
        if known is not None and known.inode == inode:
            return known
        return self._read_connection(number, inode)

    def _read_connection(self, number: int, inode: int) -> _Connection | None:
        with _borrow_socket(number) as borrowed:
            if borrowed is None or borrowed.family not in FAMILIES or borrowed.getsockname()[1] != self._port:
                return None
            return _Connection(inode, get_address_block(str(borrowed.getpeername()[0])), self._scans)
        return None  # a listening or closed socket

    def _close(self, number: int, connection: _Connection) -> bool:
        """Shut down a connection, if the descriptor still belongs to it."""
        with _borrow_socket(number) as borrowed:
            if borrowed is not None and os.stat(number).st_ino == connection.inode:
                borrowed.shutdown(socket.SHUT_RDWR)
                return True
        return False


def _abort(connection: socket.socket) -> None:
    """Reset a TCP connection, and discard what it has received: `shutdown` would leave that to be read."""
    if ctypes.CDLL(None).connect(connection.fileno(), NOWHERE, len(NOWHERE)):
        connection.shutdown(socket.SHUT_RDWR)


def trim_memory() -> None:
    """Return freed memory to the system, if the C library supports it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _is_listening(borrowed: socket.socket) -> bool:
    return bool(borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _list_descriptors() -> list[int]:
    """Return the open file descriptors of this process; none if the system does not list them."""
    return [int(name) for name in os.listdir(DESCRIPTORS)] if os.path.isdir(DESCRIPTORS) else []


class _Connection(NamedTuple):
    """One connection.

    Attributes:
        inode: the inode of its socket, which identifies it.
        address: the address of the client; see `get_address_block`.
        scan: the number of the scan that found it. In one scan, the highest descriptor counts as the newest, because
            the system assigns the lowest free descriptor.
    """

    inode: int
    address: str
    scan: int


@contextlib.contextmanager
def _borrow_socket(number: int) -> Iterator[socket.socket | None]:
    """Yield the socket of a descriptor that gRPC owns; None if it is not a socket. An OSError ends the block silently.

    The descriptor is neither duplicated nor closed. It may belong to the database, and closing any descriptor of a file
    releases all locks of the process on that file (POSIX, fcntl).
    """
    with contextlib.suppress(OSError):
        try:
            borrowed = socket.socket(fileno=number)
        except OSError:
            yield None
            return
        try:
            yield borrowed
        finally:
            borrowed.detach()
