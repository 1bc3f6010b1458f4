"""The ASGI application: admits, matches, calls the server and answers. One object for each gateway process.

The order is fixed, from cheap to costly: limits, route, headers, body, credentials, call.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
from starlette.types import Receive, Scope, Send

from storekeep.gateway.access_log import AccessLog
from storekeep.gateway.addresses import ClientAddresses, get_limit_key
from storekeep.gateway.bodies import HeldBody, read_body
from storekeep.gateway.calls import Calls, Reply
from storekeep.gateway.client_limits import ClientLimits
from storekeep.gateway.config import Settings
from storekeep.gateway.credentials import DROP_REASONS, Credentials
from storekeep.gateway.errors import (
    HEADERS_TOO_LARGE,
    INTERNAL,
    METHOD_NOT_ALLOWED,
    OVERLOADED,
    UNKNOWN_PATH,
    URL_TOO_LONG,
    Header,
    Refused,
    build_error_reply,
    from_invalid_json,
    from_rpc_error,
)
from storekeep.gateway.headers import (
    CLOSE,
    CONSISTENCY_KEY,
    GZIP_BYTES_MIN,
    PRIVATE,
    REPLAYED_KEY,
    REVALIDATE,
    VARY,
    RequestHeaders,
    compress,
    format_etag,
)
from storekeep.gateway.invalid_json import InvalidJson
from storekeep.gateway.json_depth import check_depth
from storekeep.gateway.metrics import Metrics
from storekeep.gateway.pages import Pages
from storekeep.gateway.routes import Match, Route, Router
from storekeep.gateway.streams import EVENT_STREAM, NDJSON, resume, write_stream
from storekeep.gateway.transcoding import Transcoder, build_transcoders

NO_ROUTE = "none"
PRECONDITION_FAILED = 412
NOT_MODIFIED = 304
JSON_TYPE: Header = (b"content-type", b"application/json; charset=utf-8")


@dataclass(slots=True)
class Exchange:
    """One HTTP request and the state of its reply."""

    scope: Scope
    receive: Receive
    send: Send
    headers: RequestHeaders
    request_id: str
    address: str
    started_s: float
    route: str = NO_ROUTE
    status: int = 0
    reason: str = ""
    extra: list[Header] = field(default_factory=list)

    @property
    def method(self) -> str:
        """The HTTP method."""
        return str(self.scope["method"])

    async def reply(self, status: int, headers: list[Header], body: bytes) -> None:
        """Send the whole reply. HEAD gets the headers only."""
        self.status = status
        if len(body) >= GZIP_BYTES_MIN and self.headers.accepts_gzip():
            body = compress(body)
            headers = [*headers, (b"content-encoding", b"gzip")]
        head = [*headers, *self.extra, (b"x-request-id", self.request_id.encode())]
        if status not in (204, NOT_MODIFIED):
            head.append((b"content-length", str(len(body)).encode()))
        await self.send({"type": "http.response.start", "status": status, "headers": head})
        await self.send({"type": "http.response.body", "body": b"" if self.method == "HEAD" else body})


class Gateway:
    """The application.

    Args:
        settings: settings.
        calls: the server behind it.
        log: access log.
        routes: routes to serve (default: those of the contract).

    Attributes:
        in_flight: number of requests that are being answered.
        is_draining: whether the process is about to end.
    """

    def __init__(
        self, settings: Settings, *, calls: Calls, log: AccessLog, routes: Iterable[Route] | None = None
    ) -> None:
        self._settings = settings
        self._calls = calls
        self._log = log
        self._metrics = Metrics()
        self._credentials = Credentials(calls, settings)
        self._addresses = ClientAddresses(settings.trusted_proxies)
        self._limits = ClientLimits(settings)
        self._transcoders = build_transcoders(routes)
        self._router = Router(self._transcoders)
        self._pages = Pages(
            calls,
            self._metrics,
            is_draining=lambda: self.is_draining,
            metrics_public=settings.metrics_public,
        )
        self._streams = 0
        self.in_flight = 0
        self.is_draining = False
        is_secure = settings.tls_certificate_file is not None and settings.hsts_max_age_s > 0
        hsts = (b"strict-transport-security", f"max-age={settings.hsts_max_age_s}".encode())
        self._always: list[Header] = [hsts] if is_secure else []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = RequestHeaders(list(scope["headers"]))
        peer = scope.get("client")
        address = self._addresses.find(peer[0] if peer else "", headers.raw)
        exchange = Exchange(scope, receive, send, headers, headers.find_request_id(), address, time.perf_counter())
        exchange.extra = list(self._always)
        self.in_flight += 1
        self._metrics.in_flight.inc()
        try:
            await self._answer(exchange)
        finally:
            self.in_flight -= 1
            self._metrics.in_flight.dec()
            self._finish(exchange)

    async def _answer(self, exchange: Exchange) -> None:
        try:
            if self.is_draining:
                exchange.extra.append(CLOSE)
            await self._dispatch(exchange)
        except Refused as refused:
            await self._reply_error(exchange, refused)
        except grpc.aio.AioRpcError as error:
            await self._reply_error(exchange, from_rpc_error(error))
        except Exception as error:  # noqa: BLE001 - the text of an unknown error never leaves the gateway
            self._log.write("unexpected error", level="error", request_id=exchange.request_id, error=repr(error))
            if exchange.status == 0:
                text = "internal error; the gateway's log has the details under the request id"
                await self._reply_error(exchange, INTERNAL.make(text))

    async def _reply_error(self, exchange: Exchange, refused: Refused) -> None:
        if exchange.status:
            return
        body, headers = build_error_reply(refused, request_id=exchange.request_id)
        exchange.reason = refused.reason
        await exchange.reply(refused.http_status, [JSON_TYPE, *PRIVATE, VARY, *headers], body)

    def _finish(self, exchange: Exchange) -> None:
        duration_s = time.perf_counter() - exchange.started_s
        method = exchange.method if exchange.route != NO_ROUTE else ""
        self._metrics.record(method, exchange.route, exchange.status, duration_s)
        if self._settings.access_log == "off":
            return
        self._log.write(
            "request",
            request_id=exchange.request_id,
            method=exchange.method[:20],
            route=exchange.route,
            status=exchange.status,
            reason=exchange.reason,
            peer=exchange.address,
            duration_ms=round(duration_s * 1_000, 2),
        )

    async def _dispatch(self, exchange: Exchange) -> None:
        exchange.headers.check_framing()
        path: bytes = exchange.scope["raw_path"]
        page = self._pages.find(path, peer=exchange.address)
        if page is not None:
            exchange.route = page.path
            await _check_method(exchange, {"GET"})
            status, headers, body = await page.build()
            await exchange.reply(status, [*headers, *PRIVATE], body)
            return
        self._check_limits(exchange, path)
        if path == b"*" and exchange.method == "OPTIONS":
            await exchange.reply(204, [(b"allow", b"GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE"), *PRIVATE], b"")
            return
        match = self._router.match(path)
        if match is None:
            raise UNKNOWN_PATH.make("no such path")
        exchange.route = next(iter(match.routes.values())).template
        if exchange.method == "OPTIONS":
            await exchange.reply(204, [_allow(set(match.routes)), *PRIVATE], b"")
            return
        await _check_method(exchange, set(match.routes))
        await self._serve(exchange, match)

    def _check_limits(self, exchange: Exchange, path: bytes) -> None:
        """Refuse what costs too much. Raises: Refused."""
        settings = self._settings
        if self.in_flight > settings.requests_max:
            raise OVERLOADED.make("the gateway has too many requests; retry", retry_s=1)
        if len(path) + len(exchange.scope["query_string"]) > settings.url_size_max_bytes:
            raise URL_TOO_LONG.make(f"the path and the query have more than {settings.url_size_max_bytes} bytes")
        raw = exchange.headers.raw
        if len(raw) > settings.header_count_max:
            raise HEADERS_TOO_LARGE.make(f"the request has more than {settings.header_count_max} headers")
        if sum(len(name) + len(value) for name, value in raw) > settings.header_size_max_bytes:
            raise HEADERS_TOO_LARGE.make(f"the headers have more than {settings.header_size_max_bytes} bytes")

    async def _serve(self, exchange: Exchange, match: Match) -> None:
        """Call the RPC of a route and answer with its reply."""
        route = match.routes["GET" if exchange.method == "HEAD" else exchange.method]
        exchange.route = route.template
        credential = exchange.headers.get_credential()
        address = get_limit_key(exchange.address)
        with self._limits.count_request(address):
            self._limits.admit(address, credential)
            held = HeldBody(self._limits, address)
            try:
                await self._serve_route(exchange, self._transcoders[route], match, credential, held)
            except grpc.aio.AioRpcError as error:
                refused = from_rpc_error(error)
                self._limits.record(address, credential, refused.reason)
                raise refused from None
            except Refused as refused:
                self._limits.record(address, credential, refused.reason)
                raise
            finally:
                held.resize(0)

    async def _serve_route(
        self, exchange: Exchange, transcoder: Transcoder, match: Match, credential: str, held: HeldBody
    ) -> None:
        route = transcoder.route
        timeout_s = exchange.headers.get_timeout_s(longest_s=self._settings.request_timeout_s)
        data = await self._read_request(exchange, transcoder, match, held)
        if route.rpc.server_streaming:
            await self._serve_stream(exchange, transcoder, data, credential)
            return
        reply = await self._call(exchange, route.path, data, credential=credential, timeout_s=timeout_s)
        self._limits.record(get_limit_key(exchange.address), credential, "")
        await self._reply_message(exchange, transcoder, reply)

    async def _read_request(self, exchange: Exchange, transcoder: Transcoder, match: Match, held: HeldBody) -> bytes:
        """Return the request message on the wire. Nothing else of the body is kept.

        Raises: Refused.
        """
        headers = exchange.headers
        raw = await read_body(exchange.receive, headers, held, self._settings)
        body = headers.decompress(raw, size_max_bytes=self._settings.body_size_max_bytes)
        try:
            check_depth(body, self._settings.json_depth_max)
        except InvalidJson as error:
            raise from_invalid_json(error.prefix(transcoder.route.body.strip("*"))) from None
        request = transcoder.build_request(match.segments, exchange.scope["query_string"], body, headers)
        if transcoder.route.rpc.server_streaming and (last_event_id := headers.get("last-event-id")):
            resume(request, last_event_id)
        data = request.SerializeToString()
        held.resize(len(data))
        return data

    async def _call(self, exchange: Exchange, path: str, data: bytes, *, credential: str, timeout_s: float) -> Reply:
        """Call the server; exchange an API key anew, once, if its cached token is no longer valid."""
        ends_s = time.monotonic() + timeout_s
        plain = exchange.headers.list_metadata(request_id=exchange.request_id, token="")
        while True:
            token = await self._credentials.get_token(credential, metadata=plain)
            metadata = [*plain, ("authorization", f"Bearer {token}")] if token else plain
            try:
                left_s = max(0.001, ends_s - time.monotonic())
                return await self._calls.call(path, data, metadata=metadata, timeout_s=left_s)
            except grpc.aio.AioRpcError as error:
                refused = from_rpc_error(error)
                if refused.reason in DROP_REASONS and self._credentials.drop(credential):
                    continue
                if refused.reason == "ETAG_MISMATCH" and exchange.headers.get("if-match") is not None:
                    refused.http_status = PRECONDITION_FAILED
                raise refused from None

    async def _reply_message(self, exchange: Exchange, transcoder: Transcoder, reply: Reply) -> None:
        body, etag = transcoder.build_reply(reply.body)
        headers = [JSON_TYPE, *PRIVATE, VARY]
        if etag:
            headers.append(format_etag(etag))
        if etag and exchange.method in ("GET", "HEAD"):
            headers = [REVALIDATE if name == b"cache-control" else (name, value) for name, value in headers]
            if exchange.headers.matches_none(etag):
                await exchange.reply(NOT_MODIFIED, headers, b"")
                return
        if REPLAYED_KEY in reply.trailers:
            headers.append((b"idempotency-replayed", b"true"))
        if token := reply.trailers.get(CONSISTENCY_KEY):
            headers.append((CONSISTENCY_KEY.encode(), token if isinstance(token, bytes) else token.encode()))
        await exchange.reply(200, headers, body)

    async def _serve_stream(self, exchange: Exchange, transcoder: Transcoder, data: bytes, credential: str) -> None:
        if self._streams >= self._settings.streams_max:
            raise OVERLOADED.make("the gateway has too many streams; retry", retry_s=1)
        as_events = EVENT_STREAM in (exchange.headers.get("accept") or "")
        plain = exchange.headers.list_metadata(request_id=exchange.request_id, token="")
        token = await self._credentials.get_token(credential, metadata=plain)
        metadata = [*plain, ("authorization", f"Bearer {token}")] if token else plain
        stream: Any = self._calls.stream(
            transcoder.route.path,
            data,
            metadata=metadata,
            timeout_s=self._settings.stream_timeout_s,
        )
        self._streams += 1
        try:
            await stream.initial_metadata()
            self._limits.record(get_limit_key(exchange.address), credential, "")
            await self._write_stream(exchange, transcoder, stream, as_events=as_events)
        finally:
            self._streams -= 1
            stream.cancel()

    async def _write_stream(self, exchange: Exchange, transcoder: Transcoder, stream: Any, *, as_events: bool) -> None:
        kind = EVENT_STREAM if as_events else NDJSON
        head = [(b"content-type", kind.encode()), *PRIVATE, VARY, (b"x-request-id", exchange.request_id.encode())]
        exchange.status = 200
        await exchange.send({"type": "http.response.start", "status": 200, "headers": [*head, *exchange.extra]})

        async def send(data: bytes) -> None:
            await exchange.send({"type": "http.response.body", "body": data, "more_body": True})

        if exchange.method != "HEAD":
            writing = asyncio.create_task(
                write_stream(
                    stream,
                    send,
                    encode=transcoder.encode,
                    output=transcoder.output,
                    as_events=as_events,
                    request_id=exchange.request_id,
                )
            )
            leaving = asyncio.create_task(_await_disconnect(exchange.receive))
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            for task in (writing, leaving):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writing
        await exchange.send({"type": "http.response.body", "body": b""})


async def _await_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _allow(methods: set[str]) -> Header:
    all_methods = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    return b"allow", ", ".join(sorted(all_methods)).encode()


async def _check_method(exchange: Exchange, methods: set[str]) -> None:
    """Refuse a method that a path does not have. Raises: Refused."""
    method = "GET" if exchange.method == "HEAD" else exchange.method
    if method not in methods:
        raise METHOD_NOT_ALLOWED.make(f"this path has no {exchange.method[:20]}", headers=[_allow(methods)])
