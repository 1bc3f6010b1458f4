"""The console as an ASGI application: finds the session and the page, and runs the page in a thread.

The order is fixed: path, origin, body, session, permission, form, form token. No form is parsed in the event loop.
A GET changes nothing, but for the one by which an identity provider sends a person back: it starts a session.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from storekeep.client import CredentialsInvalid, NotAuthenticated, StorekeepError
from storekeep.console import account
from storekeep.console.feed import STREAM_PATH, LiveStream, LiveStreams
from storekeep.console.imports import ImportFiles, ReportError
from storekeep.console.multipart import MULTIPART, parse_multipart
from storekeep.console.rendering import choose_locale, render
from storekeep.console.requests import (
    HTML,
    BadRequest,
    Header,
    Query,
    Reply,
    Request,
    Route,
    Router,
    describe_problem,
    find_status,
)
from storekeep.console.routes import build_routes
from storekeep.console.sessions import Session, Sessions, is_same
from storekeep.console.sign_ins import (
    CALLBACK,
    CREDENTIAL_PAGES,
    NOT_TRIED,
    PASSWORD,
    PROVIDER,
    SIGN_IN,
    SignIns,
    get_field,
    read_cookie,
    show_resume,
)
from storekeep.console.static import read_static
from storekeep.console.threads import Threads
from storekeep.console.uploads import Upload

Form = tuple[dict[str, list[str]], dict[str, Upload]]
"""The fields and the files of a form."""
FIELDS_MAX = 2_000
FORM_BYTES_MAX = 512 * 1024
"""Bytes of a form without a file. It takes 50 ms to decode that much."""
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_UNREADABLE = "The form cannot be read: it is not valid, or has too many fields."
THREADS = 16
"""Pages that are made at once."""
WAITING_MAX = 64
"""Pages that wait for a thread. Further ones are refused."""
SIGN_IN_THREADS = 4
"""Sign-ins that are made at once, in threads of their own: anybody can send them, and they may wait for the server."""
SIGN_INS_WAITING_MAX = 32
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS: tuple[Header, ...] = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
ADVICE = {
    408: "Go back and send the form again.",
    413: "Go back and send less at once. For a larger file, use the command storekeep import, or split the file.",
    429: "Wait a moment, then go back and try again.",
    503: "Wait a moment, then go back and try again.",
}
"""What the person can do about a refusal of the gateway, by HTTP status."""
METHOD_NOT_ALLOWED = 405
NO_STORE: Header = (b"cache-control", b"no-store")


class Limits(Protocol):
    """Limits of sign-ins, which the gateway has for each client address."""

    def admit(self, address: str, credential: str) -> bool:
        """Admit a sign-in, and count it as a failure until `record`; return whether it was counted.

        Raises: BadRequest if the address has sent too many, or too many wrong credentials.
        """

    def record(self, address: str, credential: str, reason: str, *, counted: bool) -> None:
        """Record the outcome of a sign-in, from any thread; the reason is empty if the credential was right."""


class Console:
    """The console of one gateway process.

    Args:
        limits: limits of sign-ins.
        sessions: the sessions.
        sign_ins: starts and ends these sessions.
        report_error: log an unexpected error of a thread, given what failed. Thread-safe.
        seller: name, address and tax number of the shop on invoices, one line each.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        sessions: Sessions,
        sign_ins: SignIns,
        report_error: ReportError,
        seller: Sequence[str] = (),
    ) -> None:
        self._limits = limits
        self._sessions = sessions
        self._sign_ins = sign_ins
        self._imports = ImportFiles(report_error=report_error)
        self._router = Router(build_routes(self._imports, seller=seller))
        self._static = read_static()
        self._pages = Threads(THREADS, waiting_max=WAITING_MAX)
        self._sign_in_threads = Threads(SIGN_IN_THREADS, waiting_max=SIGN_INS_WAITING_MAX)
        # A slow provider delays no password.
        self._provider_threads = Threads(SIGN_IN_THREADS, waiting_max=SIGN_INS_WAITING_MAX)
        self._streams = LiveStreams()

    def owns(self, raw_path: bytes) -> bool:
        """Return whether a path belongs to the console."""
        path = raw_path.decode("latin-1")
        section = path.strip("/").split("/")[0]
        return section in self._router.sections or section in ("sign-in", "sign-out", "password", "static")

    async def answer(
        self,
        method: str,
        raw_path: bytes,
        query: bytes,
        headers: Mapping[str, str],
        *,
        read_body: Callable[[], Awaitable[bytes]],
        address: str,
    ) -> tuple[int, list[Header], bytes]:
        """Return status, headers and body of a request.

        Args:
            headers: headers with names in lower case.
            read_body: read the body, within the limits of the gateway.
            address: address of the client, for the limits.
        """
        path = raw_path.decode("latin-1")
        verb = "GET" if method == "HEAD" else method
        try:
            if verb not in ("GET", "POST"):
                raise BadRequest("This page can only be read or sent.", status=METHOD_NOT_ALLOWED)
            if path.startswith("/static/"):
                return self._answer_static(verb, path)
            body = b""
            if verb == "POST":
                check_origin(headers)
                body = await read_body()
            elif raw_path == STREAM_PATH:  # `open_stream` has refused it
                return _refuse_stream(self._sessions.peek(read_cookie(headers)))
            parsed = Query((name, values[-1]) for name, values in _parse(query, FIELDS_MAX).items())
            if (verb, path) in CREDENTIAL_PAGES:
                reply = await self._answer_public(verb, path, parsed, body, headers, address)
            else:
                reply = await self._pages.run(partial(self._answer_page, verb, path, parsed, body, headers))
        except BadRequest as error:
            reply = _show_error(error)
        allow = [self._list_methods(path)] if reply.status == METHOD_NOT_ALLOWED else []
        return reply.status, [*reply.headers, *HEADERS, NO_STORE, *allow], reply.body

    def _list_methods(self, path: str) -> Header:
        """Return the header `Allow` of a path."""
        methods = {"GET"} if path in self._static else self._router.find("", path)[2] or {"GET", "POST"}
        return b"allow", ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set()))).encode()

    def refuse(self, status: int, text: str) -> tuple[int, list[Header], bytes]:
        """Return the page of a request that the gateway refuses.

        Args:
            text: why it is refused.
        """
        advice = ADVICE.get(status, "")
        reply = _show_error(BadRequest(f"{text[:1].upper()}{text[1:]}. {advice}".rstrip(), status=status))
        return reply.status, [*reply.headers, *HEADERS, NO_STORE], reply.body

    def _answer_static(self, verb: str, path: str) -> tuple[int, list[Header], bytes]:
        """Return status, headers and body of a file. Raises: BadRequest."""
        if path not in self._static:
            raise BadRequest("There is no such file.", status=404)
        if verb != "GET":
            raise BadRequest("A file can only be read.", status=METHOD_NOT_ALLOWED)
        kind, body = self._static[path]
        return (
            200,
            [(b"content-type", kind), (b"cache-control", b"public, max-age=31536000, immutable"), *HEADERS],
            body,
        )

    async def _answer_public(
        self, verb: str, path: str, query: Query, body: bytes, headers: Mapping[str, str], address: str
    ) -> Reply:
        """Try a credential, which counts as wrong until the server has answered. Raises: BadRequest."""
        threads = self._provider_threads if path in (PROVIDER, CALLBACK) else self._sign_in_threads
        form: Mapping[str, Sequence[str]] = {name: [value] for name, value in query.items()}
        if verb == "POST":
            form, _ = await threads.run(partial(parse_form, headers, body))
        credential = _get_credential(form)
        counted = self._limits.admit(address, credential)
        record = partial(self._limits.record, address, credential, counted=counted)
        page = partial(self._sign_ins.try_credential, path, form, headers, record, address=address)
        try:
            return await threads.run(page)
        except BadRequest:
            record(NOT_TRIED)
            raise

    def open_stream(
        self, raw_path: bytes, query: bytes, headers: Mapping[str, str], *, address: str, is_over: Callable[[], bool]
    ) -> LiveStream | None:
        """Return the server-sent events of a page, for the caller to close; None if the path has none, or too many.

        Args:
            address: address of the client, for the limits.
            is_over: return whether the gateway is about to end.
        """
        if raw_path != STREAM_PATH:
            return None
        cookie = read_cookie(headers)
        session = self._sessions.peek(cookie)
        if session is None:
            return None
        try:
            fields = {name: values[-1] for name, values in _parse(query, FIELDS_MAX).items()}
        except BadRequest:
            return None
        cursor = headers.get("last-event-id", "") or fields.get("cursor", "")
        return self._streams.open(
            session,
            address=address,
            cursor=cursor,
            resource=fields.get("resource", ""),
            is_over=lambda: is_over() or self._sessions.peek(cookie) is None,
        )

    def _answer_page(
        self,
        verb: str,
        path: str,
        query: Query,
        body: bytes,
        headers: Mapping[str, str],
    ) -> Reply:
        """Find session and route, and make the page. Raises: BadRequest."""
        read_form = partial(parse_form, headers, body) if verb == "POST" else _parse_nothing
        if path in (SIGN_IN, PROVIDER):
            return self._sign_ins.show(query)
        if path == PASSWORD:
            return account.show_set_password(query["token"])
        cookie = read_cookie(headers)
        route, parameters, methods = self._router.find(verb, path)
        if path == "/sign-out":
            return self._sign_ins.sign_out(verb, read_form()[0], cookie, self._sessions.find(cookie))
        try:
            session = self._find_session(cookie)
        except StorekeepError as error:
            return _show_error(error)
        if session is None and not methods:
            return _show_error(BadRequest("There is no such page.", status=404))
        if session is None:
            form, _ = read_form()
            return self._sign_ins.ask(path if verb == "GET" else "", query, form, resume=path if verb == "POST" else "")
        locale = choose_locale(headers.get("accept-language", ""))
        origin = headers.get("origin", "")
        request = Request(verb, path, parameters, query, {}, session, locale, origin=origin)
        if route is None:
            text = "This page cannot be sent." if methods else "There is no such page."
            return _show_error_inside(request, BadRequest(text, status=METHOD_NOT_ALLOWED if methods else 404))
        if route.permission and not session.may(route.permission):
            name = session.display_name or session.subject
            text = f"You are signed in as {name}, without the permission {route.permission}."
            return _show_error_inside(request, BadRequest(text, status=403))
        form, files = read_form()
        return self._answer_route(replace(request, form=form, files=files), route, cookie)

    def _find_session(self, cookie: str) -> Session | None:
        """Return the session of a cookie with its permissions; None if it has ended. Raises: StorekeepError."""
        session = self._sessions.find(cookie)
        if session is None:
            return None
        try:
            session.refresh_access()
        except NotAuthenticated:
            self._sessions.end(cookie)
            return None
        return session

    def _answer_route(self, request: Request, route: Route, cookie: str) -> Reply:
        """Run the handler of a route, and show its errors."""
        if request.method == "POST" and not is_same(request.field("csrf_token"), request.session.csrf_token):
            return show_resume(request, request.path)
        try:
            return route.handler(request)
        except (StorekeepError, BadRequest) as error:
            if isinstance(error, NotAuthenticated) and not isinstance(error, CredentialsInvalid):
                self._sessions.end(cookie)
                if request.method == "POST":
                    return self._sign_ins.ask("", {}, request.form, resume=request.path)
                return self._sign_ins.ask(request.path, request.query, {}, resume="")
            if route.fallback is None:
                return _show_error_inside(request, error)
            try:
                return route.fallback(replace(request, method="GET", problem=error))
            except (StorekeepError, BadRequest):
                return _show_error_inside(request, error)

    def make_link(self, base: str) -> str:
        """Return a link that signs in once."""
        return self._sign_ins.make_link(base)

    def close(self) -> None:
        """End the threads."""
        self._pages.close()
        self._sign_in_threads.close()
        self._provider_threads.close()
        self._streams.close()
        self._imports.close()
        self._sessions.close()


