"""Look-ups of host names with a time limit, which the system's resolver does not have.

Each look-up has a thread of its own. Callers with the same host share one, and a limit for all keeps hosts whose name
servers do not answer from filling the process with threads.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence

Resolve = Callable[[str], Sequence[str]]
"""Returns the IP addresses of a host name. Raises OSError."""
LOOKUPS_MAX = 64
"""Look-ups at once. The system gives one up after half a minute or so."""


class _Lookup:
    """One running look-up."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.addresses: Sequence[str] = ()
        self.error: Exception | None = None


class Lookups:
    """Looks host names up. Threads may share it.

    Args:
        resolve: returns the addresses of a host name; None for the system's resolver.
    """

    def __init__(self, resolve: Resolve | None = None) -> None:
        self._resolve = resolve or resolve_name
        self._lock = threading.Lock()
        self._running: dict[str, _Lookup] = {}

    def resolve(self, host: str, *, timeout_s: float) -> Sequence[str]:
        """Return the IP addresses of a host name, or the address that it spells.

        Raises: TimeoutError, also if too many look-ups are running; the errors of the resolver.
        """
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            lookup = self._join(host)
        if not lookup.ended.wait(timeout_s):
            raise TimeoutError
        if lookup.error is not None:
            raise lookup.error
        return lookup.addresses

    def _join(self, host: str) -> _Lookup:
        """Return the running look-up of a host, or start one."""
        with self._lock:
            lookup = self._running.get(host)
            if lookup is None:
                if len(self._running) >= LOOKUPS_MAX:
                    raise TimeoutError
                lookup = self._running[host] = _Lookup()
                threading.Thread(target=self._run, args=(host, lookup), name="lookup", daemon=True).start()
        return lookup

    def _run(self, host: str, lookup: _Lookup) -> None:
        try:
            lookup.addresses = self._resolve(host)
        except (OSError, ValueError) as error:
            lookup.error = error
        finally:
            with self._lock:
                del self._running[host]
            lookup.ended.set()


def resolve_name(host: str) -> list[str]:
    """Return the IP addresses of a host name, as the system resolves it. Raises OSError."""
    return [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
