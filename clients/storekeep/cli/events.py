"""`storekeep events`: commands that list and show events."""

from __future__ import annotations

from typing import Annotated

import typer

from storekeep.cli.commands import command, new_group
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.names import to_event_name
from storekeep.cli.sessions import Session

LISTING = ResourceListing(
    "List events, oldest first.",
    example="storekeep events list --filter 'type = \"order.*\"' --since 1h",
    method=lambda session: session.client.events.list,
    columns=("name", "create_time", "type", "resource", "actor"),
    filters=('type = "order.*"', 'resource = "customers/alfki"'),
    is_time_ordered=True,
)


def add_events(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(app, "events", help="List the changes of resources.", example="storekeep events list")
    add_listing(group, LISTING)
    command(group, "show", example="storekeep events show 42")(show_event)


def show_event(session: Session, name: Annotated[str, typer.Argument(help="Number or full name.")]) -> None:
    """Show one event with the resource after the change."""
    session.screen.show_message(session.client.events.get(to_event_name(name)))
