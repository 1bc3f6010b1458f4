"""`storekeep orders`: placed, confirmed, cancelled, and how each came to be."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from storekeep.cli.commands import LIMIT, Etag, Filter, Limit, OrderBy, command, joined, new_group
from storekeep.cli.customers import customer_name
from storekeep.cli.inventory import location_name
from storekeep.cli.names import full_name, quoted
from storekeep.cli.pairs import amount, order_lines
from storekeep.cli.sessions import Session, page_size
from storekeep.cli.steps import Step, add_steps
from storekeep.client import WriteOptions

COLUMNS = ("number", "name", "customer", "state", "total", "create_time", "external_reference")
HISTORY_COLUMNS = ("sequence", "create_time", "method", "from_state", "to_state", "reason", "actor")

STEPS = (Step("confirm", "Agree to deliver placed orders.", lambda s: s.client.orders.confirm),)

order_name = partial(full_name, "orders")


def add_orders(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(app, "orders", help="What customers have ordered.", example="storekeep orders list")
    place = "storekeep orders place --customer ernst --line CHAI-1=2 --line CHAI-2=1 --currency EUR"
    command(group, "place", example=place, writes=True)(place_order)
    command(group, "list", example="storekeep orders list --customer ernst --filter 'state = PLACED'")(list_orders)
    command(group, "show", example="storekeep orders show 01890a5d-ac96-774b-bcce-b302099a8057")(show_order)
    cancel = "storekeep orders cancel 01890a5d-ac96-774b-bcce-b302099a8057 --reason 'ordered by mistake'"
    command(group, "cancel", example=cancel, writes=True)(cancel_order)
    history = "storekeep orders history 01890a5d-ac96-774b-bcce-b302099a8057"
    command(group, "history", example=history)(show_history)
    add_steps(
        group,
        STEPS,
        noun="orders",
        example_name="01890a5d-ac96-774b-bcce-b302099a8057",
        to_name=order_name,
        columns=COLUMNS,
    )


def place_order(
    session: Session,
    customer: Annotated[str, typer.Option("--customer", help="The customer's id or full name.")],
    line: Annotated[list[str], typer.Option("--line", metavar="SKU=UNITS", help="Repeat for several.")],
    currency_code: Annotated[str, typer.Option("--currency", help="ISO 4217: every line is priced in it.")],
    location: Annotated[str, typer.Option("--location", help="Where the stock is taken from; main without.")] = "",
    reference: Annotated[str, typer.Option("--reference", help="Your own number for the order.")] = "",
    note: Annotated[str, typer.Option("--note")] = "",
    shipping: Annotated[str, typer.Option("--shipping", metavar="AMOUNT", help="What sending it costs.")] = "",
    request_id: Annotated[str, typer.Option("--request-id", help="A UUID: repeated, it orders once.")] = "",
) -> None:
    """Place an order: freeze its prices and take its stock, all lines or none."""
    options: WriteOptions = {**session.write_options, "request_id": request_id}
    order = session.client.orders.place(
        customer=customer_name(customer),
        lines=order_lines(line),
        currency_code=currency_code.upper(),
        location=location_name(location) if location else "",
        external_reference=reference,
        note=note,
        shipping=amount(shipping, currency_code=currency_code) if shipping else None,
        **options,
    )
    session.screen.show_message(order)


def list_orders(
    session: Session,
    customer: Annotated[str, typer.Option("--customer", help="Only this customer's.")] = "",
    filter: Filter = "",  # noqa: A002 - the contract's word
    order_by: OrderBy = "",
    limit: Limit = LIMIT,
) -> None:
    """List orders, newest first."""
    own = f"customer = {quoted(customer_name(customer))}" if customer else ""
    listing = session.client.orders.list(filter=joined(filter, own), order_by=order_by, page_size=page_size(limit))
    session.show_listing(listing, columns=COLUMNS, limit=limit)


def show_order(session: Session, name: Annotated[str, typer.Argument(help="Its id or full name.")]) -> None:
    """Show one order with its lines."""
    session.screen.show_message(session.client.orders.get(order_name(name)))


def cancel_order(
    session: Session,
    name: Annotated[str, typer.Argument(help="Its id or full name.")],
    reason: Annotated[str, typer.Option("--reason", help="For whoever reads the history.")] = "",
    etag: Etag = "",
) -> None:
    """Call an order off and give its stock back."""
    cancelled = session.client.orders.cancel(order_name(name), reason=reason, etag=etag, **session.write_options)
    session.screen.show_message(cancelled)


def show_history(
    session: Session,
    name: Annotated[str, typer.Argument(help="Its id or full name.")],
    limit: Limit = LIMIT,
) -> None:
    """Show how an order came to be what it is, oldest change first."""
    listing = session.client.orders.list_history(order_name(name), page_size=page_size(limit))
    session.show_listing(listing, columns=HISTORY_COLUMNS, limit=limit)