def check_origin(headers: Mapping[str, str]) -> None:
    """Refuse a form that another site sends.

    Raises: BadRequest.
    """
    site = headers.get("sec-fetch-site")
    origin = headers.get("origin")
    is_foreign = site is not None and site not in ("same-origin", "none")
    if is_foreign or (origin is not None and _get_host(origin) != headers.get("host", "")):
        raise BadRequest("This form was sent by another site.", status=403)


def _get_host(origin: str) -> str | None:
    """Return host and port of an origin; None if it is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def parse_form(headers: Mapping[str, str], body: bytes) -> Form:
    """Return the fields and the files of a form. It takes milliseconds: call it in a thread.

    Raises: BadRequest.
    """
    content_type = headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == MULTIPART:
        return parse_multipart(content_type, body)
    if kind != "application/x-www-form-urlencoded":
        raise BadRequest("A form must be sent as application/x-www-form-urlencoded.", status=415)
    if len(body) > FORM_BYTES_MAX:
        raise BadRequest("The form is too large.", status=413)
    if not body.isascii() or _BROKEN_ESCAPE.search(body):  # no browser sends it, and it is slow to decode
        raise BadRequest(_UNREADABLE)
    return _parse(body, FIELDS_MAX), {}


def _parse_nothing() -> Form:
    """Return the fields and files of a request without a body."""
    return {}, {}


def _parse(data: bytes, fields_max: int) -> dict[str, list[str]]:
    try:
        return parse_qs(data.decode("utf-8"), keep_blank_values=True, max_num_fields=fields_max, errors="strict")
    except (ValueError, UnicodeDecodeError):
        raise BadRequest(_UNREADABLE) from None


def _get_credential(form: Mapping[str, Sequence[str]]) -> str:
    """Return what a sign-in or a password link presents, as one text for the limits."""
    if "email" in form:
        return f"{get_field(form, 'email').strip().lower()}\n{get_field(form, 'password')}"
    return get_field(form, "api_key").strip() or get_field(form, "token") or get_field(form, "state")


def _refuse_stream(session: Session | None) -> tuple[int, list[Header], bytes]:
    """Return the answer to live updates without a session, or beyond their limits: then the page tries again later."""
    text = b"Sign in first." if session is None else b"Too many live updates are open. Try again later."
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS, NO_STORE]
    return 401 if session is None else 503, headers, text


def _show_error(error: StorekeepError | BadRequest) -> Reply:
    body = render("error.html", title="Not possible", problem=describe_problem(error))
    return Reply(find_status(error), body, [HTML])


def _show_error_inside(request: Request, error: StorekeepError | BadRequest) -> Reply:
    return replace(request, problem=error).page("error-inside.html", title="Not possible")
