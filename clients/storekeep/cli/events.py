"""`storekeep events`: commands that list and show events."""

from __future__ import annotations

from typing import Annotated

import typer

from storekeep.cli.commands import command, join_filters, make_filter_option, new_group
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.names import to_event_name
from storekeep.cli.sessions import Session
from storekeep.cli.times import Since, build_since_filter

COLUMNS = ("name", "create_time", "type", "resource", "actor")
LISTING = ResourceListing(
    "List events, oldest first.",
    example="storekeep events list --filter 'type = \"order.*\"' --since 1h",
    method=lambda session: session.client.events.list,
    columns=COLUMNS,
    filters=('type = "order.*"', 'resource = "customers/alfki"'),
    is_time_ordered=True,
)


def add_events(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(app, "events", help="List the changes of resources.", example="storekeep events list")
    add_listing(group, LISTING)
    command(group, "tail", example="storekeep events tail --filter 'type = \"stock_level.*\"'")(follow_events)
    command(group, "show", example="storekeep events show 42")(show_event)


def show_event(session: Session, name: Annotated[str, typer.Argument(help="Number or full name.")]) -> None:
    """Show one event with the resource after the change."""
    session.screen.show_message(session.client.events.get(to_event_name(name)))


def follow_events(
    session: Session,
    filter: Annotated[str, make_filter_option(*LISTING.filters)] = "",  # noqa: A002 - the name in the contract
    cursor: Annotated[str | None, typer.Option(help="Start after the event with this cursor.")] = None,
    since: Since = "",
) -> None:
    """Print new events as they happen, until interrupted; with --since, those since then first."""
    start = "" if cursor is None and since else cursor
    events = session.client.events.follow(cursor=start, filter=join_filters(filter, build_since_filter(since)))
    session.screen.show_stream(events, columns=COLUMNS)
