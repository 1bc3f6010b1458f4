"""Commands: what all of them share: the options for connection and output, help that ends in an example.

A command is a function of a `Session` and its own arguments; `command` adds the shared options to those.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from storekeep.cli.screens import OutputClosed
from storekeep.cli.sessions import Session, Settings
from storekeep.client import DEFAULT_TIMEOUT_S, Unauthenticated

P = ParamSpec("P")

PANEL = "Connection and output"

Limit = Annotated[int, typer.Option("--limit", min=0, help="Show at most so many; 0 shows all.")]
Filter = Annotated[str, typer.Option("--filter", help='Only those, as `state = ACTIVE AND display_name : "tea"`.')]
OrderBy = Annotated[str, typer.Option("--order-by", help="Sort by this field; `desc` after it turns it around.")]
Deleted = Annotated[bool, typer.Option("--deleted", help="List deleted ones too.")]
Etag = Annotated[str, typer.Option("--etag", help="Change nothing unless this is the current etag.")]
Yes = Annotated[bool, typer.Option("--yes", help="Really do it; without it, more than one is a dry run.")]

LIMIT = 100
"""Resources that a list shows unless told otherwise: a screen or two, not a million orders."""


def joined(given: str, own: str) -> str:
    """Return the filter that was typed and the command's own, as one.

    What was typed comes first and without parentheses, which it needs none of as AND binds loosest (AIP-160): so the
    positions that the server tells are its own.
    """
    return " AND ".join(term for term in (given.strip() and given, own) if term)


def new_group(
    parent: typer.Typer,
    name: str,
    *,
    help: str,  # noqa: A002 - typer's own word
    example: str,
) -> typer.Typer:
    """Add a group of commands, such as `storekeep products`. `example` is a full command line of one of them."""
    group = typer.Typer(no_args_is_help=True, help=help, epilog=f"Example: {example}")
    parent.add_typer(group, name=name)
    return group


def command(
    group: typer.Typer, name: str, *, example: str, writes: bool = False
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[Concatenate[Session, P], None]]:
    """Register a function as a command of a group. `example` is a full command line; `writes` adds `--dry-run`."""

    def register(action: Callable[Concatenate[Session, P], None]) -> Callable[Concatenate[Session, P], None]:
        group.command(name, epilog=f"Example: {example}")(_with_shared_options(action, writes=writes))
        return action

    return register


def _shared(
    *,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="HOST:PORT",
            show_default="STOREKEEP_ADDRESS, or the login's",
            help="Where the server is, or unix:/path.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout, for programs.", rich_help_panel=PANEL)
    ] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.001, metavar="SECONDS", help="For each call.", rich_help_panel=PANEL)
    ] = DEFAULT_TIMEOUT_S,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file",
            envvar="STOREKEEP_CLI_CA_FILE",
            metavar="PEM",
            help="Trust these certificates: turns TLS on.",
            rich_help_panel=PANEL,
        ),
    ] = None,
    cert_file: Annotated[
        Path | None,
        typer.Option(
            "--cert-file",
            envvar="STOREKEEP_CLI_CERT_FILE",
            metavar="PEM",
            help="The client's certificate (mTLS).",
            rich_help_panel=PANEL,
        ),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            envvar="STOREKEEP_CLI_KEY_FILE",
            metavar="PEM",
            help="The client's private key (mTLS).",
            rich_help_panel=PANEL,
        ),
    ] = None,
    plaintext: Annotated[
        bool,
        typer.Option("--plaintext", help="No TLS, though the server is elsewhere.", rich_help_panel=PANEL),
    ] = False,
) -> None:
    """Hold, by its signature, the options that all commands share."""


def _writing(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Run all of it, show the result, and keep nothing.", rich_help_panel=PANEL)
    ] = False,
) -> None:
    """Hold, by its signature, the options that all changing commands share."""


def _with_shared_options(action: Callable[..., None], *, writes: bool) -> Callable[..., None]:
    own = list(inspect.signature(action, eval_str=True).parameters.values())[1:]
    holders = (_shared, _writing) if writes else (_shared,)
    shared = [
        parameter for holder in holders for parameter in inspect.signature(holder, eval_str=True).parameters.values()
    ]
    names = frozenset(parameter.name for parameter in shared)

    @functools.wraps(action)
    def run(**given: Any) -> None:
        settings = Settings(**{name: given.pop(name) for name in names})
        try:
            with Session(settings) as session:
                action(session, **given)
            sys.stdout.flush()
        except BrokenPipeError:
            raise OutputClosed from None
        except Unauthenticated as error:
            if session.login.api_key:
                raise
            address = session.login.address
            how = f"not logged in at {address}; run: storekeep login --address {address} --api-key-file FILE"
            raise Unauthenticated(how, request_id=error.request_id) from None

    keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    run.__signature__ = inspect.Signature([*keyword_only, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*own, *shared]}
    del run.__wrapped__
    return run
