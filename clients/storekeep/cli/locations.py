"""`storekeep locations`: commands for the locations that hold stock."""

from __future__ import annotations

from typing import Annotated

import typer

from storekeep.cli.changes import Clear, build_update
from storekeep.cli.commands import Etag, Label, command, new_group
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.pairs import parse_labels
from storekeep.cli.sessions import Session
from storekeep.cli.steps import Step, add_steps
from storekeep.client import Address, Location
from storekeep.client.names import to_location_name

LOCATION_COLUMNS = ("name", "display_name", "priority", "address", "update_time")
LOCATION_LISTING = ResourceListing(
    "List locations.",
    example="storekeep locations list",
    method=lambda session: session.client.inventory.list_locations,
    columns=LOCATION_COLUMNS,
    filters=('display_name = "North*"', 'update_time > "2026-01-31T00:00:00Z"'),
    soft_deletion=True,
)

PRIORITY_HELP = "Orders take stock from the location with the lowest priority first."

LOCATION_STEPS = (
    Step("delete", "Delete locations; they can be undeleted.", lambda s: s.client.inventory.delete_location),
    Step("undelete", "Restore deleted locations.", lambda s: s.client.inventory.undelete_location),
)


def add_locations(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(
        app, "locations", help="Manage the locations that hold stock.", example="storekeep locations list"
    )
    add_listing(group, LOCATION_LISTING)
    command(group, "show", example="storekeep locations show main")(show_location)
    create = 'storekeep locations create --id north --name "Warehouse North" --city Oslo --country NO'
    command(group, "create", example=create, writes=True, takes_address=True)(create_location)
    update = 'storekeep locations update north --name "Warehouse Nord"'
    command(group, "update", example=update, writes=True, takes_address=True)(update_location)
    add_steps(
        group,
        LOCATION_STEPS,
        noun="locations",
        example_name="north",
        to_name=to_location_name,
        columns=LOCATION_COLUMNS,
    )


def show_location(session: Session, name: Annotated[str, typer.Argument(help="Id or full name.")]) -> None:
    """Show one location."""
    session.screen.show_message(session.client.inventory.get_location(to_location_name(name)))


def create_location(
    session: Session,
    display_name: Annotated[str, typer.Option("--name", help="Display name.")],
    location_id: Annotated[str, typer.Option("--id", help="Its id (default: chosen by the server).")] = "",
    priority: Annotated[int, typer.Option("--priority", min=-1000, max=1000, help=PRIORITY_HELP)] = 0,
    label: Label = None,
    postal_address: Address | None = None,
) -> None:
    """Create a location."""
    location = Location(
        display_name=display_name, priority=priority, address=postal_address, labels=parse_labels(label or ())
    )
    created = session.client.inventory.create_location(location, location_id=location_id, **session.creation_options)
    session.screen.show_message(created)


def update_location(
    session: Session,
    name: Annotated[str, typer.Argument(help="Id or full name.")],
    display_name: Annotated[str | None, typer.Option("--name", help="Display name.")] = None,
    priority: Annotated[int | None, typer.Option("--priority", min=-1000, max=1000, help=PRIORITY_HELP)] = None,
    label: Label = None,
    postal_address: Address | None = None,
    clear: Clear = None,
    etag: Etag = "",
) -> None:
    """Change the given fields of a location. Labels and address, if given, replace the existing ones."""
    changes, mask = build_update(
        Location,
        to_location_name(name),
        etag=etag,
        clear=clear or (),
        display_name=display_name,
        priority=priority,
        labels=parse_labels(label) if label else None,
        address=postal_address,
    )
    session.screen.show_message(
        session.client.inventory.update_location(changes, update_mask=mask, **session.write_options)
    )
