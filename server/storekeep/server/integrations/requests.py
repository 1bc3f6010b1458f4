"""Outbound requests: one POST or GET over HTTPS, bounded in time and in the bytes of its reply.

It follows no redirect, uses no proxy of the environment, keeps no cookie and verifies TLS. A failure never raises: it
is a `Reply` without a status that says what happened.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpcore
import httpx

from storekeep.server.integrations.addresses import AddressRules, HostNotFound, TargetRefused
from storekeep.server.integrations.connection_pools import CONNECTIONS_MAX, Connection, ConnectionPool
from storekeep.server.integrations.lookups import Lookups, Resolve
from storekeep.server.integrations.streams import CheckedBackend, Deadline, Limits, TimeExhausted

USER_AGENT = "Storekeep-Webhooks"
STATUSES = range(100, 600)
"""Statuses of HTTP (RFC 9110, 15)."""
NO_STATUS = "the reply has no valid status"


@dataclass(frozen=True, slots=True)
class Reply:
    """The outcome of a request.

    Attributes:
        status: the HTTP status; 0 if there is no reply.
        problem: why there is no reply; empty if there is one.
        body: the first bytes of the reply's body, as sent: not decompressed.
        retry_after: the reply's `Retry-After` header; empty without one.
        duration_s: seconds from the start of the request.
    """

    status: int
    problem: str = ""
    body: bytes = b""
    retry_after: str = ""
    duration_s: float = 0.0


def _make_tls(ca_file: Path | None) -> ssl.SSLContext:
    """Return the TLS settings: at least 1.2, and authorities of the system and of the file."""
    tls: ssl.SSLContext = httpx.create_ssl_context(trust_env=False)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        tls.load_verify_locations(ca_file)
    return tls


class Sender:
    """Sends requests. Threads may share it.

    Args:
        rules: the allowed addresses.
        timeout_s: the time limit of a request, from the lookup of its host name to the end of the reply.
        body_max_bytes: how much of a reply's body is read; the rest is never received.
        ca_file: PEM certificates of more authorities to trust; None for the usual ones only.
        resolve: returns the addresses of a host name; None for the system's resolver.
        idle_max: how many connections wait for another request; call `close_stale` now and then unless it is 0.
    """

    def __init__(
        self,
        rules: AddressRules,
        *,
        timeout_s: float,
        body_max_bytes: int,
        ca_file: Path | None = None,
        resolve: Resolve | None = None,
        idle_max: int = CONNECTIONS_MAX,
    ) -> None:
        self._rules = rules
        self._timeout_s = timeout_s
        self._body_max_bytes = body_max_bytes
        self._lookups = Lookups(resolve)
        self._pool = ConnectionPool(idle_max)
        # The usual authorities are read before the first request: it takes 50 ms, and most servers send none.
        self._tls = None if ca_file is None else _make_tls(ca_file)

    def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Reply:
        """Send one POST, and return its reply or what prevented it."""
        return self._try("POST", url, headers=headers, body=body)

    def get(self, url: str) -> Reply:
        """Send one GET, and return its reply or what prevented it."""
        return self._try("GET", url, headers={"user-agent": "Storekeep", "accept": "application/json"}, body=b"")

    def close_stale(self) -> None:
        """Close the idle connections that have waited too long."""
        self._pool.close_stale()

    def close(self) -> None:
        """Close all idle connections. Later requests are sent on connections of their own."""
        self._pool.close()

    def _try(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes) -> Reply:
        start_s = time.monotonic()
        try:
            reply = self._send(method, url, headers=headers, body=body)
        except (TargetRefused, HostNotFound) as error:
            reply = Reply(0, str(error))
        except TimeExhausted:
            reply = Reply(0, f"no complete reply within {self._timeout_s:g} s")
        except httpcore.ConnectError as error:
            reply = Reply(0, f"cannot connect ({error})")
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            reply = Reply(0, f"the connection broke ({type(error).__name__})")
        except ValueError:  # of httpcore, for a status that is not a number, or one of thousands of digits
            reply = Reply(0, NO_STATUS)
        return Reply(reply.status, reply.problem, reply.body, reply.retry_after, time.monotonic() - start_s)

    def _send(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes) -> Reply:
        self._rules.parse_url(url)
        request = _make_request(method, url, headers=headers, body=body)
        deadline = Deadline(self._timeout_s)
        connection = self._pool.take(request.url.origin)
        if connection is not None:
            connection.limits.begin(deadline)
            try:
                return self._exchange(connection, request)
            except httpcore.ConnectionNotAvailable:  # it takes no further requests, or had replied before this one
                pass
            except (httpcore.NetworkError, httpcore.ProtocolError):
                if connection.limits.received_bytes:
                    raise
        # The receiver may have closed the idle connection meanwhile. It knows a repetition by its id.
        return self._exchange(self._connect(request.url.origin, deadline), request)

    def _connect(self, origin: httpcore.Origin, deadline: Deadline) -> Connection:
        """Return a new connection, which connects with its first request."""
        if self._tls is None:
            self._tls = _make_tls(None)
        limits = Limits(deadline)
        backend = CheckedBackend(self._rules, limits, lookups=self._lookups)
        http = httpcore.HTTPConnection(origin, ssl_context=self._tls, http2=True, network_backend=backend)
        return Connection(origin, http, limits)

    def _exchange(self, connection: Connection, request: httpcore.Request) -> Reply:
        """Send a request and return its reply. The connection waits for another one if the reply was read to its end.

        Raises: the errors of `httpcore`, TimeExhausted; TargetRefused, HostNotFound on a new connection.
        """
        try:
            response = connection.http.handle_request(request)
            connection.stream = response.extensions["network_stream"]
            received, is_complete = self._read_start(response)
            response.close()
            if not connection.limits.received_bytes:
                raise httpcore.ConnectionNotAvailable
        except BaseException:
            connection.http.close()
            raise
        if is_complete:
            self._pool.put(connection)
        else:
            connection.http.close()
        if response.status not in STATUSES:
            return Reply(0, NO_STATUS)
        retry_after = httpx.Headers(response.headers).get("retry-after", "")
        return Reply(response.status, "", received, retry_after[:64])

    def _read_start(self, response: httpcore.Response) -> tuple[bytes, bool]:
        """Return the first bytes of the body, and whether they are all.

        A body that breaks off later does not matter: the status has arrived.
        """
        received = bytearray()
        try:
            for chunk in response.iter_stream():
                received += chunk
                if len(received) > self._body_max_bytes:
                    return bytes(received[: self._body_max_bytes]), False
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
            return bytes(received[: self._body_max_bytes]), False
        return bytes(received), True


def _make_request(method: str, url: str, *, headers: Mapping[str, str], body: bytes) -> httpcore.Request:
    """Return a request. Its body has a stated length."""
    parsed = httpx.URL(url)
    target = httpcore.URL(
        scheme=parsed.raw_scheme,
        host=parsed.raw_host,
        port=parsed.port,
        target=parsed.raw_path,
    )
    sent = {"host": parsed.netloc.decode(), "accept": "*/*", "user-agent": USER_AGENT, "accept-encoding": "identity"}
    sent |= headers
    if method == "POST":
        sent["content-length"] = str(len(body))
    return httpcore.Request(method, target, headers=list(sent.items()), content=body)
