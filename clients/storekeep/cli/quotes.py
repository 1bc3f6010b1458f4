"""`storekeep quote`: what an order would cost; `storekeep quotes`: orders that are offered at fixed prices."""

from __future__ import annotations

from typing import Annotated

import typer

from storekeep.cli import delivery_notes, receipts
from storekeep.cli.changes import Clear, build_update
from storekeep.cli.commands import Etag, command, new_group
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.pairs import parse_amount, parse_order_lines
from storekeep.cli.sessions import Session
from storekeep.cli.steps import Step, add_steps
from storekeep.cli.windows import parse_bound
from storekeep.client import Address, OrderTaxExemption, PlaceOrderLine, Quote, QuoteState
from storekeep.client.names import to_customer_name, to_full_name, to_quote_name

Codes = Annotated[list[str] | None, typer.Option("--coupon", metavar="CODE", help="Coupon code. May be repeated.")]
Method = Annotated[str, typer.Option("--shipping-method", help="Id or full name of the shipping method.")]
Exempt = Annotated[str, typer.Option("--tax-exempt", metavar="REASON", help="Why the order pays no tax.")]
Language = Annotated[
    str, typer.Option("--language", metavar="TAG", help="Language of the order, such as de (default: the customer's).")
]
Certificate = Annotated[str, typer.Option("--tax-certificate", help="Number of the certificate of the exemption.")]
Currency = Annotated[
    str | None,
    typer.Option("--currency", show_default="that of the login", help="ISO 4217 code of all prices, such as EUR."),
]
Shipping = Annotated[str, typer.Option("--shipping", metavar="AMOUNT", help="Shipping cost, such as 4.90.")]
Until = Annotated[
    str, typer.Option("--until", metavar="TIME", show_default="30 days", help="Until when it can be accepted.")
]
Name = Annotated[str, typer.Argument(help="Id or full name.")]
COLUMNS = ("name", "state", "customer", "total", "expire_time", "order", "create_time")
LISTING = ResourceListing(
    "List quotes, newest first.",
    example="storekeep quotes list --state sent",
    method=lambda session: session.client.quotes.list,
    columns=COLUMNS,
    filters=("state = SENT", "customer = customers/ernst"),
    is_time_ordered=True,
    states=lambda: QuoteState,
)
STEPS = (
    Step(
        "expire", "Withdraw drafts and sent quotes: nobody can accept them any more.", lambda s: s.client.quotes.expire
    ),
)


def add_quote(app: typer.Typer) -> None:
    """Add the command to the command line."""
    example = "storekeep quote --line CHAI-1=2 --currency EUR --country DE --coupon SPRING"
    command(app, "quote", example=example, takes_address=True)(quote_order)


