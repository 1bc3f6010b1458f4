"""Pages of orders: the list, one order, and each step of its life."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from storekeep.client import Address, Customer, Fulfillment, FulfillmentState, Order, OrderNotFound, WriteOptions
from storekeep.console.feed import get_cursor
from storekeep.console.forms import LABELS, FormField, build_conflict, changed_fields
from storekeep.console.listings import fetch, fetch_part, join, show_list, try_fetch
from storekeep.console.pickers import list_locations, name_location
from storekeep.console.rendering import build_query, format_words
from storekeep.console.requests import (
    BadRequest,
    Faults,
    Inputs,
    Reply,
    Request,
    Route,
    parse_number,
    quote_filter,
    redirect,
)

READ, WRITE = "orders.read", "orders.write"
COLUMNS = ("name", "number", "customer", "state", "held", "total", "create_time", "external_reference", "email")
PAGE_SIZE = 100
HISTORY_MAX = 200
FULFILLMENTS_MAX = 100
OPEN_STATES = ("PLACED", "CONFIRMED", "PARTIALLY_FULFILLED")
FIELDS = (
    FormField("email", "Email"),
    FormField("phone", "Phone"),
    FormField("language_code", "Language", hint="a tag such as de; empty: the server's"),
    FormField("external_reference", "External reference"),
    FormField("note", "Note"),
    *(
        FormField(f"shipping_address.{name}", label)
        for name, label in (
            ("recipient", "Recipient"),
            ("address_lines", "Street"),
            ("postal_code", "Postal code"),
            ("locality", "City"),
            ("region_code", "Country code"),
        )
    ),
    LABELS,
)


def build_filter(query: Mapping[str, str]) -> str:
    """Return the filter that the parameters of the list's address mean."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    open_states = " OR ".join(f"state = {state}" for state in OPEN_STATES)
    terms: dict[str, Callable[[str], str]] = {
        "state": lambda value: f"state = {value}" if value.replace("_", "").isalpha() else "",
        "held": lambda _: "held = true",
        "overdue": lambda _: f'ship_by_time < "{now}" AND ({open_states})',
        "customer": lambda value: f"customer = {quote_filter('customers/' + value.removeprefix('customers/'))}",
        "sku": lambda value: f"lines.sku : {quote_filter(value)}",
        "since": lambda value: f"create_time >= {quote_filter(_complete_time(value, 'T00:00:00Z'))}",
        "until": lambda value: f"create_time <= {quote_filter(_complete_time(value, 'T23:59:59Z'))}",
        "filter": lambda value: value,
    }
    return join(*(make(query[name]) for name, make in terms.items() if query.get(name)))


def _complete_time(value: str, time: str) -> str:
    """Return a day with a time; a time as it is. Scripts send when a day of the browser's zone begins or ends."""
    return value if "T" in value else value + time


def show_orders(request: Request) -> Reply:
    """List orders. With a search text, the matches by number, reference and customer, or else by SKU."""
    client = request.session.client
    text = request.query.get("q", "").strip()
    if text:
        listing = client.orders.search(text, page_size=50, read_mask=COLUMNS)
        if not request.query["page"] and not listing.page().items and _is_sku(request, text):
            return redirect(f"/orders{build_query({}, sku=text)}")
    else:
        listing = client.orders.list(
            filter=build_filter(request.query),
            order_by=request.query.get("order", "") or "create_time desc",
            page_size=PAGE_SIZE,
            read_mask=COLUMNS,
            include_total_size=True,
        )
    return show_list(
        request, "orders.html", title="Orders", fetch_page=lambda: fetch(request, listing), has_customers=True
    )


def _is_sku(request: Request, text: str) -> bool:
    """Return whether a text is the SKU of a variant, which has an index, unlike orders. Raises: StorekeepError."""
    if not request.session.may("products.read"):
        return False
    variants = request.session.client.variants
    listing = variants.list("products/-", filter=f"sku = {quote_filter(text)}", page_size=1, show_deleted=True)
    return bool(try_fetch(lambda: listing.page().items, ()))


def get_name(request: Request) -> str:
    """Return the resource name of the order in the path."""
    return f"orders/{request.parameters['order']}"


