"""The ASGI application: admits, matches, calls the server and answers. One object for each gateway process.

The order is fixed, from cheap to costly: limits, route, headers, body, credentials, call.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
from starlette.types import Receive, Scope, Send

from storekeep.console.app import Console
from storekeep.console.feed import LiveStream
from storekeep.gateway.access_log import AccessLog, describe_defect
from storekeep.gateway.addresses import ClientAddresses, get_limit_key
from storekeep.gateway.bodies import HeldBody, discard_body, read_body
from storekeep.gateway.calls import Calls, Reply
from storekeep.gateway.client_limits import ClientLimits
from storekeep.gateway.config import Settings
from storekeep.gateway.connections import ConnectionLimits
from storekeep.gateway.consoles import build_console, list_headers
from storekeep.gateway.credentials import DROP_REASONS, Credentials
from storekeep.gateway.errors import (
    HEADERS_TOO_LARGE,
    INTERNAL,
    METHOD_NOT_ALLOWED,
    OVERLOADED,
    TOO_LARGE,
    TOO_SLOW,
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
    PRIVATE,
    REPLAYED_KEY,
    REVALIDATE,
    VARY,
    RequestHeaders,
    compress,
    format_etag,
    mark_compressed,
)
from storekeep.gateway.invalid_json import InvalidJson
from storekeep.gateway.json_depth import check_depth
from storekeep.gateway.metrics import Metrics
from storekeep.gateway.pages import Pages
from storekeep.gateway.replies import Replies, ReplyNotRead
from storekeep.gateway.routes import Match, Route, Router
from storekeep.gateway.streams import EVENT_STREAM, NDJSON, Reopen, StreamFormat, resume, write_stream
from storekeep.gateway.transcoding import Transcoder, build_transcoders

NO_ROUTE = "none"
LOGGED_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
"""Any other method is text that a client chose."""
FORM_FRAMING_BYTES = 64 * 1024
"""Bytes of a form of the console beyond the limit of a body: the fields beside a file of the greatest size."""
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
    replies: Replies
    route: str = NO_ROUTE
    ends_s: float = 0.0
    """When the call of the server has to end, on the monotonic clock."""
    status: int = 0
    reason: str = ""
    extra: list[Header] = field(default_factory=list)

    @property
    def method(self) -> str:
        """The HTTP method."""
        return str(self.scope["method"])

    @property
    def left_s(self) -> float:
        """The time that is left for the call, in seconds: at least a millisecond."""
        return max(0.001, self.ends_s - time.monotonic())

    async def reply(self, status: int, headers: list[Header], body: bytes) -> None:
        """Send the whole reply. HEAD gets the headers only. Raises: ReplyNotRead."""
        self.status = status
        if self.headers.is_compressed(body):
            body = compress(body)
            headers = [*headers, (b"content-encoding", b"gzip")]
        head = [*headers, *self.extra, (b"x-request-id", self.request_id.encode())]
        if status not in (204, NOT_MODIFIED):
            head.append((b"content-length", str(len(body)).encode()))
        await self.send({"type": "http.response.start", "status": status, "headers": head})
        sent = b"" if self.method == "HEAD" else body
        await self.replies.send(self.send, sent, address=get_limit_key(self.address))


class Gateway:
    """The application.

    Args:
        settings: settings.
        calls: the server behind it.
        log: access log.
        routes: routes to serve (default: those of the contract).

    Attributes:
        connections: closes connections of addresses that have too many.
        console: the web console; None if it is off.
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
        self.connections = ConnectionLimits(
            settings.connections_per_address_max, addresses=self._addresses, metrics=self._metrics, log=log
        )
        self._replies = Replies(
            size_max_bytes=settings.replies_size_max_bytes, timeout_s=settings.whole_reply_timeout_s
        )
        self._transcoders = build_transcoders(routes)
        self._router = Router(self._transcoders)
        self._pages = Pages(
            calls,
            self._metrics,
            is_draining=lambda: self.is_draining,
            metrics_public=settings.metrics_public,
            has_start_page=settings.console == "off",
        )
        self.console = build_console(settings, self._limits, log) if settings.console == "on" else None
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
        exchange = Exchange(
            scope, receive, send, headers, headers.find_request_id(), address, time.perf_counter(), self._replies
        )
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
        except ReplyNotRead:
            exchange.reason = TOO_SLOW.reason
        except Exception as error:  # noqa: BLE001 - the text of an unknown error never leaves the gateway
            defect = describe_defect(error)
            self._log.write("unexpected error", level="error", request_id=exchange.request_id, error=defect)
            if exchange.status == 0:
                text = "internal error; the gateway's log has the details under the request id"
                await self._reply_error(exchange, INTERNAL.make(text))

    async def _reply_error(self, exchange: Exchange, refused: Refused) -> None:
        if exchange.status:
            return
        body, headers = build_error_reply(refused, request_id=exchange.request_id)
        exchange.reason = refused.reason
        if self.console is not None and self._is_page(exchange, self.console):
            if refused.reason == TOO_LARGE.reason and exchange.method == "POST":
                await discard_body(exchange.receive, self._settings)
            status, head, page = self.console.refuse(refused.http_status, str(refused))
            await exchange.reply(status, [*head, *headers], page)
            return
        await exchange.reply(refused.http_status, [JSON_TYPE, *PRIVATE, VARY, *headers], body)

    @staticmethod
    def _is_page(exchange: Exchange, console: Console) -> bool:
        """Return whether a person reads the reply: at a path of the console, or in a browser."""
        path: bytes = exchange.scope["raw_path"]
        is_api = path.startswith(b"/v1/")
        return console.owns(path) or (not is_api and exchange.headers.accepts("text/html"))

    def _finish(self, exchange: Exchange) -> None:
        duration_s = time.perf_counter() - exchange.started_s
        method = exchange.method if exchange.route != NO_ROUTE else ""
        self._metrics.record(method, exchange.route, exchange.status, duration_s)
        if self._settings.access_log == "off":
            return
        self._log.write(
            "request",
            request_id=exchange.request_id,
            method=exchange.method if exchange.method in LOGGED_METHODS else "other",
            route=exchange.route,
            status=exchange.status,
            reason=exchange.reason,
            peer=exchange.address,
            duration_ms=round(duration_s * 1_000, 2),
        )

    async def _dispatch(self, exchange: Exchange) -> None:
        exchange.headers.check_framing()
        exchange.headers.check_host(exchange.scope["http_version"])
        path: bytes = exchange.scope["raw_path"]
        page = self._pages.find(path, peer=exchange.address)
        if page is not None:
            exchange.route = page.path
            if await _answer_options(exchange, {"GET"}):
                return
            _check_method(exchange, {"GET"})
            status, headers, body = await page.build()
            await exchange.reply(status, [*headers, *PRIVATE], body)
            return
        self._check_limits(exchange, path)
        if path == b"*" and exchange.method == "OPTIONS":
            await exchange.reply(204, [(b"allow", b"GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE"), *PRIVATE], b"")
            return
        if self.console is not None and self.console.owns(path):
            await self._serve_console(exchange, self.console)
            return
        match = self._router.match(path)
        if match is None and self.console is not None and exchange.headers.accepts("text/html"):
            await self._serve_console(exchange, self.console)
            return
        if match is None:
            raise UNKNOWN_PATH.make("no such path")
        exchange.route = next(iter(match.routes.values())).template
        if await _answer_options(exchange, set(match.routes)):
            return
        _check_method(exchange, set(match.routes))
        await self._serve(exchange, match)

    def _check_limits(self, exchange: Exchange, path: bytes) -> None:
        """Refuse what costs too much. Raises: Refused."""
        settings = self._settings
        if self.in_flight - self._replies.number > settings.requests_max:
            raise OVERLOADED.make("the gateway has too many requests; retry", retry_s=1)
        if len(path) + len(exchange.scope["query_string"]) > settings.url_size_max_bytes:
            raise URL_TOO_LONG.make(f"the path and the query have more than {settings.url_size_max_bytes} bytes")
        raw = exchange.headers.raw
        if len(raw) > settings.header_count_max:
            raise HEADERS_TOO_LARGE.make(f"the request has more than {settings.header_count_max} headers")
        if sum(len(name) + len(value) for name, value in raw) > settings.header_size_max_bytes:
            raise HEADERS_TOO_LARGE.make(f"the headers have more than {settings.header_size_max_bytes} bytes")

    async def _serve_console(self, exchange: Exchange, console: Console) -> None:
        """Answer a request of the console."""
        exchange.route = "/console"
        address = get_limit_key(exchange.address)
        with self._limits.count_request(address):
            stream = self._open_console_stream(exchange, console)
            if stream is not None:
                await self._write_events(exchange, stream)
                return
            held = HeldBody(self._limits, address)
            try:
                status, headers, body = await console.answer(
                    exchange.method,
                    exchange.scope["raw_path"],
                    exchange.scope["query_string"],
                    list_headers(exchange.headers.raw),
                    read_body=lambda: read_body(
                        exchange.receive, exchange.headers, held, self._settings, framing_bytes=FORM_FRAMING_BYTES
                    ),
                    address=exchange.address,
                )
            finally:
                held.resize(0)
        await exchange.reply(status, headers, body)

    def _open_console_stream(self, exchange: Exchange, console: Console) -> LiveStream | None:
        """Return the live updates of a page of the console; None if the request asks for none."""
        if exchange.method != "GET":
            return None
        return console.open_stream(
            exchange.scope["raw_path"],
            exchange.scope["query_string"],
            list_headers(exchange.headers.raw),
            address=get_limit_key(exchange.address),
            is_over=lambda: self.is_draining,
        )

    async def _write_events(self, exchange: Exchange, stream: LiveStream) -> None:
        """Write server-sent events until they end or the client leaves."""
        head = [(b"content-type", EVENT_STREAM.encode()), *PRIVATE, (b"x-request-id", exchange.request_id.encode())]
        exchange.status = 200

        async def write() -> None:
            async for data in stream:
                await exchange.send({"type": "http.response.body", "body": data, "more_body": True})

        async with contextlib.aclosing(stream):
            await exchange.send({"type": "http.response.start", "status": 200, "headers": [*head, *exchange.extra]})
            await _run_until_disconnect(write(), exchange.receive)
        await exchange.send({"type": "http.response.body", "body": b""})

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
                refused = from_rpc_error(error, route)
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
        route, settings = transcoder.route, self._settings
        longest_s = settings.stream_timeout_s if route.rpc.server_streaming else settings.request_timeout_s
        timeout_s = exchange.headers.get_timeout_s(longest_s=longest_s)
        data = await self._read_request(exchange, transcoder, match, held)
        exchange.ends_s = time.monotonic() + timeout_s
        if route.rpc.server_streaming:
            await self._serve_stream(exchange, transcoder, data, credential)
            return
        reply = await self._call(exchange, route, data, credential=credential)
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
            raise from_invalid_json(error) from None
        request = transcoder.build_request(match.segments, exchange.scope["query_string"], body, headers)
        if transcoder.route.rpc.server_streaming and (last_event_id := headers.get("last-event-id")):
            resume(request, last_event_id)
        data = request.SerializeToString()
        held.resize(len(data))
        return data

    async def _call(self, exchange: Exchange, route: Route, data: bytes, *, credential: str) -> Reply:
        """Call the server; exchange an API key anew, once, if its cached token is no longer valid."""
        plain = exchange.headers.list_metadata(request_id=exchange.request_id, token="")
        while True:
            token = await self._credentials.get_token(credential, metadata=plain)
            metadata = [*plain, ("authorization", f"Bearer {token}")] if token else plain
            try:
                return await self._calls.call(route.path, data, metadata=metadata, timeout_s=exchange.left_s)
            except grpc.aio.AioRpcError as error:
                refused = from_rpc_error(error, route)
                if refused.reason in DROP_REASONS and self._credentials.drop(credential):
                    continue
                if refused.reason == "ETAG_MISMATCH" and exchange.headers.get("if-match") is not None:
                    refused.http_status = PRECONDITION_FAILED
                raise refused from None

    async def _reply_message(self, exchange: Exchange, transcoder: Transcoder, reply: Reply) -> None:
        body, etag = transcoder.build_reply(reply.body)
        headers = [JSON_TYPE, *PRIVATE, VARY]
        if etag and exchange.headers.is_compressed(body):
            etag = mark_compressed(etag)
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
        reopen = self._make_reopen(exchange, transcoder, data, credential)
        self._streams += 1
        try:
            stream = await self._open_stream(exchange, transcoder, data, credential)
            try:
                stream, first = await self._read_first(stream, reopen)
                self._limits.record(get_limit_key(exchange.address), credential, "")
                await self._write_stream(exchange, transcoder, stream, first, reopen)
            finally:
                stream.cancel()
        finally:
            self._streams -= 1

    async def _read_first(self, stream: Any, reopen: Reopen) -> tuple[Any, Any]:
        """Return the stream and its first message; before that, an error has a status of its own.

        Raises: grpc.aio.AioRpcError, Refused.
        """
        try:
            return stream, await stream.read()
        except grpc.aio.AioRpcError as error:
            following = await reopen(error, "")
            if following is None:
                raise
        return following, await following.read()

    async def _open_stream(self, exchange: Exchange, transcoder: Transcoder, data: bytes, credential: str) -> Any:
        """Start the call of a stream. Raises: Refused."""
        plain = exchange.headers.list_metadata(request_id=exchange.request_id, token="")
        token = await self._credentials.get_token(credential, metadata=plain)
        metadata = [*plain, ("authorization", f"Bearer {token}")] if token else plain
        return self._calls.stream(transcoder.route.path, data, metadata=metadata, timeout_s=exchange.left_s)

    def _make_reopen(self, exchange: Exchange, transcoder: Transcoder, data: bytes, credential: str) -> Reopen:
        """Return the function that continues a stream with a new token, after that of its API key has expired."""

        async def reopen(error: grpc.aio.AioRpcError, cursor: str) -> Any:
            if from_rpc_error(error).reason not in DROP_REASONS or not self._credentials.drop(credential):
                return None
            request = transcoder.parse_request(data)
            if cursor:
                resume(request, cursor)
            return await self._open_stream(exchange, transcoder, request.SerializeToString(), credential)

        return reopen

    async def _write_stream(
        self, exchange: Exchange, transcoder: Transcoder, stream: Any, first: Any, reopen: Reopen
    ) -> None:
        as_events = exchange.headers.accepts(EVENT_STREAM)
        kind = EVENT_STREAM if as_events else NDJSON
        head = [(b"content-type", kind.encode()), *PRIVATE, VARY, (b"x-request-id", exchange.request_id.encode())]
        exchange.status = 200
        await exchange.send({"type": "http.response.start", "status": 200, "headers": [*head, *exchange.extra]})

        async def send(data: bytes) -> None:
            await exchange.send({"type": "http.response.body", "body": data, "more_body": True})

        if exchange.method != "HEAD":
            form = StreamFormat(transcoder.output, transcoder.encode, as_events=as_events)
            writing = write_stream(stream, send, first=first, form=form, request_id=exchange.request_id, reopen=reopen)
            await _run_until_disconnect(writing, exchange.receive)
        await exchange.send({"type": "http.response.body", "body": b""})


async def _run_until_disconnect(writing: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Run what writes a stream until it is done or the client leaves."""
    task = asyncio.create_task(writing)
    leaving = asyncio.create_task(_await_disconnect(receive))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in (task, leaving):
            one.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _await_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _allow(methods: set[str]) -> Header:
    all_methods = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    return b"allow", ", ".join(sorted(all_methods)).encode()


async def _answer_options(exchange: Exchange, methods: set[str]) -> bool:
    """Answer OPTIONS with the methods of a path. Return whether the request was one."""
    if exchange.method != "OPTIONS":
        return False
    await exchange.reply(204, [_allow(methods), *PRIVATE], b"")
    return True


def _check_method(exchange: Exchange, methods: set[str]) -> None:
    """Refuse a method that a path does not have. Raises: Refused."""
    method = "GET" if exchange.method == "HEAD" else exchange.method
    if method not in methods:
        raise METHOD_NOT_ALLOWED.make(f"this path has no {exchange.method[:20]}", headers=[_allow(methods)])
