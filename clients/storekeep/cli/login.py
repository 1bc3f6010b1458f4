"""`storekeep login`, `logout` and `whoami`: the stored address and API key."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from storekeep.cli.commands import command
from storekeep.cli.files import describe_os_error
from storekeep.cli.logins import remove_login, write_login
from storekeep.cli.sessions import Session
from storekeep.client.files import read_file

ApiKeyFile = Annotated[
    str, typer.Option("--api-key-file", metavar="FILE", help="File with the API key; - reads stdin.")
]


KEY = re.compile(r"sk_[A-Za-z0-9_]+", re.ASCII)
KEY_CHARS_MAX = 4_096
"""Maximum number of characters to read in search of an API key, which has about 60."""


def add_login(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    example = "storekeep login --address 127.0.0.1:50051 --api-key-file var/admin.key"
    command(app, "login", example=example)(log_in)
    command(app, "logout", example="storekeep logout")(log_out)
    command(app, "whoami", example="storekeep whoami")(show_caller)


def log_in(session: Session, api_key_file: ApiKeyFile = "") -> None:
    """Store an address and an API key after verifying them with the server.

    The key comes from --api-key-file, from STOREKEEP_API_KEY, or from a prompt.
    """
    login = dataclasses.replace(session.login, api_key=_read_key(api_key_file))
    with session.open_client(login) as client:
        caller = client.auth.who_am_i()
    path = write_login(login)
    session.screen.show_notice(f"Logged in to {login.address} as {caller.subject}; stored in {path}.")


def log_out(session: Session) -> None:
    """Remove the stored address and API key. To revoke the key itself, use `storekeep keys revoke`."""
    session.screen.show_notice("Logged out." if remove_login() else "There was no login.")


def show_caller(session: Session) -> None:
    """Show the account of the login and its permissions."""
    session.screen.show_message(session.client.auth.who_am_i())


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
        raise typer.BadParameter(f"{path} does not contain an API key: it is not UTF-8") from None


def _check_key(text: str, *, source: str) -> str:
    """Return the API key in a text. Whether it is valid, only the server can tell.

    Raises: typer.BadParameter.
    """
    key = text.strip()
    if not KEY.fullmatch(key):
        raise typer.BadParameter(f"{source} does not contain an API key, which is one line that begins with sk_")
    return key
