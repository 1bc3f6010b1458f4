"""`storekeep reservations`: stock that is kept for somebody until an instant."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from storekeep.cli.commands import Etag, command, new_group
from storekeep.cli.inventory import location_name
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.names import full_name
from storekeep.cli.pairs import order_lines
from storekeep.cli.sessions import Session
from storekeep.cli.steps import Step, add_steps

COLUMNS = ("name", "state", "reference", "expire_time", "order", "create_time")
LISTING = ResourceListing(
    "List reservations, newest first.",
    example="storekeep reservations list --filter 'state = ACTIVE'",
    method=lambda session: session.client.inventory.list_reservations,
    columns=COLUMNS,
)
EXAMPLE_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
TTL_MAX_S = 30 * 86_400
"""The most that the contract takes."""

STEPS = (
    Step("release", "Give the stock of reservations back.", lambda s: s.client.inventory.release_reservation),
    Step(
        "commit",
        "Have the stock of reservations leave for good, as for a sale that was made elsewhere.",
        lambda s: s.client.inventory.commit_reservation,
    ),
)

reservation_name = partial(full_name, "reservations")

Name = Annotated[str, typer.Argument(help="Its id or full name.")]
Ttl = Annotated[
    float | None,
    typer.Option(
        "--ttl", min=1, max=TTL_MAX_S, metavar="SECONDS", show_default="15 minutes", help="How long from now."
    ),
]


def add_reservations(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(
        app, "reservations", help="Stock that is kept for somebody.", example="storekeep reservations list"
    )
    reserve = "storekeep reservations reserve --line CHAI-1=2 --ttl 600 --reference cart-17"
    command(group, "reserve", example=reserve, writes=True)(reserve_stock)
    add_listing(group, LISTING)
    command(group, "show", example=f"storekeep reservations show {EXAMPLE_ID}")(show_reservation)
    extend = f"storekeep reservations extend {EXAMPLE_ID} --ttl 600"
    command(group, "extend", example=extend, writes=True)(extend_reservation)
    add_steps(group, STEPS, noun="reservations", example_name=EXAMPLE_ID, to_name=reservation_name, columns=COLUMNS)


def reserve_stock(
    session: Session,
    line: Annotated[list[str], typer.Option("--line", metavar="SKU=UNITS", help="Repeat for several.")],
    location: Annotated[str, typer.Option("--location", help="Where it is kept; the server chooses without.")] = "",
    ttl_s: Ttl = None,
    reference: Annotated[str, typer.Option("--reference", help="Your own word for it, such as a cart's.")] = "",
) -> None:
    """Keep stock for somebody until an instant, all lines or none."""
    reservation = session.client.inventory.reserve_stock(
        order_lines(line),
        location=location_name(location) if location else "",
        ttl_s=ttl_s,
        reference=reference,
        **session.write_options,
    )
    session.screen.show_message(reservation)


def show_reservation(session: Session, name: Name) -> None:
    """Show one reservation with its lines."""
    session.screen.show_message(session.client.inventory.get_reservation(reservation_name(name)))


def extend_reservation(session: Session, name: Name, ttl_s: Ttl = None, etag: Etag = "") -> None:
    """Keep the stock of an active reservation for longer."""
    extended = session.client.inventory.extend_reservation(
        reservation_name(name), ttl_s=ttl_s, etag=etag, **session.write_options
    )
    session.screen.show_message(extended)
