"""`storekeep open`: the web console, or the page of an order, product or customer in it, in the browser."""

from __future__ import annotations

import sys
import webbrowser
from typing import Annotated
from urllib.parse import quote

import typer

from storekeep.cli.commands import command
from storekeep.cli.login import check_console
from storekeep.cli.orders import find_order_name
from storekeep.cli.sessions import Session
from storekeep.client.channels import is_local

LOCAL_CONSOLE = "http://127.0.0.1:8080"
"""The console of a server on this machine, as `make run` starts it."""
PAGES = frozenset({"customers", "orders", "products"})
"""The resources that have pages of their own."""

ConsoleOption = Annotated[
    str,
    typer.Option(
        "--console",
        envvar="STOREKEEP_CLI_CONSOLE",
        metavar="URL",
        show_default=f"that of the login, or {LOCAL_CONSOLE} for a server on this machine",
        help="Address of the console.",
    ),
]


def add_consoles(app: typer.Typer) -> None:
    """Add the command to the command line."""
    command(app, "open", example="storekeep open SK-00001234", shows=False)(open_console)


def open_console(
    session: Session,
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Number of an order, or full name such as products/chai.")
    ] = "",
    console: ConsoleOption = "",
) -> None:
    """Open the web console in the browser, and print the address.

    In a pipe, only print it.
    """
    url = find_console(console, session)
    if not url:
        raise typer.BadParameter(
            "the address of the console is unknown: use --console, or storekeep login --console URL"
        )
    if name:
        url = f"{url}/{_find_page(name, session)}"
    sys.stdout.write(f"{url}\n")
    if sys.stdout.isatty():
        webbrowser.open(url)


def find_console(console: str, session: Session) -> str:
    """Return the address of the console without a slash at the end: of the option or the login; empty if unknown.

    Raises: typer.BadParameter.
    """
    if console:
        return check_console(console)
    return session.login.console or (LOCAL_CONSOLE if is_local(session.login.address) else "")


def _find_page(name: str, session: Session) -> str:
    """Return the path of the page of a resource.

    Raises: OrderNotFound; typer.BadParameter.
    """
    collection, separator, resource_id = name.partition("/")
    if not separator or collection == "orders":
        collection, _, resource_id = session.client.orders.get(find_order_name(session, name)).name.partition("/")
    if collection not in PAGES or not resource_id:
        raise typer.BadParameter(f"{name} has no page; the console has pages of {', '.join(sorted(PAGES))}")
    return f"{collection}/{quote(resource_id, safe='')}"
