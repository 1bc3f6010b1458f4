"""Sign-ins to the console: with a password, an API key, a one-time link or an identity provider; and sign-outs.

A new session always takes the place of the one that the browser had, with a cookie of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Protocol
from urllib.parse import urlencode

from storekeep.client import NotAuthenticated, PasswordLinkInvalid, Storekeep, StorekeepError, TokenSet
from storekeep.console import account
from storekeep.console.provider_sign_ins import COOKIE as PROVIDER_COOKIE
from storekeep.console.provider_sign_ins import LIFETIME_S, PendingSignIn, ProviderSignIns, make_provider_cookie
from storekeep.console.rendering import DEFAULT_LOCALE, format_input, render
from storekeep.console.requests import (
    BadRequest,
    Query,
    Reply,
    Request,
    describe_problem,
    find_status,
    is_own_path,
    quote_segment,
    redirect,
)
from storekeep.console.sessions import OneTimeCodes, Session, Sessions, is_same

COOKIE = "__Host-storekeep"
HIDDEN_FIELDS = {"request_id", "etag", "step", "draft", "expected_total", "shown_address", "for_quote"}
"""Fields of forms that a person does not enter."""
PRIVATE_FIELDS = {"api_key", "code", "csrf_token", *account.PRIVATE_FIELDS}
"""Fields that a page never repeats."""
NOT_TRIED = "NOT_TRIED"
"""The outcome of a sign-in whose credentials the server has not seen."""
PROGRAM_CHARS_MAX = 200
SIGN_IN, PASSWORD, PROVIDER, CALLBACK = "/sign-in", "/password", "/sign-in/provider", "/sign-in/callback"
CREDENTIAL_PAGES = frozenset({("POST", SIGN_IN), ("POST", PASSWORD), ("POST", PROVIDER), ("GET", CALLBACK)})
"""What is sent without a session. To the callback, an identity provider sends people back."""
Form = Mapping[str, Sequence[str]]
Record = Callable[[str], None]
"""Records the outcome of a sign-in: the reason of its error, or an empty text."""


class OpenClient(Protocol):
    """Makes a client of the server."""

    def __call__(self, api_key: str, tokens: TokenSet | None = None) -> Storekeep:
        """Return a client with an API key, or with the tokens of a user; without either, a client for sign-ins."""


class SignIns:
    """The pages that need no session, and the end of a session.

    Args:
        open_client: make a client of the server.
        sessions: the sessions.
        codes: one-time codes of sign-in links.
        read_key: read the API key that a one-time link signs in with; "" if there is none.
        provider: sign-ins by an identity provider; None without one.
    """

    def __init__(
        self,
        *,
        open_client: OpenClient,
        sessions: Sessions,
        codes: OneTimeCodes,
        read_key: Callable[[], str],
        provider: ProviderSignIns | None,
    ) -> None:
        self._open_client = open_client
        self._nobody = open_client("")
        self._sessions = sessions
        self._codes = codes
        self._read_key = read_key
        self._provider = provider

    def make_link(self, base: str) -> str:
        """Return a link that signs in once."""
        return f"{base}{SIGN_IN}?code={quote_segment(self._codes.make())}"

    def try_credential(
        self, path: str, form: Form, headers: Mapping[str, str], record: Record, *, address: str
    ) -> Reply:
        """Answer what is sent to one of `CREDENTIAL_PAGES`. Raises: BadRequest."""
        pages: dict[str, Callable[[Form, Mapping[str, str], Record], Reply]] = {
            SIGN_IN: self._sign_in,
            PASSWORD: self._set_password,
            PROVIDER: partial(self._leave_for_provider, address),
            CALLBACK: self._return_from_provider,
        }
        return pages[path](form, headers, record)

    def show(self, query: Mapping[str, str]) -> Reply:
        """Show the page."""
        code = query.get("code", "")
        is_link = bool(code) and self._codes.is_valid(code)
        problem = None
        if code and not is_link:
            problem = BadRequest("This link has been used or has expired. Sign in with an API key.")
        return self._render(query.get("next", ""), code=code if is_link else "", problem=problem)

    def _render(
        self,
        next_path: str = "",
        *,
        email: str = "",
        notice: str = "",
        notice_url: str = "",
        code: str = "",
        resume: str = "",
        carried: Form | None = None,
        problem: StorekeepError | BadRequest | None = None,
    ) -> Reply:
        body = render(
            "sign-in.html",
            title="Sign in",
            next=next_path if is_own_path(next_path) else "",
            code=code,
            resume=resume,
            carried=carried or {},
            email=email,
            notice=notice,
            notice_url=notice_url,
            provider="" if self._provider is None else self._provider.provider.settings.label,
            problem=describe_problem(problem),
        )
        return Reply(200 if problem is None else find_status(problem), body)

    def ask(self, path: str, query: Mapping[str, str], form: Form, *, resume: str) -> Reply:
        """Ask to sign in, and return to the page afterwards; the page carries the input of a form."""
        if not resume:
            target = path + (f"?{urlencode(query)}" if query else "")
            return redirect("/sign-in" + ("" if target == "/" else f"?next={quote_segment(target)}"))
        carried = {f"kept.{name}": values for name, values in form.items() if name not in PRIVATE_FIELDS}
        problem = BadRequest("Your session has ended. Sign in again: your input is kept.", status=401)
        return self._render(resume=resume, carried=carried, problem=problem)

    def _sign_in(self, form: Form, headers: Mapping[str, str], record: Record) -> Reply:
        """Start a session in place of the one that the browser had."""
        next_path, resume = get_field(form, "next"), get_field(form, "resume")
        rest = {name: values for name, values in form.items() if name.startswith("kept.")}
        reason = NOT_TRIED
        try:
            session, cookie = self._start(form, headers)
            reason = ""
        except (StorekeepError, BadRequest) as error:
            reason = getattr(error, "reason", "") or NOT_TRIED
            return self._render(next_path, resume=resume, carried=rest, problem=error, email=get_field(form, "email"))
        finally:
            record(reason)
        return self._enter(session, cookie, headers, next_path=next_path, resume=resume, carried=rest)

    def _enter(
        self,
        session: Session,
        cookie: str,
        headers: Mapping[str, str],
        *,
        next_path: str,
        resume: str,
        carried: Form,
    ) -> Reply:
        """Set the cookie of a new session in place of the old one, and go on where the person wanted to."""
        self._sessions.end(read_cookie(headers))
        header = (b"set-cookie", f"{COOKIE}={cookie}; Path=/; Secure; HttpOnly; SameSite=Strict".encode())
        if is_own_path(resume):
            form = {name.removeprefix("kept."): values for name, values in carried.items()}
            request = Request("POST", resume, {}, Query(), form, session, DEFAULT_LOCALE)
            reply = show_resume(request, resume)
        else:
            target = next_path if is_own_path(next_path) else "/"
            # A redirect that another site began would not send the cookie, which is SameSite=Strict.
            reply = show_leave(target, "Continue") if session.is_by_provider else redirect(target)
        return replace(reply, headers=[*reply.headers, header])

    def _leave_for_provider(
        self,
        address: str,
        form: Form,
        headers: Mapping[str, str],
        record: Record,
    ) -> Reply:
        """Send a person to the identity provider. Raises: BadRequest."""
        provider = self._require_provider()
        url, cookie = provider.begin(
            read_cookie(headers, PROVIDER_COOKIE),
            address=address,
            previous=read_cookie(headers),
            next_path=get_field(form, "next"),
            resume=get_field(form, "resume"),
            carried={name: values for name, values in form.items() if name.startswith("kept.")},
        )
        record(NOT_TRIED)
        # A page and no redirect: the policy of this site lets no form lead to another one.
        reply = show_leave(url, f"Sign in with {provider.provider.settings.label}")
        return replace(reply, headers=[*reply.headers, make_provider_cookie(cookie, lifetime_s=LIFETIME_S)])

    def _require_provider(self) -> ProviderSignIns:
        """Raises: BadRequest."""
        if self._provider is None:
            raise BadRequest("This console has no identity provider.", status=404)
        return self._provider

    def _return_from_provider(self, form: Form, headers: Mapping[str, str], record: Record) -> Reply:
        """Start the session of a person whom the identity provider has sent back. Raises: BadRequest."""
        provider = self._require_provider()
        pending: PendingSignIn | None = None
        reason = NOT_TRIED
        try:
            pending = provider.take(get_field(form, "state"), read_cookie(headers, PROVIDER_COOKIE))
            parameters = {name: values[-1] for name, values in form.items()}
            tokens = self._nobody.users.sign_in_with_identity_token(
                provider.redeem(pending, parameters), nonce_secret=pending.nonce_secret, program=read_program(headers)
            )
            session, cookie = self._open(self._open_client("", tokens))
            reason = ""
        except (StorekeepError, BadRequest) as error:
            reason = getattr(error, "reason", "") or NOT_TRIED
            if pending is None:
                return self._render(problem=error)
            continuation = pending.continuation
            return self._render(
                continuation.next_path, resume=continuation.resume, carried=continuation.carried, problem=error
            )
        finally:
            record(reason)
        session.is_by_provider = True
        continuation = pending.continuation
        self._sessions.end(continuation.previous)
        return self._enter(
            session,
            cookie,
            headers,
            next_path=continuation.next_path,
            resume=continuation.resume,
            carried=continuation.carried,
        )

    def _start(self, form: Form, headers: Mapping[str, str]) -> tuple[Session, str]:
        """Start a session with a one-time link, an API key or a password. Raises: StorekeepError, BadRequest."""
        if "email" in form:
            tokens = self._nobody.users.sign_in(
                get_field(form, "email").strip(),
                get_field(form, "password"),
                code=get_field(form, "totp").strip(),
                program=read_program(headers),
            )
            client = self._open_client("", tokens)
        else:
            client = self._open_client(self._read_credential(form))
        return self._open(client)

    def _open(self, client: Storekeep) -> tuple[Session, str]:
        """Start a session with a client of the server. Raises: StorekeepError."""
        try:
            caller = client.auth.who_am_i()
        except StorekeepError:
            client.close()
            raise
        cookie, session = self._sessions.start(client, subject=caller.subject)
        session.set_access(caller)
        return session, cookie

    def _read_credential(self, form: Form) -> str:
        """Return the API key to sign in with. Raises: BadRequest."""
        key = get_field(form, "api_key").strip()
        if get_field(form, "code"):
            if not self._codes.use(get_field(form, "code")):
                raise BadRequest("This link has been used or has expired.")
            key = self._read_key()
        if not key:
            raise BadRequest("Enter an API key.")
        return key

    def _set_password(self, form: Form, headers: Mapping[str, str], record: Record) -> Reply:
        """Set a password with the token of a link. A session in this browser ends: it may be of somebody else."""
        token, password = get_field(form, "token"), get_field(form, "new_password")
        reason = NOT_TRIED
        try:
            if password != get_field(form, "repeated"):
                raise BadRequest("The two passwords differ.")
            self._nobody.users.redeem_password_link(token, password)
            reason = ""
        except (StorekeepError, BadRequest) as error:
            reason = getattr(error, "reason", "") or NOT_TRIED
            is_over = isinstance(error, PasswordLinkInvalid)
            return account.show_set_password("" if is_over else token, problem=error)
        finally:
            record(reason)
        self._sessions.end(read_cookie(headers))
        return self._render(notice="Your password is set. Sign in with it.")

    def sign_out(self, verb: str, form: Form, cookie: str, session: Session | None) -> Reply:
        """End this session, or all of this account."""
        if verb != "POST":
            return redirect("/")
        if session is not None and is_same(get_field(form, "csrf_token"), session.csrf_token):
            if get_field(form, "everywhere"):
                _end_everywhere(session)
                self._sessions.end_all(session.subject)
            self._sessions.forget_drafts(session.subject)
            self._sessions.end(cookie)
        header = (b"set-cookie", f"{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0".encode())
        reply = redirect("/sign-in")
        if session is not None and session.is_by_provider and self._provider is not None:
            client = self._provider.provider
            notice = f"You are signed out here, but perhaps not at {client.settings.label}."
            reply = self._render(notice=notice, notice_url=client.find_sign_out_url())
        return replace(reply, headers=[*reply.headers, header])


def read_program(headers: Mapping[str, str]) -> str:
    """Return the browser, as it names itself."""
    return headers.get("user-agent", "")[:PROGRAM_CHARS_MAX]


def read_cookie(headers: Mapping[str, str], cookie: str = COOKIE) -> str:
    """Return the value of a cookie; "" if there is none."""
    for pair in headers.get("cookie", "").split(";"):  # other sites of the domain may set cookies that no parser reads
        name, _, value = pair.strip().partition("=")
        if name == cookie:
            return value
    return ""


def get_field(form: Form, name: str) -> str:
    """Return the last value of a posted field; empty without one."""
    values = form.get(name)
    return values[-1] if values else ""


def _end_everywhere(session: Session) -> None:
    """End all sessions of a user, also those of other gateways and programs."""
    if session.is_person:
        with suppress(NotAuthenticated):
            session.client.users.end_own_sessions()


def show_leave(url: str, text: str) -> Reply:
    """Return a page that leads to another one at once, as a person who follows a link of this site."""
    return Reply(200, render("leave.html", title="One moment", url=url, text=text, problem=None))


def list_input(form: Form) -> list[tuple[str, str]]:
    """Return (label, text) of what a person has entered; a row with one unit and no SKU was not filled in."""
    return [
        (format_input(name), text)
        for name, texts in form.items()
        if name not in HIDDEN_FIELDS and not name.startswith("was.")
        for text in texts
        if text and not (text == "1" and name.startswith("units.") and form.get(f"sku.{name[6:]}") == [""])
    ]


def show_resume(request: Request, path: str) -> Reply:
    """Show the input of a form that was sent with another session, to send it again."""
    carried = {name: values for name, values in request.form.items() if name not in PRIVATE_FIELDS}
    body = render(
        "resume.html",
        title="Continue",
        path=path,
        shown=list_input(carried),
        carried=carried,
        csrf_token=request.session.csrf_token,
        problem=None,
    )
    return Reply(200, body)
