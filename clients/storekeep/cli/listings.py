"""The `list` command of resources without a parent or extra options.

The module of each resource describes its listing as data. A listing with more options is a function there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from storekeep.cli.commands import LIMIT, Deleted, Limit, OrderBy, Total, command, make_filter_option
from storekeep.cli.sessions import Session, compute_page_size
from storekeep.client import Listing


@dataclass(frozen=True)
class ResourceListing:
    """A `list` command.

    Attributes:
        help: help text, as a sentence.
        example: a full command line.
        method: returns the client method, which takes `filter`, `order_by` and `page_size`.
        columns: fields shown as columns of the table.
        filters: examples for `--filter`.
        soft_deletion: whether the command has the option `--deleted`.
    """

    help: str
    example: str
    method: Callable[[Session], Callable[..., Listing[Any]]]
    columns: tuple[str, ...]
    filters: tuple[str, ...]
    soft_deletion: bool = False


def add_listing(group: typer.Typer, listing: ResourceListing) -> None:
    """Add the `list` command to a group."""

    def show(session: Session, limit: int, total: bool, **query: Any) -> None:
        resources = listing.method(session)(page_size=compute_page_size(limit), include_total_size=total, **query)
        session.show_listing(resources, columns=listing.columns, limit=limit)

    def list_all(
        session: Session,
        filter: str = "",  # noqa: A002 - the name in the contract
        order_by: OrderBy = "",
        limit: Limit = LIMIT,
        total: Total = False,
    ) -> None:
        show(session, limit, total, filter=filter, order_by=order_by)

    def list_with_deleted(
        session: Session,
        filter: str = "",  # noqa: A002 - the name in the contract
        order_by: OrderBy = "",
        limit: Limit = LIMIT,
        total: Total = False,
        deleted: Deleted = False,
    ) -> None:
        show(session, limit, total, filter=filter, order_by=order_by, show_deleted=deleted)

    action = list_with_deleted if listing.soft_deletion else list_all
    action.__annotations__["filter"] = Annotated[str, make_filter_option(*listing.filters)]
    action.__doc__ = listing.help
    command(group, "list", example=listing.example)(action)
