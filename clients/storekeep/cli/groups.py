"""The first words of the command line, and the modules that define them. Only the module of a run is imported.

The help of the program shows the summaries below, so that it needs no other module. A test compares them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True)
class Source:
    """Where a group of commands, or a single command, is defined.

    Attributes:
        summary: first line of its help.
        module: its module in `storekeep.cli`.
        function: adds it, and perhaps others, to an application.
    """

    summary: str
    module: str
    function: str


SOURCES: Mapping[str, Source] = {
    "login": Source(
        "Store an address with an API key or a session, after verifying them with the server.", "login", "add_login"
    ),
    "logout": Source("Remove the stored login.", "login", "add_login"),
    "whoami": Source("Show the account of the login and its permissions.", "login", "add_login"),
    "products": Source("Manage products. SKUs and prices belong to their variants.", "products", "add_products"),
    "variants": Source("Manage the variants of products: SKUs, prices, options.", "variants", "add_variants"),
    "categories": Source("Manage the category tree of products.", "categories", "add_categories"),
    "stock": Source("Show and change stock levels; list stock movements.", "inventory", "add_inventory"),
    "locations": Source("Manage the locations that hold stock.", "locations", "add_locations"),
    "reservations": Source("Reserve stock until an expiry time.", "reservations", "add_reservations"),
    "customers": Source("Manage customers and their addresses.", "customers", "add_customers"),
    "orders": Source("Place, change and deliver orders.", "orders", "add_orders"),
    "quote": Source("Show what an order would cost now, with discounts and taxes.", "quotes", "add_quote"),
    "quotes": Source("Offer orders at fixed prices, until a time.", "quotes", "add_quotes"),
    "fulfillments": Source("Show, ship, correct and cancel fulfilments.", "fulfillments", "add_fulfillments"),
    "prices": Source("Manage prices for customer groups, quantities and times.", "prices", "add_prices"),
    "zones": Source("Manage tax zones.", "taxes", "add_zones"),
    "taxes": Source("Manage tax rates.", "taxes", "add_taxes"),
    "promotions": Source("Manage promotions: discounts with conditions.", "promotions", "add_promotions"),
    "coupons": Source("Manage coupons of promotions.", "coupons", "add_coupons"),
    "shipping": Source("Manage shipping methods and their prices.", "shipping", "add_shipping"),
    "webhooks": Source("Send events to your own servers over HTTPS.", "webhooks", "add_webhooks"),
    "audit": Source("Read and verify the audit log.", "audit", "add_audit"),
    "events": Source("List the changes of resources.", "events", "add_events"),
    "accounts": Source("Manage the service accounts of programs and administrators.", "accounts", "add_accounts"),
    "users": Source("Manage the people who sign in with a password.", "users", "add_users"),
    "roles": Source("Manage roles, which are named sets of permissions.", "accounts", "add_roles"),
    "keys": Source("Manage the API keys of service accounts.", "keys", "add_keys"),
    "health": Source("Show the status of each service.", "health", "add_health"),
    "api": Source("Call any method of the contract with a request in JSON.", "api", "add_api"),
    "open": Source("Open the web console in the browser, and print the address.", "consoles", "add_consoles"),
    "completion": Source(
        "Print the completion script of a shell: bash, zsh, fish or powershell.", "completion", "add_completion"
    ),
    "import": Source(
        "Import categories, products, prices, coupons, customers, stock and historic orders from CSV files.",
        "imports.commands",
        "add_imports",
    ),
}
"""The first word of a command line -> its source, in the order of the help."""


class LazyCommands(TyperGroup):
    """The commands of `SOURCES`. A command is loaded when it is run; lists show its summary only."""

    _shows_summaries = False

    def get_params(self, ctx: Any) -> Any:
        """Return the options of the program. typer's `--show-completion` ignores the shell that is named after it."""
        return [parameter for parameter in super().get_params(ctx) if parameter.name != "show_completion"]

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        return list(SOURCES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, or in a list a placeholder with its summary; None if there is none."""
        source = SOURCES.get(cmd_name)
        if source is None:
            return None
        if self._shows_summaries:
            return TyperCommand(cmd_name, short_help=source.summary)
        return load_command(cmd_name, source)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the name of the command in `args`, the command and the remaining arguments."""
        self.commands = dict.fromkeys(SOURCES)  # type: ignore[assignment]  # only the names, from which typer suggests
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of the program."""
        with self._show_summaries():
            super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return the commands that begin with `incomplete`."""
        with self._show_summaries():
            return super().shell_complete(ctx, incomplete)

    @contextmanager
    def _show_summaries(self) -> Iterator[None]:
        self._shows_summaries = True
        try:
            yield
        finally:
            self._shows_summaries = False


@cache
def load_command(name: str, source: Source) -> Any:
    """Import the module of a command and return the command, which is built once: that takes some 50 ms."""
    app = typer.Typer(rich_markup_mode=None)
    getattr(import_module(f"storekeep.cli.{source.module}"), source.function)(app)
    return typer.main.get_group(app).commands[name]


def is_shared_option(option: str) -> bool:
    """Return whether every command has an option, such as `--address`."""
    from storekeep.cli.commands import list_shared_options

    return option in list_shared_options()
