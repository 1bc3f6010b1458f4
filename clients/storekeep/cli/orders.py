"""`storekeep orders`: commands that place, show, change and deliver orders. Orders are given by number, id or name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from storekeep.cli import delivery_notes
from storekeep.cli.changes import Clear, build_update
from storekeep.cli.commands import (
    LIMIT,
    Etag,
    Label,
    Limit,
    OrderBy,
    State,
    Total,
    command,
    join_filters,
    make_filter_option,
    new_group,
)
from storekeep.cli.order_options import AddressParts, BillingParts, merge_address
from storekeep.cli.pairs import parse_amount, parse_labels, parse_line_units, parse_order_lines
from storekeep.cli.quotes import Certificate, Codes, Exempt, Language, Method, build_exemption, to_method_name
from storekeep.cli.sessions import Session, compute_page_size
from storekeep.cli.states import build_state_filter
from storekeep.cli.steps import Step, add_steps
from storekeep.cli.times import Since, build_since_filter, parse_time
from storekeep.client import Address, Order, OrderState, WriteOptions, to_timestamp
from storekeep.client.names import (
    quote_text,
    to_customer_name,
    to_full_name,
    to_location_name,
    to_quote_name,
    to_reservation_name,
)

STEP_COLUMNS = ("sequence", "create_time", "method", "from_state", "to_state", "reason", "actor")
HISTORY_COLUMNS = ("sequence", "create_time", "method", "changes", "reason", "actor", "from_state", "to_state")
COLUMNS = ("number", "customer", "state", "total", "create_time", "external_reference")
Filter = Annotated[
    str,
    make_filter_option(
        "state = PLACED AND total > 100",
        'lines.sku : "CHAI*"',
        "customer.email = orders@ernst.example",
        "shipping_address.region_code = DE",
    ),
]
EXAMPLE = "SK-00001234"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Name = Annotated[str, typer.Argument(metavar="ORDER", help="Number, id or full name.")]
Reason = Annotated[str, typer.Option("--reason", help="Reason, recorded in the history.")]
Units = Annotated[
    list[str],
    typer.Option("--line", metavar="LINE[=UNITS]", help="Units of a line (default: all open). May be repeated."),
]


def find_order_name(session: Session, text: str) -> str:
    """Return the resource name of an order given by number, id or name."""
    text = text.strip()
    order_id = text.removeprefix("orders/")
    if not UUID.fullmatch(order_id):
        terms = " OR ".join(f"number = {quote_text(number)}" for number in dict.fromkeys((text, order_id)))
        names = {order.number: order.name for order in session.client.orders.list(filter=terms, page_size=2)}
        if names:
            return names.get(text) or names[order_id]
    return to_full_name("orders", text)


def _accept_numbers(session: Session, method: Callable[..., Order]) -> Callable[..., Order]:
    """Wrap a client method so that it also accepts the number of an order."""
    return lambda name, **options: method(find_order_name(session, name), **options)


STEPS = (
    Step("confirm", "Confirm placed orders.", lambda s: _accept_numbers(s, s.client.orders.confirm)),
    Step("resume", "Resume held orders.", lambda s: _accept_numbers(s, s.client.orders.resume)),
    Step("complete", "Complete orders that are fully shipped.", lambda s: _accept_numbers(s, s.client.orders.complete)),
)


def add_orders(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(app, "orders", help="Place, change and deliver orders.", example="storekeep orders list")
    place = "storekeep orders place --customer ernst --line CHAI-1=2 --line CHAI-2=1 --currency EUR"
    command(group, "place", example=place, writes=True, takes_address=True)(place_order)
    command(group, "list", example="storekeep orders list --customer ernst --state placed")(list_orders)
    command(group, "search", example="storekeep orders search 'ernst handel'")(search_orders)
    command(group, "show", example=f"storekeep orders show {EXAMPLE}")(show_order)
    update = f"storekeep orders update {EXAMPLE} --postal-code 8010 --label gift=yes --deliver-by 2026-12-24"
    command(group, "update", example=update, writes=True, changes_address=True)(update_order)
    cancel = f"storekeep orders cancel {EXAMPLE} --reason 'ordered by mistake'"
    command(group, "cancel", example=cancel, writes=True)(cancel_order)
    lines = f"storekeep orders cancel-lines {EXAMPLE} --line 1=2 --line 3 --reason 'sold out'"
    command(group, "cancel-lines", example=lines, writes=True)(cancel_lines)
    edit = f"storekeep orders edit {EXAMPLE} --add CHAI-1=2 --change 1=5 --remove 2 --dry-run"
    command(group, "edit", example=edit, writes=True)(edit_order)
    hold = f"storekeep orders hold {EXAMPLE} --reason 'check the address'"
    command(group, "hold", example=hold, writes=True)(hold_order)
    fulfill = f"storekeep orders fulfill {EXAMPLE} --line 1=2 --location main"
    command(group, "fulfill", example=fulfill, writes=True)(fulfill_order)
    note = f"storekeep orders note {EXAMPLE} 'Customer called: deliver on Friday.'"
    command(group, "note", example=note, writes=True)(add_note)
    command(group, "notes", example=f"storekeep orders notes {EXAMPLE}")(list_notes)
    command(group, "history", example=f"storekeep orders history {EXAMPLE}")(show_history)
    add_steps(
        group,
        STEPS,
        noun="orders",
        example_name=EXAMPLE,
        to_name=str,
        columns=COLUMNS,
        show_one=delivery_notes.show_order,
    )


def place_order(
    session: Session,
    customer: Annotated[str, typer.Option("--customer", help="Id or full name of the customer.")],
    line: Annotated[list[str], typer.Option("--line", metavar="SKU=UNITS", help="May be repeated.")],
    currency_code: Annotated[
        str | None,
        typer.Option("--currency", show_default="that of the login", help="ISO 4217 code of all prices, such as EUR."),
    ] = None,
    location: Annotated[
        str | None,
        typer.Option(
            "--location", show_default="that of the login, or any", help="Ship from this location; '' for any."
        ),
    ] = None,
    reservation: Annotated[
        list[str] | None,
        typer.Option("--reservation", help="Use the stock of this reservation first. May be repeated."),
    ] = None,
    reference: Annotated[str, typer.Option("--reference", help="Your own number for the order.")] = "",
    source: Annotated[str, typer.Option("--source", help="The system that the reference comes from.")] = "",
    unique_reference: Annotated[
        bool, typer.Option("--unique-reference", help="Fail if an order with this source and reference exists.")
    ] = False,
    note: Annotated[str, typer.Option("--note", help="Note, shown with the order.")] = "",
    shipping: Annotated[str, typer.Option("--shipping", metavar="AMOUNT", help="Shipping cost, such as 4.90.")] = "",
    email: Annotated[str, typer.Option("--email", help="Email address (default: the customer's).")] = "",
    phone: Annotated[str, typer.Option("--phone", help="Phone number (default: the customer's).")] = "",
    language: Language = "",
    bill_to: BillingParts = None,
    ship_by: Annotated[str, typer.Option("--ship-by", metavar="TIME", help="Promised time of shipment.")] = "",
    deliver_by: Annotated[str, typer.Option("--deliver-by", metavar="TIME", help="Promised time of delivery.")] = "",
    label: Label = None,
    coupon: Codes = None,
    shipping_method: Method = "",
    tax_exempt: Exempt = "",
    tax_certificate: Certificate = "",
    expected_total: Annotated[
        str, typer.Option("--expected-total", metavar="AMOUNT", help="Fail if the order costs another total.")
    ] = "",
    quote: Annotated[str, typer.Option("--quote", help="Accept this quote: it has this customer and lines.")] = "",
    request_id: Annotated[
        str, typer.Option("--request-id", help="Idempotency key, a UUID: a repeat does not place a second order.")
    ] = "",
    postal_address: Address | None = None,
) -> None:
    """Place an order: fix its prices and allocate its stock, all lines or none. The address is where to ship it to."""
    options: WriteOptions = {
        **session.creation_options,
        "request_id": request_id,
        "on_replay": lambda: session.screen.show_notice("An earlier call with this request id placed the order."),
    }
    currency_code = session.choose_currency(currency_code)
    order = session.client.orders.place(
        customer=to_customer_name(customer),
        lines=parse_order_lines(line),
        currency_code=currency_code,
        location=session.choose_location(location),
        shipping_address=postal_address,
        external_reference=reference,
        note=note,
        shipping=parse_amount(shipping, currency_code=currency_code) if shipping else None,
        reservations=[to_reservation_name(name) for name in reservation or ()],
        source=source,
        unique_external_reference=unique_reference,
        billing_address=merge_address(Address(), bill_to, option="--bill-to") if bill_to else None,
        email=email,
        phone=phone,
        language_code=language,
        labels=parse_labels(label or ()),
        ship_by_time=parse_time(ship_by) if ship_by else None,
        deliver_by_time=parse_time(deliver_by) if deliver_by else None,
        coupon_codes=coupon or (),
        shipping_method=to_method_name(shipping_method),
        tax_exemption=build_exemption(tax_exempt, tax_certificate),
        expected_total=parse_amount(expected_total, currency_code=currency_code) if expected_total else None,
        quote=to_quote_name(quote) if quote else "",
        **options,
    )
    delivery_notes.show_order(session, order)


def list_orders(
    session: Session,
    customer: Annotated[str, typer.Option("--customer", help="Only orders of this customer.")] = "",
    state: State = "",
    since: Since = "",
    filter: Filter = "",  # noqa: A002 - the name in the contract
    order_by: OrderBy = "",
    limit: Limit = LIMIT,
    total: Total = False,
) -> None:
    """List orders, newest first."""
    customer_filter = f"customer = {quote_text(to_customer_name(customer))}" if customer else ""
    listing = session.client.orders.list(
        filter=join_filters(filter, customer_filter, build_state_filter(state, OrderState), build_since_filter(since)),
        order_by=order_by,
        page_size=compute_page_size(limit),
        include_total_size=total,
    )
    session.show_listing(
        listing,
        columns=COLUMNS,
        limit=limit,
        check_parent=(lambda: session.client.customers.get(to_customer_name(customer))) if customer else None,
    )


def search_orders(
    session: Session,
    query: Annotated[str, typer.Argument(help="Beginning of a number or reference, or words of the customer.")],
    limit: Limit = LIMIT,
) -> None:
    """Search orders by number, external reference and customer."""
    listing = session.client.orders.search(query, page_size=compute_page_size(limit, page_size_max=100))
    session.show_listing(listing, columns=COLUMNS, limit=limit)


def show_order(session: Session, name: Name) -> None:
    """Show an order with its lines, fulfilments, notes and history. In other formats, only the order."""
    client, screen = session.client, session.screen
    order = client.orders.get(find_order_name(session, name))
    delivery_notes.show_order(session, order)
    if screen.has_default_layout:
        delivery_notes.show_deliveries(screen, list(client.fulfillments.list(order.name)))
        delivery_notes.show_notes(screen, client.orders.list_notes(order.name))
        session.show_listing(client.orders.list_history(order.name), columns=STEP_COLUMNS, limit=LIMIT)


def update_order(
    session: Session,
    name: Name,
    email: Annotated[str | None, typer.Option("--email", help="Email address for questions.")] = None,
    phone: Annotated[str | None, typer.Option("--phone", help="Phone number for questions.")] = None,
    language: Annotated[
        str | None, typer.Option("--language", metavar="TAG", help="Language of new lines and messages, such as de.")
    ] = None,
    ship_to: AddressParts = None,
    bill_to: BillingParts = None,
    shipping: Annotated[str, typer.Option("--shipping", metavar="AMOUNT", help="Shipping cost.")] = "",
    ship_by: Annotated[str, typer.Option("--ship-by", metavar="TIME", help="Promised time of shipment.")] = "",
    deliver_by: Annotated[str, typer.Option("--deliver-by", metavar="TIME", help="Promised time of delivery.")] = "",
    reference: Annotated[str | None, typer.Option("--reference", help="Your own number for the order.")] = None,
    note: Annotated[str | None, typer.Option("--note")] = None,
    label: Label = None,
    clear: Clear = None,
    reason: Reason = "",
    etag: Etag = "",
    postal_address: Sequence[str] = (),
) -> None:
    """Change the given fields of an order. Labels replace all labels, parts of an address only these parts.

    --city and the other parts change the address to ship to, as --ship-to does; --ship-to region= removes a part.
    """
    ship_to = [*postal_address, *(ship_to or ())]
    order = session.client.orders.get(find_order_name(session, name))
    if ship_to or bill_to:
        etag = etag or order.etag  # because the other parts of the address are sent too
    changes, mask = build_update(
        Order,
        order.name,
        etag=etag,
        clear=clear or (),
        email=email,
        phone=phone,
        language_code=language,
        shipping_address=merge_address(order.shipping_address, ship_to, option="--ship-to") if ship_to else None,
        billing_address=merge_address(order.billing_address, bill_to, option="--bill-to") if bill_to else None,
        shipping=parse_amount(shipping, currency_code=order.total.currency_code) if shipping else None,
        ship_by_time=to_timestamp(parse_time(ship_by)) if ship_by else None,
        deliver_by_time=to_timestamp(parse_time(deliver_by)) if deliver_by else None,
        external_reference=reference,
        note=note,
        labels=parse_labels(label) if label else None,
    )
    updated = session.client.orders.update(changes, update_mask=mask, reason=reason, **session.write_options)
    delivery_notes.show_order(session, updated)


def cancel_order(session: Session, name: Name, reason: Reason = "", etag: Etag = "") -> None:
    """Cancel an order with no shipped units and release its stock."""
    order = session.client.orders.cancel(
        find_order_name(session, name), reason=reason, etag=etag, **session.write_options
    )
    delivery_notes.show_order(session, order)


def cancel_lines(session: Session, name: Name, line: Units, reason: Reason = "", etag: Etag = "") -> None:
    """Cancel units of order lines and release their stock."""
    order = session.client.orders.cancel_lines(
        find_order_name(session, name), parse_line_units(line), reason=reason, etag=etag, **session.write_options
    )
    delivery_notes.show_order(session, order)


def edit_order(
    session: Session,
    name: Name,
    add: Annotated[
        list[str] | None, typer.Option("--add", metavar="SKU=UNITS", help="Add a line. May be repeated.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--change", metavar="LINE=UNITS", help="Change the quantity of a line. May be repeated."),
    ] = None,
    remove: Annotated[
        list[int] | None, typer.Option("--remove", metavar="LINE", help="Remove a line. May be repeated.")
    ] = None,
    reason: Reason = "",
    etag: Etag = "",
) -> None:
    """Edit the lines of an order with no shipped units, all changes or none."""
    orders, order_name = session.client.orders, find_order_name(session, name)
    added, changed, removed = (
        parse_order_lines(add or (), option="--add"),
        parse_line_units(change or (), option="--change"),
        remove or (),
    )
    order = orders.apply_edit(
        order_name, add=added, change=changed, remove=removed, reason=reason, etag=etag, **session.write_options
    )
    delivery_notes.show_order(session, order)


def hold_order(session: Session, name: Name, reason: Reason = "", etag: Etag = "") -> None:
    """Hold an order: it cannot be confirmed, fulfilled, shipped or completed until it is resumed."""
    order = session.client.orders.hold(
        find_order_name(session, name), reason=reason, etag=etag, **session.write_options
    )
    delivery_notes.show_order(session, order)


def fulfill_order(
    session: Session,
    name: Name,
    line: Annotated[
        list[str] | None,
        typer.Option(
            "--line", metavar="LINE[=UNITS]", help="Units of a line (default: all open units). May be repeated."
        ),
    ] = None,
    location: Annotated[
        str, typer.Option("--location", help="Ship from this location (default: chosen by the server).")
    ] = "",
    etag: Etag = "",
) -> None:
    """Create a fulfilment for open units of a confirmed order."""
    fulfillment = session.client.fulfillments.create(
        find_order_name(session, name),
        units=parse_line_units(line or ()),
        location=to_location_name(location) if location else "",
        etag=etag,
        **session.creation_options,
    )
    session.screen.show_message(fulfillment)


def add_note(session: Session, name: Name, content: Annotated[str, typer.Argument(metavar="TEXT")]) -> None:
    """Add an internal note to an order."""
    note = session.client.orders.add_note(find_order_name(session, name), content, **session.write_options)
    session.screen.show_message(note)


def list_notes(session: Session, name: Name, limit: Limit = LIMIT) -> None:
    """List the notes of an order, oldest first."""
    listing = session.client.orders.list_notes(find_order_name(session, name), page_size=compute_page_size(limit))
    session.show_listing(listing, columns=delivery_notes.NOTE_COLUMNS, limit=limit)


def show_history(session: Session, name: Name, limit: Limit = LIMIT) -> None:
    """Show the changes of an order with all changed fields, oldest first."""
    listing = session.client.orders.list_history(find_order_name(session, name), page_size=compute_page_size(limit))
    session.show_listing(listing, columns=HISTORY_COLUMNS, limit=limit)
