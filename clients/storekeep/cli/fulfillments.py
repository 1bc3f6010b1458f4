"""`storekeep fulfillments`: commands that ship, deliver and cancel fulfilments."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from storekeep.cli.changes import Clear, build_update
from storekeep.cli.commands import LIMIT, Etag, Filter, Limit, OrderBy, command, new_group
from storekeep.cli.inventory import to_location_name
from storekeep.cli.names import to_child_name
from storekeep.cli.order_options import Parcels, parse_parcels
from storekeep.cli.orders import find_order_name
from storekeep.cli.sessions import Session, compute_page_size
from storekeep.cli.steps import Step, add_steps
from storekeep.client import Fulfillment

COLUMNS = ("name", "state", "location", "carrier", "tracking_number", "ship_time", "deliver_time")
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
        app, "fulfillments", help="Show, ship, correct and cancel fulfilments.", example="storekeep fulfillments list"
    )
    listing = "storekeep fulfillments list --filter 'state = PENDING'"
    command(group, "list", example=listing)(list_fulfillments)
    command(group, "show", example=f"storekeep fulfillments show {EXAMPLE}")(show_fulfillment)
    ship = f"storekeep fulfillments ship {EXAMPLE} --carrier Post --tracking P-1234"
    command(group, "ship", example=ship, writes=True)(ship_fulfillment)
    update = f"storekeep fulfillments update {EXAMPLE} --parcel P-1234 --parcel P-1235=https://post.example/P-1235"
    command(group, "update", example=update, writes=True)(update_fulfillment)
    restock = f"storekeep fulfillments restock {EXAMPLE} --reason 'came back: address unknown'"
    command(group, "restock", example=restock, writes=True)(restock_fulfillment)
    add_steps(group, STEPS, noun="fulfillments", example_name=EXAMPLE, to_name=to_fulfillment_name, columns=COLUMNS)


def list_fulfillments(
    session: Session,
    order: Annotated[
        str, typer.Option("--order", help="Only fulfilments of this order: number, id or full name.")
    ] = "",
    filter: Filter = "",  # noqa: A002 - the name in the contract
    order_by: OrderBy = "",
    limit: Limit = LIMIT,
) -> None:
    """List fulfilments, oldest first."""
    parent = find_order_name(session, order) if order else "orders/-"
    listing = session.client.fulfillments.list(
        parent, filter=filter, order_by=order_by, page_size=compute_page_size(limit)
    )
    session.show_listing(listing, columns=COLUMNS, limit=limit)


def show_fulfillment(session: Session, name: Name) -> None:
    """Show one fulfilment and its lines."""
    session.screen.show_message(session.client.fulfillments.get(to_fulfillment_name(name)))


def ship_fulfillment(
    session: Session,
    name: Name,
    carrier: Annotated[str, typer.Option("--carrier", help="Name of the carrier.")] = "",
    tracking: Annotated[str, typer.Option("--tracking", help="Tracking number of the only parcel.")] = "",
    parcel: Parcels = None,
    etag: Etag = "",
) -> None:
    """Mark a fulfilment as shipped. Its units leave the stock."""
    shipped = session.client.fulfillments.ship(
        to_fulfillment_name(name),
        carrier=carrier,
        tracking_number=tracking,
        parcels=parse_parcels(parcel or ()),
        etag=etag,
        **session.write_options,
    )
    session.screen.show_message(shipped)


def update_fulfillment(
    session: Session,
    name: Name,
    carrier: Annotated[str | None, typer.Option("--carrier", help="Name of the carrier.")] = None,
    parcel: Parcels = None,
    clear: Clear = None,
    etag: Etag = "",
) -> None:
    """Change the carrier or the parcels of a fulfilment, also after it is shipped. The parcels replace all others."""
    changes, mask = build_update(
        Fulfillment,
        to_fulfillment_name(name),
        etag=etag,
        clear=clear or (),
        carrier=carrier,
        parcels=parse_parcels(parcel) if parcel else None,
    )
    updated = session.client.fulfillments.update(changes, update_mask=mask, **session.write_options)
    session.screen.show_message(updated)


def restock_fulfillment(
    session: Session,
    name: Name,
    location: Annotated[
        str, typer.Option("--location", help="Where the units came back to (default: where they were shipped from).")
    ] = "",
    reason: Annotated[str, typer.Option("--reason", help="Reason, recorded in the history.")] = "",
    etag: Etag = "",
) -> None:
    """Take the units of a shipped fulfilment back into stock, so that they can be fulfilled again or cancelled."""
    restocked = session.client.fulfillments.restock(
        to_fulfillment_name(name),
        location=to_location_name(location) if location else "",
        reason=reason,
        etag=etag,
        **session.write_options,
    )
    session.screen.show_message(restocked)
