"""`storekeep login`, `logout` and `whoami`: the stored address, with an API key or the session of a user."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from storekeep.cli.commands import command
from storekeep.cli.files import describe_os_error
from storekeep.cli.logins import Login, StoredSessions, remove_login, remove_session, write_login
from storekeep.cli.prompts import ask
from storekeep.cli.sessions import Session
from storekeep.client import NotAllowed, NotAuthenticated, PriceNotFound, StoredSession, Storekeep, StorekeepError
from storekeep.client.files import read_file
from storekeep.client.names import to_location_name

ApiKeyFile = Annotated[
    str, typer.Option("--api-key-file", metavar="FILE", help="File with the API key; - reads stdin.")
]


CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
KEY = re.compile(r"sk_[A-Za-z0-9_]+", re.ASCII)
PROGRAM = "storekeep (command line)"
"""How the list of sessions names this program."""
KEY_CHARS_MAX = 4_096
"""Maximum number of characters to read in search of an API key, which has about 60."""


def add_login(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    example = "storekeep login --address 127.0.0.1:50051 --api-key-file var/admin.key"
    command(app, "login", example=example, shows=False)(log_in)
    command(app, "logout", example="storekeep logout", shows=False)(log_out)
    command(app, "whoami", example="storekeep whoami")(show_caller)


def log_in(
    session: Session,
    api_key_file: ApiKeyFile = "",
    email: Annotated[str, typer.Option("--email", help="Sign in as this user, with a password.")] = "",
    password_file: Annotated[
        str, typer.Option("--password-file", metavar="FILE", help="File with the password; - reads stdin.")
    ] = "",
    code: Annotated[
        str | None, typer.Option("--code", help="Code of the authenticator app, or a recovery code; '' for none.")
    ] = None,
    currency_code: Annotated[
        str | None, typer.Option("--currency", help="Default currency, an ISO 4217 code; '' for none.")
    ] = None,
    location: Annotated[str | None, typer.Option("--location", help="Default location; '' for none.")] = None,
    console: Annotated[
        str | None,
        typer.Option("--console", metavar="URL", help="Address of the console, for storekeep open; '' for none."),
    ] = None,
) -> None:
    """Store an address with an API key or a session, after verifying them with the server.

    The key comes from --api-key-file, from STOREKEEP_API_KEY, or from a prompt. With --email, the password and the code
    of the authenticator app come from prompts, and the session is stored. To change only the defaults of an existing
    login, give --currency, --location or --console alone.
    """
    login = session.login
    has_defaults = any(default is not None for default in (currency_code, location, console))
    if email:
        if api_key_file:
            raise typer.BadParameter("--email signs in with a password and --api-key-file with a key: use one of them")
        login = _sign_in(session, email, password_file=password_file, code=code)
    elif api_key_file or not (login.api_key or login.email) or not has_defaults:
        login = dataclasses.replace(login, api_key=_read_key(api_key_file), email="")
    if currency_code is not None:
        login = dataclasses.replace(login, currency_code=_check_currency(currency_code))
    if location is not None:
        login = dataclasses.replace(login, location=location.removeprefix("locations/"))
    if console is not None:
        login = dataclasses.replace(login, console=check_console(console) if console else "")
    with session.open_client(login) as client:
        caller = client.auth.who_am_i()
        if currency_code and login.currency_code:
            _ask_for_currency(client, login.currency_code)
        if location:
            client.inventory.get_location(to_location_name(location))
    path = write_login(login)
    if not login.email:
        remove_session()
    session.screen.show_notice(f"Logged in to {login.address} as {caller.subject}; stored in {path}.")


def log_out(session: Session) -> None:
    """Remove the stored login. The session of a user ends; to revoke an API key, use `storekeep keys revoke`."""
    if session.login.email and not session.login.api_key:
        try:
            own = session.client.users.get_own_user()
            session.client.users.end_own_sessions(own.current_session)
        except NotAuthenticated:  # it has ended already
            pass
        except StorekeepError as error:
            session.screen.show_notice(f"The session goes on at the server until it expires: {error.message}")
    session.screen.show_notice("Logged out." if remove_login() else "There was no login.")


def show_caller(session: Session) -> None:
    """Show the account of the login and its permissions."""
    session.screen.show_message(session.client.auth.who_am_i())


def _sign_in(session: Session, email: str, *, password_file: str, code: str | None) -> Login:
    """Start a session of a user, store it, and return the login.

    Raises: typer.BadParameter, StorekeepError.
    """
    password = _read_password(password_file)
    if code is None:
        is_asked = sys.stdin.isatty() and not password_file
        code = ask("Code of your authenticator app, or Enter without one", optional=True) if is_asked else ""
    login = dataclasses.replace(session.login, api_key="", email=email.strip())
    with session.open_client(dataclasses.replace(login, email="")) as nobody:
        tokens = nobody.users.sign_in(login.email, password, code=code, program=PROGRAM)
    StoredSessions(login).save(StoredSession.from_tokens(tokens))
    return login


def _read_password(source: str) -> str:
    """Return the password of a file, of standard input (`-`) or of a prompt, without the end of its line.

    Raises: typer.BadParameter.
    """
    if source == "-":
        return sys.stdin.readline(KEY_CHARS_MAX).rstrip("\r\n")
    if source:
        return _read_key_file(Path(source)).partition("\n")[0].rstrip("\r")
    if not sys.stdin.isatty():
        raise typer.BadParameter("no password: use --password-file FILE (- for standard input)")
    return str(typer.prompt("Password", hide_input=True, err=True))


def _read_key(source: str) -> str:
    if source == "-":
        return _check_key(sys.stdin.readline(KEY_CHARS_MAX), source="standard input")
    if source:
        return _check_key(_read_key_file(Path(source)), source=source)
    if key := os.environ.get("STOREKEEP_API_KEY"):
        return key
    if not sys.stdin.isatty():
        raise typer.BadParameter("no API key: use --api-key-file FILE (- for standard input), or set STOREKEEP_API_KEY")
    return _check_key(str(typer.prompt("API key", hide_input=True, err=True)), source="the input")


def _read_key_file(path: Path) -> str:
    try:
        return read_file(path).decode()[:KEY_CHARS_MAX]
    except OSError as error:
        raise typer.BadParameter(f"cannot read {path}: {describe_os_error(error)}") from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{path} cannot be used: it is not UTF-8") from None


def check_console(url: str) -> str:
    """Return the address of a console without a slash at the end.

    Raises: typer.BadParameter.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable():
        raise typer.BadParameter(f"{url} is no address of a console, such as https://shop.example")
    return url.rstrip("/")


def _check_currency(text: str) -> str:
    """Return a currency code in upper case. Whether it is one of ISO 4217, `_ask_for_currency` checks.

    Raises: typer.BadParameter.
    """
    code = text.strip().upper()
    if code and not CURRENCY.fullmatch(code):
        raise typer.BadParameter(f"{text!r} is not a currency code of three letters, such as EUR")
    return code


def _ask_for_currency(client: Storekeep, code: str) -> None:
    """Ask the server for a price in a currency, which checks it. Callers that may not read prices learn nothing.

    Raises: UnknownCurrency.
    """
    with suppress(PriceNotFound, NotAllowed):
        client.prices.get_lowest("SKU", code)


def _check_key(text: str, *, source: str) -> str:
    """Return the API key in a text. Whether it is valid, only the server can tell.

    Raises: typer.BadParameter.
    """
    key = text.strip()
    if not KEY.fullmatch(key):
        raise typer.BadParameter(f"{source} does not contain an API key, which is one line that begins with sk_")
    return key
