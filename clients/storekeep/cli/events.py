"""`storekeep events`: commands that list, watch and show events."""

from __future__ import annotations

from typing import Annotated

import typer

from storekeep.cli.commands import command, new_group
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.sessions import Session
from storekeep.cli.times import Since, parse_since
from storekeep.client.names import to_event_name

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
    command(group, "tail", example="storekeep events tail --type 'order.*' --since 1h")(watch_events)
    command(group, "show", example="storekeep events show 42")(show_event)


def show_event(session: Session, name: Annotated[str, typer.Argument(help="Number or full name.")]) -> None:
    """Show one event with the resource after the change."""
    session.screen.show_message(session.client.events.get(to_event_name(name)))


def watch_events(
    session: Session,
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Only events of this type, such as order.placed or 'order.*'.")
    ] = None,
    resources: Annotated[
        list[str] | None, typer.Option("--resource", help="Only events of this resource and those in it: orders/ID.")
    ] = None,
    cursor: Annotated[str, typer.Option(help="Start after the event with this cursor.")] = "",
    since: Since = "",
) -> None:
    """Print new events as they happen, until interrupted; with --since, those since then first."""
    if cursor and since:
        raise typer.BadParameter("give either --cursor or --since")
    with session.client.events.watch(
        cursor=cursor, start_time=parse_since(since), event_types=types or (), resources=resources or ()
    ) as events:
        session.screen.show_stream(events, columns=COLUMNS)