def find_customer(request: Request, order: Order) -> Customer | None:
    """Return the customer of an order; None if the person may not read it."""
    if not request.session.may("customers.read"):
        return None
    customer: Customer | None = try_fetch(lambda: request.session.client.customers.get(order.customer), None)
    return customer


def show_order(request: Request) -> Reply:
    """Show one order, with its fulfilments, notes and history.

    Raises: StorekeepError, BadRequest.
    """
    client, name = request.session.client, get_name(request)
    cursor = get_cursor(request)
    try:
        order = client.orders.get(name)
    except OrderNotFound:
        return _show_by_number(request)
    fulfillments = fetch_part(client.fulfillments.list(name, page_size=FULFILLMENTS_MAX))
    customer = find_customer(request, order)
    return request.page(
        "order.html",
        title=f"Order {order.number}",
        inputs=_find_inputs(request, order),
        order=order,
        customer=customer,
        fulfillments=fulfillments,
        unassigned=_count_unassigned(order, fulfillments.items),
        notes=fetch_part(client.orders.list_notes(name, page_size=HISTORY_MAX)),
        history=fetch_part(client.orders.list_history(name, page_size=HISTORY_MAX)),
        locations=list_locations(request),
        cursor=cursor,
    )


def _count_unassigned(order: Order, fulfillments: Sequence[Fulfillment]) -> dict[int, int]:
    """Return the open units that no pending fulfilment has, by line number; only lines that have some."""
    pending: Counter[int] = Counter()
    for item in fulfillments:
        if item.state == FulfillmentState.FULFILLMENT_STATE_PENDING:
            for line in item.lines:
                pending[line.line_number] += line.quantity
    units = {line.line_number: line.open_quantity - pending[line.line_number] for line in order.lines}
    return {number: quantity for number, quantity in units.items() if quantity > 0}


def _find_inputs(request: Request, order: Order) -> Inputs:
    """Return the inputs of a new fulfilment, or of a step of one. The lines of a request are those with units."""
    units = {line.line_number: f"units.{line.line_number}" for line in order.lines}
    sent = [name for name in units.values() if request.field(name) not in ("", "0")]
    labels = {name: f"Units of line {number}" for number, name in units.items()}
    return Inputs(
        labels | {name: format_words(name) for name in ("location", "carrier", "tracking_number", "content")},
        {
            **{f"lines[{index}].quantity": name for index, name in enumerate(sent)},
            "location": "location",
            "carrier": "carrier",
            "tracking_number": "tracking_number",
            "parcels": "tracking_number",
            "content": "content",
        },
        {line.sku: (units[line.line_number],) * 2 for line in order.lines},
        units,
    )


def _show_by_number(request: Request) -> Reply:
    """Lead to the order whose number stands in the path. Raises: BadRequest if there is none."""
    orders, number = request.session.client.orders, request.parameters["order"]
    found = orders.list(filter=f"number = {quote_filter(number)}", page_size=1, read_mask=["name"]).page().items
    if not found:
        raise BadRequest(f"There is no order {number}.", status=404)
    return redirect(f"/{found[0].name}")


def _make_step(act: Callable[[Request, str, str, WriteOptions], object], notice: str) -> Callable[[Request], Reply]:
    """Return the handler of a change of an order that needs its etag."""

    def handle(request: Request) -> Reply:
        name = get_name(request)
        act(request, name, request.field("etag"), request.write_options())
        return request.done(f"/{name}", notice)

    return handle


def _confirm(request: Request, name: str, etag: str, options: WriteOptions) -> object:
    return request.session.client.orders.confirm(name, etag=etag, **options)


def _cancel(request: Request, name: str, etag: str, options: WriteOptions) -> object:
    return request.session.client.orders.cancel(name, reason=request.field("reason"), etag=etag, **options)


def _hold(request: Request, name: str, etag: str, options: WriteOptions) -> object:
    return request.session.client.orders.hold(name, reason=request.field("reason"), etag=etag, **options)


def _resume(request: Request, name: str, etag: str, options: WriteOptions) -> object:
    return request.session.client.orders.resume(name, etag=etag, **options)


def _complete(request: Request, name: str, etag: str, options: WriteOptions) -> object:
    return request.session.client.orders.complete(name, etag=etag, **options)


def _add_note(request: Request, name: str, etag: str, options: WriteOptions) -> object:
    return request.session.client.orders.add_note(name, request.field("content"), **options)


