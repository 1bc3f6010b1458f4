"""Connections for outbound requests: to checked addresses only, and with one time limit for everything.

Every wait on the socket ends at the same deadline, so a server that sends one byte at a time gains nothing by it.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpcore

from storekeep.server.integrations.addresses import AddressRules, Resolve

SEND_BYTES_MAX = 64 * 1024
"""Bytes per write, so that the deadline is checked between them."""


class TimeExhausted(httpcore.TimeoutException):
    """The time limit of the request has passed."""


class Deadline:
    """A point in time, measured by a clock that no one sets.

    Args:
        timeout_s: seconds from now.
    """

    def __init__(self, timeout_s: float) -> None:
        self._end_s = time.monotonic() + timeout_s

    def get_remaining_s(self) -> float:
        """Return the seconds until then.

        Raises: TimeExhausted.
        """
        remaining_s = self._end_s - time.monotonic()
        if remaining_s <= 0:
            raise TimeExhausted
        return remaining_s


class CheckedBackend(httpcore.NetworkBackend):
    """Resolves a host name, checks its addresses, and connects to the first that answers.

    Args:
        rules: the allowed addresses.
        deadline: when the whole request ends.
        resolve: returns the addresses of a host name; None for the system's resolver.
    """

    def __init__(self, rules: AddressRules, deadline: Deadline, *, resolve: Resolve | None = None) -> None:
        self._rules = rules
        self._deadline = deadline
        self._resolve = resolve

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to a checked address.

        Raises: TargetRefused, HostNotFound, TimeExhausted, httpcore.ConnectError.
        """
        addresses = self._rules.resolve(host, resolve=self._resolve)
        for index, address in enumerate(addresses):
            remaining_s = self._deadline.get_remaining_s()
            try:
                connected = socket.create_connection((address, port), timeout=remaining_s / (len(addresses) - index))
            except OSError as error:
                problem = error
                continue
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return CheckedStream(connected, self._deadline)
        self._deadline.get_remaining_s()
        raise httpcore.ConnectError(type(problem).__name__)


class CheckedStream(httpcore.NetworkStream):
    """A connection whose reads and writes end at the deadline."""

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket = connected
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return the next bytes; none at the end. Raises TimeExhausted, httpcore.ReadError."""
        self._socket.settimeout(self._deadline.get_remaining_s())
        try:
            return self._socket.recv(max_bytes)
        except TimeoutError:
            raise TimeExhausted from None
        except OSError as error:
            raise httpcore.ReadError(type(error).__name__) from None

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all bytes. Raises TimeExhausted, httpcore.WriteError."""
        rest = memoryview(buffer)
        while rest:
            self._socket.settimeout(self._deadline.get_remaining_s())
            try:
                rest = rest[self._socket.send(rest[:SEND_BYTES_MAX]) :]
            except TimeoutError:
                raise TimeExhausted from None
            except OSError as error:
                raise httpcore.WriteError(type(error).__name__) from None

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Return the connection with TLS, verified for the host of the URL.

        Raises: TimeExhausted, httpcore.ConnectError.
        """
        try:
            self._socket.settimeout(self._deadline.get_remaining_s())
            return CheckedStream(ssl_context.wrap_socket(self._socket, server_hostname=server_hostname), self._deadline)
        except TimeoutError:
            self.close()
            raise TimeExhausted from None
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise httpcore.ConnectError(f"TLS: {error.verify_message}") from None
        except (OSError, ValueError) as error:
            self.close()
            raise httpcore.ConnectError(f"TLS: {type(error).__name__}") from None

    def get_extra_info(self, info: str) -> Any:
        """Return the TLS object, which names the negotiated protocol; None for anything else."""
        return self._socket if info == "ssl_object" and isinstance(self._socket, ssl.SSLSocket) else None
