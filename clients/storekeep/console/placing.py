"""The page of a new order: what it would cost, and then to place it at that price, or to offer it as a quote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from storekeep.client import (
    Address,
    Customer,
    CustomerAddress,
    Money,
    Order,
    PlaceOrderLine,
    Quote,
    QuoteOrderResponse,
    Refused,
    StorekeepError,
    money,
)
from storekeep.console.customers import PERSONAL, find_by_id
from storekeep.console.forms import LABELS as ORDER_LABELS
from storekeep.console.forms import FormField
from storekeep.console.listings import try_fetch
from storekeep.console.orders import WRITE
from storekeep.console.pickers import list_locations, name_location
from storekeep.console.requests import BadRequest, Faults, Inputs, Reply, Request, Route, redirect
from storekeep.console.rows import Rows
from storekeep.console.spellings import format_amount, parse_amount

ROWS = Rows("sku", "SKU", range(1, 21), usual_units="1")
"""Rows that a form may have."""
ROWS_SHOWN = 6
DRAFT_CHARACTERS_MAX = 32_768
TEXTS = ("email", "external_reference", "note")
METHODS_MAX = 100
MATCHES_MAX = 10
"""Customers to choose from."""
ADDRESS_FIELDS = (
    FormField("recipient", "Recipient"),
    FormField("address_lines", "Street"),
    FormField("postal_code", "Postal code"),
    FormField("locality", "City"),
    FormField("administrative_area", "State or province"),
    FormField("region_code", "Country code", hint="such as DE"),
)


LABELS: Mapping[str, str] = {
    "for_quote": "Quote",
    "customer": "Customer",
    "chosen_customer": "Which one",
    "currency": "Currency",
    **ROWS.labels,
    "codes": "Coupon codes",
    "shipping_method": "Shipping method",
    "shipping": "Shipping cost",
    "location": "Ship from",
    **{f"address.{item.name}": item.label for item in ADDRESS_FIELDS},
    "email": "Email",
    "external_reference": "Your reference",
    "note": "Note",
    "labels": "Labels",
    "chosen_address": "Address",
}
"""The inputs of the form, by their name."""
PATHS: Mapping[str, str] = {
    "currency_code": "currency",
    "coupon_codes": "codes",
    "shipping_address": "address.recipient",
    **{f"shipping_address.{item.name}": f"address.{item.name}" for item in ADDRESS_FIELDS},
    **{name: name for name in ("customer", "shipping", "shipping_method", "location", *TEXTS)},
}
"""The inputs by the path of their field in the request, without those of the lines."""


class SeveralCustomers(BadRequest):
    """Several customers match what was entered."""

    def __init__(self, customers: Sequence[Customer]) -> None:
        super().__init__("Several customers match. Choose one of them.")
        self.customers = customers


def find_customer(request: Request, text: str) -> str:
    """Return the resource name of the customer with an id, or the only one that a search finds; empty for no text.

    Raises: BadRequest if none matches, SeveralCustomers, StorekeepError.
    """
    name = f"customers/{text.removeprefix('customers/')}" if text else ""
    if not text or not request.session.may("customers.read"):
        return name
    if find_by_id(request, text) is not None:
        return name
    found: list[Customer] = []
    if request.session.may(PERSONAL):
        found = list(request.session.client.customers.search(text, page_size=MATCHES_MAX).page().items)
    exact = [one for one in found if text.casefold() in (one.email.casefold(), one.display_name.casefold())]
    matches = exact if len(exact) == 1 else found
    if not matches:
        known = "id, the name or the email address" if request.session.may(PERSONAL) else "id"
        raise BadRequest(f"No customer has the {known} {text!r}.", status=404, field="customer")
    if len(matches) > 1:
        raise SeveralCustomers(matches)
    return matches[0].name


class Draft:
    """The order in the form.

    Raises: BadRequest, StorekeepError.
    """

    def __init__(self, request: Request) -> None:
        faults = Faults()
        self.shipping: Money | None = None
        self.currency_code = request.field("currency").upper()
        self.shipping_method = request.field("shipping_method")
        self.codes = [code.strip() for code in request.field("codes").replace(",", "\n").splitlines() if code.strip()]
        self.lines = [(sku, units) for _, sku, units in ROWS.read(request, faults)]
        with faults.collect():
            self.shipping = self._read_shipping(request.field("shipping"))
        with faults.collect():
            self.customer = find_customer(request, request.field("chosen_customer") or request.field("customer"))
        self.order = Order()
        with faults.collect():
            ORDER_LABELS.write(self.order, request.field("labels"))
        faults.check()
        typed = _read_address(request)
        self.chosen = None if typed else _find_address(request, self.customer)
        self.address = typed or self.chosen

    def _read_shipping(self, text: str) -> Money | None:
        try:
            return money.parse_amount(text, currency_code=self.currency_code) if text else None
        except ValueError:
            example = f"4.90 {self.currency_code}".strip()
            raise BadRequest(f"Shipping cost: enter an amount such as {example}.", field="shipping") from None

    def price(self, request: Request) -> QuoteOrderResponse:
        """Return what the order would cost now. Raises: StorekeepError."""
        return request.session.client.orders.quote(
            lines=self.lines,
            currency_code=self.currency_code,
            customer=self.customer,
            shipping_address=self.address,
            shipping=self.shipping,
            shipping_method=self.shipping_method,
            coupon_codes=self.codes,
        )


def _find_inputs(request: Request) -> Inputs:
    """Return the inputs of the form. The lines of a request are its rows with a SKU."""
    names = {"sku": "sku", "quantity": "units"}
    lines = {
        f"lines[{index}].{path}": f"{name}.{row}"
        for index, row in enumerate(ROWS.list_filled(request))
        for path, name in names.items()
    }
    skus = {request.field(f"sku.{row}"): (f"sku.{row}", f"units.{row}") for row in ROWS.list_filled(request)}
    return Inputs(LABELS, {**PATHS, **lines, "lines": "sku.1"}, skus)


def _read_address(request: Request) -> Address | None:
    """Return the shipping address in the form; None if it is empty."""
    address = Address()
    for item in ADDRESS_FIELDS:
        if text := request.field(f"address.{item.name}"):
            item.write(address, text)
    return None if address == Address() else address


def list_addresses(request: Request, customer: str) -> Sequence[CustomerAddress]:
    """Return the addresses of a customer; none if there is no such one, or the person may not read them."""
    if not customer or not request.session.may(PERSONAL):
        return ()
    found = find_by_id(request, customer)
    return () if found is None else found.addresses


def _list_known_addresses(request: Request, customer: str) -> Sequence[CustomerAddress]:
    """Return the addresses of a customer, to choose from; none if they cannot be read, so that the form still shows."""
    try:
        return list_addresses(request, customer)
    except StorekeepError:
        return ()


def _find_address(request: Request, customer: str) -> Address | None:
    """Return the address of the customer that was chosen; None if none was. Raises: BadRequest, StorekeepError."""
    label = request.field("chosen_address")
    if not label:
        return None
    addresses = _name_addresses(list_addresses(request, customer))
    if label not in addresses:
        text = f"The customer has no address {label!r}. Choose another one, or enter it below."
        raise BadRequest(text, status=404, field="chosen_address")
    return addresses[label]


def _name_addresses(addresses: Sequence[CustomerAddress]) -> dict[str, Address]:
    """Return addresses by what they are chosen by: their label, or their number if it is missing or taken."""
    named: dict[str, Address] = {}
    for number, one in enumerate(addresses, 1):
        named[one.label if one.label and one.label not in named else f"{one.label} {number}".strip()] = one.address
    return named


def _hash_address(address: Address | None) -> str:
    """Return what tells an address of a customer from what it was when the price was shown; empty for none."""
    return "" if address is None else sha256(address.SerializeToString(deterministic=True)).hexdigest()


def _check_address(request: Request, draft: Draft) -> None:
    """Refuse an address that differs from the one shown with the price. Raises: BadRequest."""
    if request.field("shown_address") != _hash_address(draft.chosen):
        text = "The address is another one than when the price was shown. Check it, then show the price again."
        raise BadRequest(text, status=409, field="chosen_address")


def show_new(request: Request) -> Reply:
    """Show the form of a new order, or of a new quote; with its price, if it was asked for.

    Raises: StorekeepError, BadRequest.
    """
    key = request.query["draft"]
    if not key or request.problem is not None:
        return _show(request, draft=None)
    form = request.session.drafts.find(key)
    if form is None:
        text = "This form has been sent, or is too old. To place another order, begin anew."
        return _show(replace(request, problem=BadRequest(text, status=404)), draft=None)
    request = replace(request, form=form)
    try:
        return _show(request, draft=Draft(request))
    except (Refused, BadRequest) as error:  # it has become invalid meanwhile
        return _show(replace(request, problem=error), draft=None)


def _keep_draft(request: Request) -> Reply:
    """Lead to the page with the price. It has an address, so that the browser can go back to it."""
    form = {name: values for name, values in request.form.items() if name in LABELS}
    if sum(len(text) for values in form.values() for text in values) > DRAFT_CHARACTERS_MAX:
        raise BadRequest("The form is too long.")
    return redirect(f"/orders/new?draft={request.session.drafts.keep(form)}")


def _show(request: Request, *, draft: Draft | None) -> Reply:
    priced = draft.price(request) if draft is not None else None
    is_quote = bool(request.field("for_quote") or request.query["for_quote"])
    methods: Sequence[Any] = ()
    if request.session.may("pricing.read"):
        listing = request.session.client.shipping_methods.list(order_by="display_name", page_size=METHODS_MAX)
        methods = try_fetch(lambda: listing.page().items, ())
    customer = draft.customer if draft is not None else request.field("customer") or request.query["customer"]
    return request.page(
        "order-new.html",
        title="New quote" if is_quote else "New order",
        form=request.field,
        is_quote=is_quote,
        customer=customer,
        addresses=_name_addresses(_list_known_addresses(request, customer)),
        labels=[(ORDER_LABELS, request.field("labels"))],
        matches=request.problem.customers if isinstance(request.problem, SeveralCustomers) else (),
        locations=list_locations(request),
        methods=methods,
        inputs=_find_inputs(request),
        draft=request.query["draft"] or request.field("draft"),
        rows=range(1, max([ROWS_SHOWN, *ROWS.list_filled(request)]) + 1),
        address_fields=[(item, request.field(f"address.{item.name}")) for item in ADDRESS_FIELDS],
        priced=priced,
        ship_to=draft.address if draft is not None else None,
        shown_address=_hash_address(draft.chosen) if draft is not None else "",
        expected_total=format_amount(priced.total) if priced is not None else "",
    )


def handle(request: Request) -> Reply:
    """Show the price of an order, place it, or make a quote of it. Raises: StorekeepError, BadRequest."""
    draft, step = Draft(request), request.field("step")
    if step == "place":
        return _place(request, draft)
    if step == "quote":
        return _make_quote(request, draft)
    draft.price(request)  # what is wrong is said beside the input
    return _keep_draft(request)


def _place(request: Request, draft: Draft) -> Reply:
    try:
        expected = parse_amount(request.field("expected_total"))
    except ValueError:
        raise BadRequest("Show the price first: the order is placed at the price that you have seen.") from None
    _check_address(request, draft)
    order = request.session.client.orders.place(
        customer=draft.customer,
        lines=draft.lines,
        currency_code=draft.currency_code,
        location=name_location(request.field("location")),
        shipping_address=draft.address,
        shipping=draft.shipping,
        shipping_method=draft.shipping_method,
        coupon_codes=draft.codes,
        email=request.field("email"),
        external_reference=request.field("external_reference"),
        note=request.field("note"),
        labels=dict(draft.order.labels),
        expected_total=expected,
        **request.write_options(),
    )
    request.session.drafts.drop(request.field("draft"))
    return request.done(f"/{order.name}", f"Order {order.number} has been placed.")


def _make_quote(request: Request, draft: Draft) -> Reply:
    _check_address(request, draft)
    quote = Quote(
        customer=draft.customer,
        lines=[PlaceOrderLine(sku=sku, quantity=units) for sku, units in draft.lines],
        currency_code=draft.currency_code,
        shipping_address=draft.address,
        shipping=draft.shipping,
        shipping_method=draft.shipping_method,
        coupon_codes=draft.codes,
        note=request.field("note"),
    )
    created = request.session.client.quotes.create(quote, **request.write_options())
    request.session.drafts.drop(request.field("draft"))
    return request.done(f"/{created.name}", "The quote is a draft. Send it to fix its prices.")


ROUTES = (
    Route("GET", "/orders/new", show_new, WRITE),
    Route("POST", "/orders/new", handle, WRITE, show_new),
)