def _fulfil(request: Request, name: str, etag: str, options: WriteOptions) -> object:
    units, faults = {}, Faults()
    for key in request.form:
        if key.startswith("units.") and request.field(key):
            with faults.collect():
                number = parse_number(key.removeprefix("units."), label="Line")
                units[number] = request.number(key, label=f"Units of line {number}")
    faults.check()
    chosen = {number: quantity for number, quantity in units.items() if quantity != 0}
    if units and not chosen:
        raise BadRequest("Enter the units of at least one line.")
    return request.session.client.fulfillments.create(
        name, units=chosen, location=name_location(request.field("location")), etag=etag, **options
    )


def show_details(request: Request) -> Reply:
    """Show the form for contact, address and reference. Raises: OrderNotFound."""
    order = request.session.client.orders.get(get_name(request))
    return request.page(
        "order-details.html",
        title=f"Details of order {order.number}",
        order=order,
        fields=[(item, request.field(item.name, item.read(order))) for item in FIELDS],
        conflict=build_conflict(FIELDS, order, request),
    )


def update_details(request: Request) -> Reply:
    """Change contact, address and reference. Raises: StorekeepError, BadRequest."""
    name = get_name(request)
    changed = changed_fields(FIELDS, request)
    if not changed:
        return request.done(f"/{name}", "Nothing was changed.")
    order = Order(name=name, etag=request.field("etag"))
    mask = set()
    for item in FIELDS:
        if item in changed or any(item.root == other.root for other in changed):
            item.write(order, request.field(item.name))
            mask.add(item.root)
    if "shipping_address" in mask and order.shipping_address == Address():
        order.ClearField("shipping_address")
    request.session.client.orders.update(order, update_mask=sorted(mask), **request.write_options())
    return request.done(f"/{name}", "The details have been changed.")


def change_fulfillment(request: Request) -> Reply:
    """Ship, deliver or cancel a fulfilment. Raises: StorekeepError, BadRequest."""
    client, name = request.session.client.fulfillments, get_name(request)
    fulfillment = f"{name}/fulfillments/{request.parameters['fulfillment']}"
    etag, options, step = request.field("etag"), request.write_options(), request.field("step")
    if step == "ship":
        carrier, number = request.field("carrier"), request.field("tracking_number")
        client.ship(fulfillment, carrier=carrier, tracking_number=number, etag=etag, **options)
        return request.done(f"/{name}", "The fulfilment has been shipped.")
    if step == "deliver":
        client.deliver(fulfillment, etag=etag, **options)
        return request.done(f"/{name}", "The fulfilment has been delivered.")
    if step == "restock":
        client.restock(fulfillment, reason=request.field("reason"), etag=etag, **options)
        return request.done(f"/{name}", "The units are back in stock.")
    if step == "cancel":
        client.cancel(fulfillment, etag=etag, **options)
        return request.done(f"/{name}", "The fulfilment has been cancelled.")
    raise BadRequest("There is no such step.")


ROUTES = (
    Route("GET", "/orders", show_orders, READ),
    Route("GET", "/orders/{order}", show_order, READ),
    Route("GET", "/orders/{order}/details", show_details, WRITE),
    Route("POST", "/orders/{order}/details", update_details, WRITE, show_details),
    Route("POST", "/orders/{order}/confirm", _make_step(_confirm, "The order is confirmed."), WRITE, show_order),
    Route("POST", "/orders/{order}/cancel", _make_step(_cancel, "The order is cancelled."), WRITE, show_order),
    Route("POST", "/orders/{order}/hold", _make_step(_hold, "The order is on hold."), WRITE, show_order),
    Route("POST", "/orders/{order}/resume", _make_step(_resume, "The order is resumed."), WRITE, show_order),
    Route("POST", "/orders/{order}/complete", _make_step(_complete, "The order is completed."), WRITE, show_order),
    Route("POST", "/orders/{order}/notes", _make_step(_add_note, "The note is added."), WRITE, show_order),
    Route("POST", "/orders/{order}/fulfillments", _make_step(_fulfil, "The fulfilment is created."), WRITE, show_order),
    Route("POST", "/orders/{order}/fulfillments/{fulfillment}", change_fulfillment, WRITE, show_order),
)
