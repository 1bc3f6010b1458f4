"""Listings: the `list` command of resources that are listed as they are, without a parent or a filter of their own.

Each resource's module describes its listing as data. A listing that takes more arguments is a function there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import typer

from storekeep.cli.commands import LIMIT, Deleted, Filter, Limit, OrderBy, command
from storekeep.cli.sessions import Session, page_size
from storekeep.client import Listing


@dataclass(frozen=True)
class ResourceListing:
    """A `list` command.

    Attributes:
        help: what it lists, as a sentence.
        example: a full command line.
        method: the client's method, which takes `filter`, `order_by` and `page_size`.
        columns: of the table, by field.
        soft_deletion: whether there is an option `--deleted` that lists deleted ones too.
    """

    help: str
    example: str
    method: Callable[[Session], Callable[..., Listing[Any]]]
    columns: tuple[str, ...]
    soft_deletion: bool = False


def add_listing(group: typer.Typer, listing: ResourceListing) -> None:
    """Add the `list` command to a group."""

    def show(session: Session, limit: int, **query: Any) -> None:
        resources = listing.method(session)(page_size=page_size(limit), **query)
        session.show_listing(resources, columns=listing.columns, limit=limit)

    def list_all(
        session: Session,
        filter: Filter = "",  # noqa: A002 - the contract's word
        order_by: OrderBy = "",
        limit: Limit = LIMIT,
    ) -> None:
        show(session, limit, filter=filter, order_by=order_by)

    def list_with_deleted(
        session: Session,
        filter: Filter = "",  # noqa: A002 - the contract's word
        order_by: OrderBy = "",
        limit: Limit = LIMIT,
        deleted: Deleted = False,
    ) -> None:
        show(session, limit, filter=filter, order_by=order_by, show_deleted=deleted)

    action = list_with_deleted if listing.soft_deletion else list_all
    action.__doc__ = listing.help
    command(group, "list", example=listing.example)(action)
