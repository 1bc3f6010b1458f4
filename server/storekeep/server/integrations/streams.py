"""Connections for outbound requests: to checked addresses only, and with one time limit for each request.

Every wait on the socket ends at the same deadline, so a server that sends one byte at a time gains nothing by it.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpcore

from storekeep.server.integrations.addresses import AddressRules
from storekeep.server.integrations.lookups import Lookups

SEND_BYTES_MAX = 64 * 1024
"""Bytes per write, so that the deadline is checked between them."""
RECEIVED_BYTES_MAX = 512 * 1024
"""Bytes of a whole reply, so that an endless head or a flood of frames ends soon."""


class ReplyTooLarge(httpcore.ReadError):
    """The receiver has sent more bytes than any reply needs."""


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


class Limits:
    """What the request that a connection serves now may take.

    Args:
        deadline: when it ends.

    Attributes:
        received_bytes: the bytes that the receiver has sent for it.
    """

    def __init__(self, deadline: Deadline) -> None:
        self.begin(deadline)

    def begin(self, deadline: Deadline) -> None:
        """Start to count for another request."""
        self._deadline = deadline
        self.received_bytes = 0

    def get_remaining_s(self) -> float:
        """Return the seconds until the deadline.

        Raises: TimeExhausted.
        """
        return self._deadline.get_remaining_s()

    def count_received(self, size: int) -> None:
        """Count bytes that the receiver has sent.

        Raises: ReplyTooLarge.
        """
        self.received_bytes += size
        if self.received_bytes > RECEIVED_BYTES_MAX:
            raise ReplyTooLarge


class CheckedBackend(httpcore.NetworkBackend):
    """Resolves a host name, checks its addresses, and connects to the first that answers.

    Args:
        rules: the allowed addresses.
        limits: of the requests on the connection.
        lookups: looks host names up.
    """

    def __init__(self, rules: AddressRules, limits: Limits, *, lookups: Lookups) -> None:
        self._rules = rules
        self._limits = limits
        self._lookups = lookups

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
        addresses = self._rules.resolve(host, self._lookups, timeout_s=self._limits.get_remaining_s())
        for index, address in enumerate(addresses):
            remaining_s = self._limits.get_remaining_s()
            try:
                connected = socket.create_connection((address, port), timeout=remaining_s / (len(addresses) - index))
            except OSError as error:
                problem = error
                continue
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return CheckedStream(connected, self._limits)
        self._limits.get_remaining_s()
        raise httpcore.ConnectError(type(problem).__name__)


class CheckedStream(httpcore.NetworkStream):
    """A connection whose reads and writes end at the deadline of the request."""

    def __init__(self, connected: socket.socket, limits: Limits) -> None:
        self._socket = connected
        self._limits = limits

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return the next bytes; none at the end.

        Raises: TimeExhausted, ReplyTooLarge, httpcore.ReadError.
        """
        self._socket.settimeout(self._limits.get_remaining_s())
        try:
            received = self._socket.recv(max_bytes)
        except TimeoutError:
            raise TimeExhausted from None
        except OSError as error:
            raise httpcore.ReadError(type(error).__name__) from None
        self._limits.count_received(len(received))
        return received

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all bytes.

        Raises: TimeExhausted, httpcore.WriteError.
        """
        rest = memoryview(buffer)
        while rest:
            self._socket.settimeout(self._limits.get_remaining_s())
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
            self._socket.settimeout(self._limits.get_remaining_s())
            return CheckedStream(ssl_context.wrap_socket(self._socket, server_hostname=server_hostname), self._limits)
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
        """Return the TLS object, which names the protocol, or whether there is something to read; else None."""
        if info == "is_readable":
            return self._is_readable()
        return self._socket if info == "ssl_object" and isinstance(self._socket, ssl.SSLSocket) else None

    def _is_readable(self) -> bool:
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        return bool(waiting.poll(0))