def add_quotes(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(
        app, "quotes", help="Offer orders at fixed prices, until a time.", example="storekeep quotes list"
    )
    add_listing(group, LISTING)
    command(group, "show", example="storekeep quotes show q-1")(show_quote)
    create = "storekeep quotes create --id q-1 --customer ernst --line CHAI-1=2 --currency EUR --country DE"
    command(group, "create", example=create, writes=True, takes_address=True)(create_quote)
    command(group, "update", example="storekeep quotes update q-1 --line CHAI-1=3", writes=True)(update_quote)
    command(group, "send", example="storekeep quotes send q-1 --expected-total 36.00", writes=True)(send_quote)
    command(group, "accept", example="storekeep quotes accept q-1", writes=True)(accept_quote)
    add_steps(group, STEPS, noun="quotes", example_name="q-1", to_name=to_quote_name, columns=COLUMNS)


def quote_order(
    session: Session,
    line: Annotated[list[str], typer.Option("--line", metavar="SKU=UNITS", help="May be repeated.")],
    currency_code: Currency = None,
    customer: Annotated[str, typer.Option("--customer", help="Id or full name of the customer.")] = "",
    shipping: Shipping = "",
    shipping_method: Method = "",
    coupon: Codes = None,
    tax_exempt: Exempt = "",
    tax_certificate: Certificate = "",
    language: Language = "",
    postal_address: Address | None = None,
) -> None:
    """Show what an order would cost now, with discounts and taxes. The address is where to ship it to."""
    currency_code = session.choose_currency(currency_code)
    quote = session.client.orders.quote(
        lines=parse_order_lines(line),
        currency_code=currency_code,
        customer=to_customer_name(customer) if customer else "",
        shipping_address=postal_address,
        shipping=parse_amount(shipping, currency_code=currency_code) if shipping else None,
        shipping_method=to_method_name(shipping_method),
        coupon_codes=coupon or (),
        tax_exemption=build_exemption(tax_exempt, tax_certificate),
        language_code=language,
    )
    receipts.show_quote(session.screen, quote)


def to_method_name(text: str) -> str:
    """Return the resource name of a shipping method; empty for none."""
    return to_full_name("shippingMethods", text) if text else ""


def build_exemption(reason: str, certificate: str) -> OrderTaxExemption | None:
    """Return the exemption of an order; None without a reason."""
    return OrderTaxExemption(reason=reason, certificate=certificate) if reason else None


def show_quote(session: Session, name: Name) -> None:
    """Show one quote as a receipt, with its state."""
    receipts.show_stored_quote(session.screen, session.client.quotes.get(to_quote_name(name)))


def create_quote(
    session: Session,
    customer: Annotated[str, typer.Option("--customer", help="Id or full name of the customer.")],
    line: Annotated[list[str], typer.Option("--line", metavar="SKU=UNITS", help="May be repeated.")],
    currency_code: Currency = None,
    quote_id: Annotated[str, typer.Option("--id", help="Its id (default: chosen by the server).")] = "",
    shipping: Shipping = "",
    shipping_method: Method = "",
    coupon: Codes = None,
    tax_exempt: Exempt = "",
    tax_certificate: Certificate = "",
    until: Until = "",
    note: Annotated[str, typer.Option("--note", help="Note, which the order gets.")] = "",
    postal_address: Address | None = None,
) -> None:
    """Create a draft at the current prices. The address is where to ship the order to."""
    currency_code = session.choose_currency(currency_code)
    quote = Quote(
        customer=to_customer_name(customer),
        lines=_build_lines(line),
        currency_code=currency_code,
        shipping_address=postal_address,
        shipping=parse_amount(shipping, currency_code=currency_code) if shipping else None,
        shipping_method=to_method_name(shipping_method),
        coupon_codes=coupon or (),
        tax_exemption=build_exemption(tax_exempt, tax_certificate),
        expire_time=parse_bound(until),
        note=note,
    )
    created = session.client.quotes.create(quote, quote_id=quote_id, **session.creation_options)
    receipts.show_stored_quote(session.screen, created)


def update_quote(
    session: Session,
    name: Name,
    line: Annotated[
        list[str] | None,
        typer.Option("--line", metavar="SKU=UNITS", help="New lines, which replace the old ones. May be repeated."),
    ] = None,
    coupon: Codes = None,
    shipping_method: Annotated[str | None, typer.Option("--shipping-method", help="Id or full name.")] = None,
    until: Until = "",
    note: Annotated[str | None, typer.Option("--note", help="Note, which the order gets.")] = None,
    clear: Clear = None,
    etag: Etag = "",
) -> None:
    """Change the given fields of a draft, and price it anew. Coupon codes, if given, replace all existing ones."""
    changes, mask = build_update(
        Quote,
        to_quote_name(name),
        etag=etag,
        clear=clear or (),
        lines=_build_lines(line) if line else None,
        coupon_codes=coupon,
        shipping_method=None if shipping_method is None else to_method_name(shipping_method),
        expire_time=parse_bound(until),
        note=note,
    )
    updated = session.client.quotes.update(changes, update_mask=mask, **session.write_options)
    receipts.show_stored_quote(session.screen, updated)


def send_quote(
    session: Session,
    name: Name,
    expected_total: Annotated[
        str, typer.Option("--expected-total", metavar="AMOUNT", help="Fail if the quote has another total now.")
    ] = "",
    etag: Etag = "",
) -> None:
    """Fix the prices of a draft: from then on it can be accepted, and not be changed."""
    quotes, full_name = session.client.quotes, to_quote_name(name)
    expected = None
    if expected_total:
        expected = parse_amount(expected_total, currency_code=quotes.get(full_name).currency_code)
    sent = quotes.send(full_name, expected_total=expected, etag=etag, **session.write_options)
    receipts.show_stored_quote(session.screen, sent)


def accept_quote(session: Session, name: Name, etag: Etag = "") -> None:
    """Place the order of a sent quote, at its prices."""
    order = session.client.quotes.accept(to_quote_name(name), etag=etag, **session.write_options)
    delivery_notes.show_order(session, order)


def _build_lines(texts: list[str]) -> list[PlaceOrderLine]:
    return [PlaceOrderLine(sku=sku, quantity=units) for sku, units in parse_order_lines(texts)]
