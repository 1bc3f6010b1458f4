"""`storekeep fulfillments`: commands that ship, deliver and cancel fulfilments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from storekeep.cli.changes import Clear, build_update
from storekeep.cli.commands import (
    LIMIT,
    Etag,
    Limit,
    OrderBy,
    State,
    Total,
    command,
    join_filters,
    make_filter_option,
    new_group,
)
from storekeep.cli.order_options import Parcels, parse_parcels
from storekeep.cli.orders import UUID, find_order_name
from storekeep.cli.sessions import Session, compute_page_size
from storekeep.cli.states import build_state_filter
from storekeep.cli.steps import Step, add_steps
from storekeep.cli.texts import ELLIPSIS
from storekeep.cli.times import Since, build_since_filter
from storekeep.client import Fulfillment, FulfillmentNotFound, FulfillmentState
from storekeep.client.names import to_location_name

COLUMNS = ("name", "state", "location", "carrier", "tracking_number", "ship_time", "deliver_time")
Filter = Annotated[str, make_filter_option("state = PENDING", "location = locations/main", "-tracking_number:*")]
EXAMPLE = "SK-00001234"
FULL_EXAMPLE = "SK-00001234/01890a5e-0b3c-7d21-8f6a-2c1b4d5e6f70"

CORRECTABLE = ("PENDING", "SHIPPED", "DELIVERED")
"""The states in which the carrier and the parcels can change."""
FOUND_MAX = 500
"""Maximum number of fulfilments of an order to search."""


def find_fulfillment_name(session: Session, text: str, *, states: Sequence[str] = ()) -> str:
    """Return the resource name of a fulfilment.

    Args:
        text: order and fulfilment, as `ORDER/FULFILLMENT`, or only the order if just one of its fulfilments is in one
            of the states. The order may be given by number, and the fulfilment by the beginning of its id, as a table
            on a narrow terminal shows it.
        states: the states that the command expects, such as `PENDING` (default: any).

    Raises: OrderNotFound; FulfillmentNotFound; typer.BadParameter if the order has several such fulfilments.
    """
    order, separator, fulfillment = text.removeprefix("orders/").partition("/")
    order_name = find_order_name(session, order)
    beginning = fulfillment.removeprefix("fulfillments/").removesuffix(ELLIPSIS)
    if separator and (not beginning or UUID.fullmatch(beginning)):
        return f"{order_name}/fulfillments/{beginning}"
    accepted = () if separator else states
    listing = session.client.fulfillments.list(
        order_name, filter=" OR ".join(f"state = {state}" for state in accepted), page_size=FOUND_MAX
    )
    names = [one.name for one in listing.page().items if one.name.rpartition("/")[2].startswith(beginning)]
    kind = f"{_join_choices(accepted).lower()} fulfilment".strip()
    if len(names) == 1:
        return names[0]
    if not names:
        session.client.orders.get(order_name)  # raises if the order is unknown
        missing = f"{kind} {beginning}".strip()
        raise FulfillmentNotFound(f"order {order} has no {missing}; see storekeep orders show {order}")
    ids = ", ".join(name.rpartition("/")[2] for name in names)
    found = f"{len(names)} {kind}s" + (f" that begin with {beginning}" if beginning else "")
    raise typer.BadParameter(f"order {order} has {found}; add / and one of {ids}")


def _join_choices(words: Sequence[str]) -> str:
    """Return `A, B or C`."""
    return " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def _accept_orders(
    session: Session, method: Callable[..., Fulfillment], *, states: Sequence[str]
) -> Callable[..., Fulfillment]:
    """Wrap a client method so that it also accepts what `find_fulfillment_name` does."""
    return lambda name, **options: method(find_fulfillment_name(session, name, states=states), **options)


STEPS = (
    Step(
        "deliver",
        "Mark shipped fulfilments as delivered.",
        lambda s: _accept_orders(s, s.client.fulfillments.deliver, states=("SHIPPED",)),
    ),
    Step(
        "cancel",
        "Cancel fulfilments that have not shipped.",
        lambda s: _accept_orders(s, s.client.fulfillments.cancel, states=("PENDING",)),
    ),
)

Name = Annotated[
    str, typer.Argument(metavar="ORDER[/FULFILLMENT]", help="Order number and id, or only the order if one fits.")
]
FullName = Annotated[
    str, typer.Argument(metavar="ORDER/FULFILLMENT", help="Order number or id, and the id of the fulfilment.")
]


def add_fulfillments(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(
        app, "fulfillments", help="Show, ship, correct and cancel fulfilments.", example="storekeep fulfillments list"
    )
    listing = "storekeep fulfillments list --state pending"
    command(group, "list", example=listing)(list_fulfillments)
    command(group, "show", example=f"storekeep fulfillments show {FULL_EXAMPLE}")(show_fulfillment)
    ship = f"storekeep fulfillments ship {EXAMPLE} --carrier Post --tracking P-1234"
    command(group, "ship", example=ship, writes=True)(ship_fulfillment)
    update = f"storekeep fulfillments update {FULL_EXAMPLE} --parcel P-1234 --parcel P-1235=https://post.example/P-1235"
    command(group, "update", example=update, writes=True)(update_fulfillment)
    restock = f"storekeep fulfillments restock {EXAMPLE} --reason 'came back: address unknown'"
    command(group, "restock", example=restock, writes=True)(restock_fulfillment)
    add_steps(
        group,
        STEPS,
        noun="fulfillments",
        example_name=EXAMPLE,
        to_name=str,
        columns=COLUMNS,
        show_one=lambda session, fulfillment: session.screen.show_message(fulfillment),
    )


def list_fulfillments(
    session: Session,
    order: Annotated[
        str, typer.Option("--order", help="Only fulfilments of this order: number, id or full name.")
    ] = "",
    state: State = "",
    since: Since = "",
    filter: Filter = "",  # noqa: A002 - the name in the contract
    order_by: OrderBy = "",
    limit: Limit = LIMIT,
    total: Total = False,
) -> None:
    """List fulfilments, oldest first."""
    parent = find_order_name(session, order) if order else "orders/-"
    listing = session.client.fulfillments.list(
        parent,
        filter=join_filters(filter, build_state_filter(state, FulfillmentState), build_since_filter(since)),
        order_by=order_by,
        page_size=compute_page_size(limit),
        include_total_size=total,
    )
    session.show_listing(
        listing,
        columns=COLUMNS,
        limit=limit,
        check_parent=(lambda: session.client.orders.get(parent)) if order else None,
    )


def show_fulfillment(session: Session, name: Name) -> None:
    """Show one fulfilment and its lines."""
    full_name = find_fulfillment_name(session, name)
    session.screen.show_message(session.client.fulfillments.get(full_name))


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
        find_fulfillment_name(session, name, states=("PENDING",)),
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
        find_fulfillment_name(session, name, states=CORRECTABLE),
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
    """Take the units of a shipped or delivered fulfilment back into stock, to be fulfilled again or cancelled."""
    restocked = session.client.fulfillments.restock(
        find_fulfillment_name(session, name, states=("SHIPPED", "DELIVERED")),
        location=to_location_name(location) if location else "",
        reason=reason,
        etag=etag,
        **session.write_options,
    )
    session.screen.show_message(restocked)
