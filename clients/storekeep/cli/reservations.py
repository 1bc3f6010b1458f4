"""`storekeep reservations`: commands that reserve stock until an expiry time."""

from __future__ import annotations

from typing import Annotated

import typer

from storekeep.cli.changes import Clear, build_update
from storekeep.cli.commands import Etag, Label, command, new_group
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.pairs import parse_labels, parse_order_lines
from storekeep.cli.sessions import Session
from storekeep.cli.steps import Step, add_steps
from storekeep.client import Reservation, ReservationLine, ReservationState
from storekeep.client.names import to_location_name, to_reservation_name

COLUMNS = ("name", "state", "reference", "expire_time", "order", "create_time")
LISTING = ResourceListing(
    "List reservations, newest first.",
    example="storekeep reservations list --state active",
    method=lambda session: session.client.inventory.list_reservations,
    columns=COLUMNS,
    filters=("state = ACTIVE", 'reference = "cart-17"'),
    is_time_ordered=True,
    states=lambda: ReservationState,
)
EXAMPLE_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
TTL_MAX_S = 30 * 86_400
"""Maximum lifetime of a reservation in the contract, in seconds."""

STEPS = (
    Step(
        "release",
        "Release reservations, which makes their stock available again.",
        lambda s: s.client.inventory.release_reservation,
    ),
    Step(
        "commit",
        "Commit reservations: remove their units from the stock, as for a sale in another system.",
        lambda s: s.client.inventory.commit_reservation,
    ),
)


Name = Annotated[str, typer.Argument(help="Id or full name.")]
TTL_HELP = "Seconds from now until it expires."
Ttl = Annotated[
    float | None,
    typer.Option("--ttl", min=1, max=TTL_MAX_S, metavar="SECONDS", show_default="15 minutes", help=TTL_HELP),
]
Reference = Annotated[str, typer.Option("--reference", help="Your own reference, such as a cart id.")]


def add_reservations(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(
        app, "reservations", help="Reserve stock until an expiry time.", example="storekeep reservations list"
    )
    reserve = "storekeep reservations reserve --line CHAI-1=2 --ttl 600 --reference cart-17 --unique-reference"
    command(group, "reserve", example=reserve, writes=True)(reserve_stock)
    add_listing(group, LISTING)
    command(group, "show", example=f"storekeep reservations show {EXAMPLE_ID}")(show_reservation)
    update = f"storekeep reservations update {EXAMPLE_ID} --line CHAI-1=3 --line CHAI-2=1 --ttl 900"
    command(group, "update", example=update, writes=True)(update_reservation)
    extend = f"storekeep reservations extend {EXAMPLE_ID} --ttl 600"
    command(group, "extend", example=extend, writes=True)(extend_reservation)
    add_steps(group, STEPS, noun="reservations", example_name=EXAMPLE_ID, to_name=to_reservation_name, columns=COLUMNS)


def reserve_stock(
    session: Session,
    line: Annotated[list[str], typer.Option("--line", metavar="SKU=UNITS", help="May be repeated.")],
    location: Annotated[
        str | None,
        typer.Option(
            "--location", show_default="that of the login, or any", help="Reserve at this location; '' for any."
        ),
    ] = None,
    ttl_s: Ttl = None,
    reference: Reference = "",
    unique_reference: Annotated[
        bool,
        typer.Option(
            "--unique-reference", help="Update the active reservation that was made with this reference and option."
        ),
    ] = False,
    label: Label = None,
) -> None:
    """Reserve stock until an expiry time, all lines or none."""
    reservation = session.client.inventory.reserve_stock(
        parse_order_lines(line),
        location=session.choose_location(location),
        ttl_s=ttl_s,
        reference=reference,
        labels=parse_labels(label or ()),
        unique_reference=unique_reference,
        **session.creation_options,
    )
    session.screen.show_message(reservation)


def show_reservation(session: Session, name: Name) -> None:
    """Show one reservation and its lines."""
    session.screen.show_message(session.client.inventory.get_reservation(to_reservation_name(name)))


def update_reservation(
    session: Session,
    name: Name,
    line: Annotated[
        list[str] | None,
        typer.Option("--line", metavar="SKU=UNITS", help="New lines, which replace the old ones. May be repeated."),
    ] = None,
    location: Annotated[
        str, typer.Option("--location", help="Reserve additional units at this location (default: any).")
    ] = "",
    ttl_s: Annotated[
        float | None, typer.Option("--ttl", min=1, max=TTL_MAX_S, metavar="SECONDS", help=TTL_HELP)
    ] = None,
    reference: Annotated[str | None, typer.Option("--reference", help="Your own reference, such as a cart id.")] = None,
    unique_reference: Annotated[
        bool, typer.Option("--unique-reference", help="Let no other active reservation with it have this reference.")
    ] = False,
    label: Label = None,
    clear: Clear = None,
    etag: Etag = "",
) -> None:
    """Change an active reservation, all changes or none. Units that it still needs stay reserved throughout.

    Labels, if given, replace all existing ones.
    """
    changes, mask = Reservation(name=to_reservation_name(name), etag=etag), list[str]()
    if line or label or clear or unique_reference or reference is not None or ttl_s is None:
        changes, mask = build_update(
            Reservation,
            changes.name,
            etag=etag,
            clear=clear or (),
            lines=[ReservationLine(sku=sku, quantity=units) for sku, units in parse_order_lines(line or ())] or None,
            reference=reference,
            unique_reference=unique_reference or None,
            labels=parse_labels(label) if label else None,
        )
    updated = session.client.inventory.update_reservation(
        changes,
        update_mask=mask,
        ttl_s=ttl_s,
        location=to_location_name(location) if location else "",
        **session.write_options,
    )
    session.screen.show_message(updated)


def extend_reservation(session: Session, name: Name, ttl_s: Ttl = None, etag: Etag = "") -> None:
    """Extend an active reservation."""
    extended = session.client.inventory.extend_reservation(
        to_reservation_name(name), ttl_s=ttl_s, etag=etag, **session.write_options
    )
    session.screen.show_message(extended)
