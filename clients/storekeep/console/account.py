"""Pages of the own account: password, authenticator app and sessions; and the page that sets a first password."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from urllib.parse import quote, urlencode

import segno
from markupsafe import Markup

from storekeep.client import GetOwnUserResponse, StorekeepError, UserNotFound
from storekeep.console.rendering import render
from storekeep.console.requests import BadRequest, Reply, Request, Route, describe_problem, find_status

PRIVATE_FIELDS = frozenset({"password", "new_password", "repeated", "totp", "totp_secret", "token"})
"""Fields that no page repeats."""
SECRET_BYTES = 20
"""160 bits, the length of the hash, as RFC 4226 recommends."""
ISSUER = "Storekeep"
QR_SCALE = 5


def show_set_password(token: str, *, problem: StorekeepError | BadRequest | None = None) -> Reply:
    """Return the page that sets a password with the token of a link."""
    if not token and problem is None:
        problem = BadRequest("This link is not complete. Copy all of it.")
    shown = describe_problem(problem)
    body = render("set-password.html", title="Set your password", token=token, problem=shown)
    return Reply(200 if problem is None else find_status(problem), body)


def show_account(request: Request) -> Reply:
    """Show the account of the signed-in user. Raises: StorekeepError."""
    return _show(request, codes=())


def _show(request: Request, *, codes: Sequence[str]) -> Reply:
    own = _find_own(request)
    if own is None:
        return request.page("own-account.html", title="Your account", user=None, codes=())
    is_setting_up = request.query["totp"] == "new" or bool(request.field("totp_secret"))
    secret = ""
    if is_setting_up and not own.user.totp_enabled:
        secret = request.field("totp_secret") or _generate_secret()
    return request.page(
        "own-account.html",
        title="Your account",
        user=own.user,
        sessions=own.sessions,
        current_session=own.current_session,
        codes=codes,
        totp_secret=secret,
        qr=draw_qr(secret, email=own.user.email) if secret else "",
    )


def _find_own(request: Request) -> GetOwnUserResponse | None:
    """Return the signed-in user; None for a program."""
    try:
        return request.session.client.users.get_own_user()
    except UserNotFound:
        return None


def _generate_secret() -> str:
    return base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode()


def draw_qr(secret: str, *, email: str) -> Markup:
    """Return the QR code of an authenticator app as SVG, which needs no style of its own."""
    label = quote(f"{ISSUER}:{email}")
    uri = f"otpauth://totp/{label}?{urlencode({'secret': secret, 'issuer': ISSUER})}"
    svg = segno.make(uri, error="m").svg_inline(scale=QR_SCALE, dark="#000", light="#fff", title="QR code of the key")
    return Markup(svg)  # noqa: S704 - drawn here, from squares


def change_password(request: Request) -> Reply:
    """Change the password. Raises: StorekeepError, BadRequest."""
    new_password = _get(request, "new_password")
    if new_password != _get(request, "repeated"):
        raise BadRequest("The two new passwords differ.")
    request.session.client.users.change_password(_get(request, "password"), new_password)
    return request.done("/account", "Your password is changed. Your other sessions have ended.")


def enable_totp(request: Request) -> Reply:
    """Set up an authenticator app, and show the recovery codes once. Raises: StorekeepError."""
    codes = request.session.client.users.enable_totp(
        _get(request, "password"), totp_secret=request.field("totp_secret"), code=request.field("totp")
    )
    return _show(request, codes=codes)


def disable_totp(request: Request) -> Reply:
    """Remove the authenticator app. Raises: StorekeepError."""
    request.session.client.users.disable_totp(_get(request, "password"), code=request.field("totp"))
    return request.done("/account", "The app is removed.")


def end_session(request: Request) -> Reply:
    """End another session of the user. Raises: StorekeepError."""
    ended = request.session.client.users.end_own_sessions(request.field("name"))
    return request.done("/account", "The session has ended." if ended else "The session had ended already.")


def _get(request: Request, name: str) -> str:
    """Return a posted password with its spaces."""
    values = request.form.get(name)
    return values[-1] if values else ""


ROUTES = (
    Route("GET", "/account", show_account),
    Route("POST", "/account/password", change_password, "", show_account),
    Route("POST", "/account/totp", enable_totp, "", show_account),
    Route("POST", "/account/totp/disable", disable_totp, "", show_account),
    Route("POST", "/account/sessions/end", end_session, "", show_account),
)
