"""Outbound requests: one POST over HTTPS, bounded in time and in the bytes of its reply.

It follows no redirect, uses no proxy of the environment, keeps no cookie and verifies TLS. A failure never raises: it
is a `Reply` without a status that says what happened.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpcore
import httpx

from storekeep.server.integrations.addresses import AddressRules, HostNotFound, Resolve, TargetRefused
from storekeep.server.integrations.streams import CheckedBackend, Deadline, TimeExhausted

USER_AGENT = "Storekeep-Webhooks"


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


class Sender:
    """Sends requests. Threads may share it.

    Args:
        rules: the allowed addresses.
        timeout_s: the time limit of a request, from the lookup of its host name to the end of the reply.
        body_max_bytes: how much of a reply's body is read; the rest is never received.
        ca_file: PEM certificates of more authorities to trust; None for the usual ones only.
        resolve: returns the addresses of a host name; None for the system's resolver.
    """

    def __init__(
        self,
        rules: AddressRules,
        *,
        timeout_s: float,
        body_max_bytes: int,
        ca_file: Path | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        self._rules = rules
        self._timeout_s = timeout_s
        self._body_max_bytes = body_max_bytes
        self._resolve = resolve
        self._tls = httpx.create_ssl_context(trust_env=False)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        if ca_file is not None:
            self._tls.load_verify_locations(ca_file)

    def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Reply:
        """Send one request, and return its reply or what prevented it."""
        start_s = time.monotonic()
        try:
            reply = self._post(url, headers=headers, body=body)
        except (TargetRefused, HostNotFound) as error:
            reply = Reply(0, str(error))
        except (TimeExhausted, httpx.TimeoutException):
            reply = Reply(0, f"no complete reply within {self._timeout_s:g} s")
        except (httpcore.ConnectError, httpx.ConnectError) as error:
            reply = Reply(0, f"cannot connect ({error})")
        except (httpcore.NetworkError, httpcore.ProtocolError, httpx.TransportError) as error:
            reply = Reply(0, f"the connection broke ({type(error).__name__})")
        return Reply(reply.status, reply.problem, reply.body, reply.retry_after, time.monotonic() - start_s)

    def _post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Reply:
        self._rules.parse_url(url)
        backend = CheckedBackend(self._rules, Deadline(self._timeout_s), resolve=self._resolve)
        sent = {"user-agent": USER_AGENT, "accept-encoding": "identity", **headers}
        with (
            httpx.Client(transport=_Transport(self._tls, backend), trust_env=False, follow_redirects=False) as client,
            client.stream("POST", url, headers=sent, content=body, timeout=None) as response,
        ):
            received = self._read_start(response)
            return Reply(response.status_code, "", received, response.headers.get("retry-after", "")[:64])

    def _read_start(self, response: httpx.Response) -> bytes:
        """Return the first bytes of the body. A body that breaks off later does not matter: the status has arrived."""
        received = bytearray()
        try:
            for chunk in response.iter_raw():
                received += chunk
                if len(received) >= self._body_max_bytes:
                    break
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, httpx.TransportError):
            pass
        return bytes(received[: self._body_max_bytes])


class _Transport(httpx.BaseTransport):
    """The transport of one request: a connection of its own, closed afterwards."""

    def __init__(self, tls: ssl.SSLContext, backend: CheckedBackend) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls, max_connections=1, max_keepalive_connections=0, http2=True, network_backend=backend
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request, and return the reply as soon as its headers have arrived."""
        response = self._pool.handle_request(
            httpcore.Request(
                method=request.method.encode(),
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
            )
        )
        return httpx.Response(response.status, headers=response.headers, stream=_Body(response))

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()


class _Body(httpx.SyncByteStream):
    """The body of a reply."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        yield from self._response.iter_stream()

    def close(self) -> None:
        """Stop receiving."""
        self._response.close()
