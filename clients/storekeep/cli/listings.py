"""The `list` command of resources without a parent or extra options.

The module of each resource describes its listing as data. A listing with more options is a function there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from storekeep.cli.commands import (
    LIMIT,
    Deleted,
    Limit,
    OrderBy,
    State,
    Total,
    command,
    join_filters,
    make_filter_option,
)
from storekeep.cli.sessions import Session, compute_page_size
from storekeep.cli.states import build_state_filter
from storekeep.cli.times import Since, build_since_filter
from storekeep.cli.translations import Language

if TYPE_CHECKING:
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
        is_time_ordered: whether the command has the option `--since`, for lists that are sorted by time.
        has_languages: whether the command has the option `--language`.
        states: returns the enum of the states, for the option `--state`; None if the resource has none.
    """

    help: str
    example: str
    method: Callable[[Session], Callable[..., Listing[Any]]]
    columns: tuple[str, ...]
    filters: tuple[str, ...]
    soft_deletion: bool = False
    is_time_ordered: bool = False
    has_languages: bool = False
    states: Callable[[], Any] | None = None


def add_listing(group: typer.Typer, listing: ResourceListing) -> None:
    """Add the `list` command to a group, with the options that the resource has."""

    def list_resources(
        session: Session,
        state: State = "",
        since: Since = "",
        filter: str = "",  # noqa: A002 - the name in the contract
        order_by: OrderBy = "",
        limit: Limit = LIMIT,
        total: Total = False,
        deleted: Deleted = False,
        language: Language = "",
    ) -> None:
        states = listing.states() if listing.states is not None else None
        query: dict[str, Any] = {"show_deleted": True} if deleted else {}
        if language:
            query["accept_language"] = language
        resources = listing.method(session)(
            filter=join_filters(filter, build_state_filter(state, states), build_since_filter(since)),
            order_by=order_by,
            page_size=compute_page_size(limit),
            include_total_size=total,
            **query,
        )
        columns = (*listing.columns, "delete_time") if deleted else listing.columns
        session.show_listing(resources, columns=columns, limit=limit)

    list_resources.__annotations__["filter"] = Annotated[str, make_filter_option(*listing.filters)]
    list_resources.__doc__ = listing.help
    options = {
        "state": listing.states,
        "since": listing.is_time_ordered,
        "deleted": listing.soft_deletion,
        "language": listing.has_languages,
    }
    omitted = {name for name, exists in options.items() if not exists}
    command(group, "list", example=listing.example, omitted=omitted)(list_resources)
