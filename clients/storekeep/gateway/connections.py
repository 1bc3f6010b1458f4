"""Connections per client address: the newest of an address with too many are closed.

Granian counts only all connections, so one address could hold them all and shut out the others. It does not show its
sockets either, so they are found among the open files. Connections in a TLS handshake count too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections import defaultdict
from collections.abc import Iterable

from storekeep.gateway.access_log import AccessLog
from storekeep.gateway.addresses import ClientAddresses, get_limit_key
from storekeep.gateway.metrics import Metrics

CHECK_INTERVAL_S = 0.5
"""Interval of the checks. A flood must fill all connections within it to be noticed by other clients."""


class ConnectionLimits:
    """Bounds the connections of each client address. Those of trusted proxies are not bounded.

    Args:
        per_address_max: maximum number per address; an IPv6 /64 network is one. 0: no limit.
        addresses: knows the trusted proxies.
        metrics: counts what is closed.
        log: gets a line when an address begins to have too many.
    """

    def __init__(self, per_address_max: int, *, addresses: ClientAddresses, metrics: Metrics, log: AccessLog) -> None:
        self._per_address_max = per_address_max
        self._addresses = addresses
        self._metrics = metrics
        self._log = log
        self._port = 0
        self._known: dict[int, tuple[int, str]] = {}
        self._warned: set[str] = set()

    async def run(self, port: int) -> None:
        """Check the connections of a local port again and again, in a thread: 4,000 take 10 ms."""
        self._port = port
        while self._per_address_max:
            await asyncio.sleep(CHECK_INTERVAL_S)
            with contextlib.suppress(OSError):  # no file is left to look with; the next check may have one
                await asyncio.to_thread(self.check)

    def check(self) -> None:
        """Close the newest connections of each address that has too many."""
        files = os.listdir("/proc/self/fd")
        if len(files) <= self._per_address_max:
            self._known.clear()
            self._warned.clear()
            return
        self._find_connections(map(int, files))
        by_address: dict[str, list[int]] = defaultdict(list)
        for number, (_, address) in self._known.items():
            if address:
                by_address[address].append(number)
        excess = {address: numbers[self._per_address_max :] for address, numbers in by_address.items()}
        for address, numbers in excess.items():
            for number in numbers:
                self._close(number)
            if numbers and address not in self._warned:
                self._log.write("closing connections: the address has too many", level="warning", address=address)
        self._warned = {address for address, numbers in excess.items() if numbers}

    def _find_connections(self, files: Iterable[int]) -> None:
        """Update the address of each open file, in the order in which they were first seen; empty for other files."""
        found = {}
        for number in files:
            with contextlib.suppress(OSError):  # closed meanwhile
                status = os.fstat(number)
                if stat.S_ISSOCK(status.st_mode):
                    found[number] = status.st_ino
        self._known = {number: known for number, known in self._known.items() if found.get(number) == known[0]}
        for number, inode in found.items():
            if number not in self._known:
                self._known[number] = inode, self._find_address(number)

    def _find_address(self, number: int) -> str:
        """Return the address that a connection counts for; empty for other sockets and for trusted proxies."""
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as connection:
            if connection.family == socket.AF_UNIX or connection.getsockname()[1] != self._port:
                return ""
            peer: str = connection.getpeername()[0]
            return "" if self._addresses.is_trusted(peer) else get_limit_key(peer)
        return ""

    def _close(self, number: int) -> None:
        """Shut a connection down. Granian then closes it."""
        inode, _ = self._known.pop(number)
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as connection:
            if os.fstat(connection.fileno()).st_ino == inode:  # not another one by now
                connection.shutdown(socket.SHUT_RDWR)
                self._metrics.closed_connections.inc()
