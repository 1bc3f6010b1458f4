"""`storekeep orders`: placed, changed, delivered, and how each came to be. An order is named by id, name or number."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

import typer

from storekeep.cli import delivery_notes
from storekeep.cli.commands import LIMIT, Etag, Filter, Limit, OrderBy, command, joined, new_group
from storekeep.cli.customers import customer_name
from storekeep.cli.inventory import location_name
from storekeep.cli.names import full_name, quoted
from storekeep.cli.pairs import amount, line_units, order_lines
from storekeep.cli.reservations import reservation_name
from storekeep.cli.sessions import Session, page_size
from storekeep.cli.steps import Step, add_steps
from storekeep.client import Order, WriteOptions

STEP_COLUMNS = ("sequence", "create_time", "method", "from_state", "to_state", "reason", "actor")
HISTORY_COLUMNS = (*STEP_COLUMNS, "changes")
COLUMNS = ("number", "name", "customer", "state", "total", "create_time", "external_reference")
EXAMPLE = "SK-00001234"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Name = Annotated[str, typer.Argument(metavar="ORDER", help="Its number, id or full name.")]
Reason = Annotated[str, typer.Option("--reason", help="For whoever reads the history.")]
Units = Annotated[
    list[str],
    typer.Option("--line", metavar="LINE[=UNITS]", help="Repeat for several; without units, all that is open."),
]


def order_name(session: Session, text: str) -> str:
    """Return the resource name of the order that a number, an id or a name stands for."""
    order_id = text.removeprefix("orders/")
    if not UUID.fullmatch(order_id):
        found = session.client.orders.list(filter=f"number = {quoted(order_id)}", page_size=1)
        for order in found:
            return order.name
    return full_name("orders", text)


def _by_name(session: Session, method: Callable[..., Order]) -> Callable[..., Order]:
    """A client's method that takes an order's number too."""
    return lambda name, **options: method(order_name(session, name), **options)


STEPS = (
    Step("confirm", "Agree to deliver placed orders.", lambda s: _by_name(s, s.client.orders.confirm)),
    Step("resume", "Let held orders go on.", lambda s: _by_name(s, s.client.orders.resume)),
    Step("complete", "Close orders of which all is shipped.", lambda s: _by_name(s, s.client.orders.complete)),
)


def add_orders(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(app, "orders", help="What customers have ordered.", example="storekeep orders list")
    place = "storekeep orders place --customer ernst --line CHAI-1=2 --line CHAI-2=1 --currency EUR"
    command(group, "place", example=place, writes=True)(place_order)
    command(group, "list", example="storekeep orders list --customer ernst --filter 'state = PLACED'")(list_orders)
    command(group, "show", example=f"storekeep orders show {EXAMPLE}")(show_order)
    cancel = f"storekeep orders cancel {EXAMPLE} --reason 'ordered by mistake'"
    command(group, "cancel", example=cancel, writes=True)(cancel_order)
    lines = f"storekeep orders cancel-lines {EXAMPLE} --line 1=2 --line 3 --reason 'sold out'"
    command(group, "cancel-lines", example=lines, writes=True)(cancel_lines)
    edit = f"storekeep orders edit {EXAMPLE} --add CHAI-1=2 --change 1=5 --remove 2 --preview"
    command(group, "edit", example=edit, writes=True)(edit_order)
    hold = f"storekeep orders hold {EXAMPLE} --reason 'a doubtful address'"
    command(group, "hold", example=hold, writes=True)(hold_order)
    fulfill = f"storekeep orders fulfill {EXAMPLE} --line 1=2 --location main"
    command(group, "fulfill", example=fulfill, writes=True)(fulfill_order)
    note = f"storekeep orders note {EXAMPLE} 'Called: wants it on Friday.'"
    command(group, "note", example=note, writes=True)(add_note)
    command(group, "notes", example=f"storekeep orders notes {EXAMPLE}")(list_notes)
    command(group, "history", example=f"storekeep orders history {EXAMPLE}")(show_history)
    add_steps(group, STEPS, noun="orders", example_name=EXAMPLE, to_name=str, columns=COLUMNS)


def place_order(
    session: Session,
    customer: Annotated[str, typer.Option("--customer", help="The customer's id or full name.")],
    line: Annotated[list[str], typer.Option("--line", metavar="SKU=UNITS", help="Repeat for several.")],
    currency_code: Annotated[str, typer.Option("--currency", help="ISO 4217: every line is priced in it.")],
    location: Annotated[str, typer.Option("--location", help="Where all stock is taken from; anywhere without.")] = "",
    reservation: Annotated[str, typer.Option("--reservation", help="Take its stock first: an id or full name.")] = "",
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
        reservation=reservation_name(reservation) if reservation else "",
        **options,
    )
    delivery_notes.show_order(session.screen, order)


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


def show_order(session: Session, name: Name) -> None:
    """Show one order as a delivery note: lines, fulfilments, notes and history. As JSON, the order alone."""
    client, screen = session.client, session.screen
    order = client.orders.get(order_name(session, name))
    delivery_notes.show_order(screen, order)
    if not screen.as_json:
        delivery_notes.show_deliveries(screen, list(client.fulfillments.list(order.name)))
        delivery_notes.show_notes(screen, client.orders.list_notes(order.name))
        session.show_listing(client.orders.list_history(order.name), columns=STEP_COLUMNS, limit=LIMIT)


def cancel_order(session: Session, name: Name, reason: Reason = "", etag: Etag = "") -> None:
    """Call an order off of which nothing was shipped, and give its stock back."""
    order = session.client.orders.cancel(order_name(session, name), reason=reason, etag=etag, **session.write_options)
    delivery_notes.show_order(session.screen, order)


def cancel_lines(session: Session, name: Name, line: Units, reason: Reason = "", etag: Etag = "") -> None:
    """Call off units of some lines and give their stock back."""
    order = session.client.orders.cancel_lines(
        order_name(session, name), line_units(line), reason=reason, etag=etag, **session.write_options
    )
    delivery_notes.show_order(session.screen, order)


def edit_order(
    session: Session,
    name: Name,
    add: Annotated[list[str] | None, typer.Option("--add", metavar="SKU=UNITS", help="A new line.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--change", metavar="LINE=UNITS", help="Another quantity for a line.")
    ] = None,
    remove: Annotated[list[int] | None, typer.Option("--remove", metavar="LINE", help="Call a line off.")] = None,
    preview: Annotated[bool, typer.Option("--preview", help="Only show what it would be.")] = False,
    reason: Reason = "",
    etag: Etag = "",
) -> None:
    """Edit the lines of an order of which nothing was shipped, all changes or none."""
    orders, found = session.client.orders, order_name(session, name)
    added, changed, removed = order_lines(add or ()), line_units(change or ()), remove or ()
    if preview:
        order = orders.preview_edit(found, add=added, change=changed, remove=removed, etag=etag)
    else:
        options = session.write_options
        order = orders.apply_edit(found, add=added, change=changed, remove=removed, reason=reason, etag=etag, **options)
    delivery_notes.show_order(session.screen, order)


def hold_order(session: Session, name: Name, reason: Reason = "", etag: Etag = "") -> None:
    """Keep an order from being confirmed, fulfilled, shipped and completed, until it is resumed."""
    order = session.client.orders.hold(order_name(session, name), reason=reason, etag=etag, **session.write_options)
    delivery_notes.show_order(session.screen, order)


def fulfill_order(
    session: Session,
    name: Name,
    line: Annotated[
        list[str] | None,
        typer.Option("--line", metavar="LINE[=UNITS]", help="Repeat for several; without any, all that is there."),
    ] = None,
    location: Annotated[str, typer.Option("--location", help="Where it leaves from; chosen without.")] = "",
    etag: Etag = "",
) -> None:
    """Bind open units of a confirmed order to one delivery from one location."""
    fulfillment = session.client.fulfillments.create(
        order_name(session, name),
        units=line_units(line or ()),
        location=location_name(location) if location else "",
        etag=etag,
        **session.write_options,
    )
    session.screen.show_message(fulfillment)


def add_note(session: Session, name: Name, content: Annotated[str, typer.Argument(metavar="TEXT")]) -> None:
    """Write a note about an order, for colleagues."""
    note = session.client.orders.add_note(order_name(session, name), content, **session.write_options)
    session.screen.show_message(note)


def list_notes(session: Session, name: Name, limit: Limit = LIMIT) -> None:
    """List what was noted about an order, oldest first."""
    listing = session.client.orders.list_notes(order_name(session, name), page_size=page_size(limit))
    session.show_listing(listing, columns=delivery_notes.NOTE_COLUMNS, limit=limit)


def show_history(session: Session, name: Name, limit: Limit = LIMIT) -> None:
    """Show how an order came to be what it is, oldest change first, with every field that changed."""
    listing = session.client.orders.list_history(order_name(session, name), page_size=page_size(limit))
    session.show_listing(listing, columns=HISTORY_COLUMNS, limit=limit)
