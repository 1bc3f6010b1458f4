"""`storekeep login`, `logout` and `whoami`: as whom the command line calls."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from storekeep.cli.commands import command
from storekeep.cli.logins import remove_login, write_login
from storekeep.cli.sessions import Session

Source = Annotated[
    str, typer.Option("--api-key-file", metavar="FILE", help="Read the API key from this file; - for stdin.")
]


def add_login(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    example = "storekeep login --address 127.0.0.1:50051 --api-key-file var/admin.key"
    command(app, "login", example=example)(log_in)
    command(app, "logout", example="storekeep logout")(log_out)
    command(app, "whoami", example="storekeep whoami")(show_caller)


def log_in(session: Session, api_key_file: Source = "") -> None:
    """Keep an address and an API key, once the server has taken them.

    The key comes from --api-key-file, from STOREKEEP_API_KEY, or from a prompt.
    """
    login = dataclasses.replace(session.login, api_key=_read_key(api_key_file))
    with session.client_of(login) as client:
        caller = client.auth.who_am_i()
    path = write_login(login)
    session.screen.remark(f"Logged in at {login.address} as {caller.subject}; kept in {path}.")


def log_out(session: Session) -> None:
    """Forget the address and API key. The key itself keeps working: see `storekeep keys revoke`."""
    session.screen.remark("Logged out." if remove_login() else "There was no login.")


def show_caller(session: Session) -> None:
    """Show who the server takes you for, and what you may do."""
    session.screen.show_message(session.client.auth.who_am_i())


def _read_key(source: str) -> str:
    if source == "-":
        return sys.stdin.readline().strip()
    if source:
        return _read_key_file(Path(source))
    return os.environ.get("STOREKEEP_API_KEY") or str(typer.prompt("API key", hide_input=True, err=True))


def _read_key_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise typer.BadParameter(f"Cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{path} is no API key: it is not UTF-8") from None
