"""`storekeep fulfillments`: commands that ship, deliver and cancel fulfilments."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from storekeep.cli.commands import LIMIT, Etag, Limit, OrderBy, Total, command, make_filter_option, new_group
from storekeep.cli.names import to_child_name
from storekeep.cli.orders import find_order_name
from storekeep.cli.sessions import Session, compute_page_size
from storekeep.cli.steps import Step, add_steps

COLUMNS = ("name", "state", "location", "carrier", "tracking_number", "ship_time", "deliver_time")
Filter = Annotated[str, make_filter_option("state = PENDING", "location = locations/main", "-tracking_number:*")]
EXAMPLE = "01890a5d-ac96-774b-bcce-b302099a8057/01890a5e-0b3c-7d21-8f6a-2c1b4d5e6f70"

STEPS = (
    Step("deliver", "Mark shipped fulfilments as delivered.", lambda s: s.client.fulfillments.deliver),
    Step("cancel", "Cancel fulfilments that have not shipped.", lambda s: s.client.fulfillments.cancel),
)

to_fulfillment_name = partial(to_child_name, "orders", "fulfillments")
Name = Annotated[str, typer.Argument(metavar="ORDER/FULFILLMENT", help="Both ids or the full name.")]


def add_fulfillments(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(
        app, "fulfillments", help="Show, ship, deliver and cancel fulfilments.", example="storekeep fulfillments list"
    )
    listing = "storekeep fulfillments list --filter 'state = PENDING'"
    command(group, "list", example=listing)(list_fulfillments)
    command(group, "show", example=f"storekeep fulfillments show {EXAMPLE}")(show_fulfillment)
    ship = f"storekeep fulfillments ship {EXAMPLE} --carrier Post --tracking P-1234"
    command(group, "ship", example=ship, writes=True)(ship_fulfillment)
    add_steps(group, STEPS, noun="fulfillments", example_name=EXAMPLE, to_name=to_fulfillment_name, columns=COLUMNS)


def list_fulfillments(
    session: Session,
    order: Annotated[
        str, typer.Option("--order", help="Only fulfilments of this order: number, id or full name.")
    ] = "",
    filter: Filter = "",  # noqa: A002 - the name in the contract
    order_by: OrderBy = "",
    limit: Limit = LIMIT,
    total: Total = False,
) -> None:
    """List fulfilments, oldest first."""
    parent = find_order_name(session, order) if order else "orders/-"
    listing = session.client.fulfillments.list(
        parent, filter=filter, order_by=order_by, page_size=compute_page_size(limit), include_total_size=total
    )
    session.show_listing(listing, columns=COLUMNS, limit=limit)


def show_fulfillment(session: Session, name: Name) -> None:
    """Show one fulfilment and its lines."""
    session.screen.show_message(session.client.fulfillments.get(to_fulfillment_name(name)))


def ship_fulfillment(
    session: Session,
    name: Name,
    carrier: Annotated[str, typer.Option("--carrier", help="Name of the carrier.")] = "",
    tracking: Annotated[str, typer.Option("--tracking", help="Tracking number of the carrier.")] = "",
    etag: Etag = "",
) -> None:
    """Mark a fulfilment as shipped. Its units leave the stock."""
    shipped = session.client.fulfillments.ship(
        to_fulfillment_name(name), carrier=carrier, tracking_number=tracking, etag=etag, **session.write_options
    )
    session.screen.show_message(shipped)
