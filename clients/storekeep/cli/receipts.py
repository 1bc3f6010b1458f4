"""What an order costs, as a receipt: lines, discounts, shipping, taxes and the total."""

from __future__ import annotations

from collections.abc import Iterable

from storekeep.cli.cells import format_amount, format_cell, format_percent
from storekeep.cli.screens import Screen
from storekeep.client import OrderDiscount, OrderLine, PriceDetails, Quote, QuoteOrderResponse, TaxAmount, to_decimal

PROBLEMS = {
    "UNKNOWN": "unknown",
    "EXPIRED": "it or its promotion has ended, or the promotion is not active yet",
    "USED_UP": "it is used up",
    "USED_BY_CUSTOMER": "the customer has used it",
    "CONDITIONS_NOT_MET": "the order does not meet the conditions of its promotion",
    "EXCLUDED": "another discount applies instead",
}
COLUMNS = ("units", "sku", "display_name", "unit_price", "discount", "total", "tax")


def show_quote(screen: Screen, quote: QuoteOrderResponse) -> None:
    """Show a quote as a receipt, or as it is in other formats."""
    if not screen.has_default_layout:
        screen.show_message(quote)
        return
    screen.show_rows([_build_row(line) for line in quote.lines], columns=COLUMNS)
    screen.show_facts(list_price_facts(quote.price_details))
    for refused in quote.refused_codes:
        problem = format_cell(refused, "problem")
        screen.show_notice(f"The code {refused.code} does not apply: {PROBLEMS.get(problem, problem)}.")


def show_stored_quote(screen: Screen, quote: Quote) -> None:
    """Show a stored quote as a receipt with its state, or as it is in other formats."""
    if not screen.has_default_layout:
        screen.show_message(quote)
        return
    screen.show_rows([_build_row(line) for line in quote.priced_lines], columns=COLUMNS)
    facts = [
        (field.replace("_", " "), format_cell(quote, field)) for field in ("name", "state", "customer", "expire_time")
    ]
    facts += [(field, format_cell(quote, field)) for field in ("order", "note") if getattr(quote, field)]
    screen.show_facts([*facts, *list_price_facts(quote.price_details)])


def list_price_facts(details: PriceDetails) -> Iterable[tuple[str, str]]:
    """Yield what a total consists of, from the subtotal to the total."""
    reduced = to_decimal(details.discount_total)
    yield "subtotal before discounts" if reduced else "subtotal", format_amount(details.subtotal)
    for discount in details.discounts:
        yield f"- {_name_discount(discount)}", f"-{format_amount(discount.amount)}"
    if reduced and not details.discounts:
        yield "- discounts", f"-{format_amount(details.discount_total)}"
    if details.HasField("shipping"):
        yield "shipping", format_amount(details.shipping.price)
    if not details.prices_include_tax:
        yield "net", format_amount(details.net_total)
    for tax in details.taxes:
        yield _name_tax(tax, included=details.prices_include_tax), format_amount(tax.amount)
    if not details.taxes and to_decimal(details.tax_total):
        yield "included tax" if details.prices_include_tax else "tax", format_amount(details.tax_total)
    if details.HasField("tax_exemption"):
        exemption = details.tax_exemption
        yield "exempt from tax", " ".join(filter(None, (exemption.reason, exemption.certificate)))
    if details.prices_include_tax:
        yield "net", format_amount(details.net_total)
    yield "total", format_amount(details.gross_total)


def _build_row(line: OrderLine) -> tuple[str, ...]:
    return (
        str(line.quantity),
        line.sku,
        line.display_name,
        format_amount(line.unit_price),
        format_cell(line, "discount"),
        format_amount(line.total),
        ", ".join(_format_rate(tax) for tax in line.taxes),
    )


def _name_discount(discount: OrderDiscount) -> str:
    """Return the name of a promotion, with the code that it needed."""
    name = discount.display_name or discount.promotion.rpartition("/")[2]
    return f"{name} ({discount.code.upper()})" if discount.code else name


def _name_tax(tax: TaxAmount, *, included: bool) -> str:
    """Return the name of a tax with its rate, such as `included VAT 19 %`."""
    return f"{'included ' if included else ''}{tax.display_name or 'tax'} {_format_rate(tax)}"


def _format_rate(tax: TaxAmount) -> str:
    """Return a rate in percent, such as `8.875 %`."""
    return f"{format_percent(tax.rate_ppm)}{' (exempt)' if tax.exempt else ''}"
