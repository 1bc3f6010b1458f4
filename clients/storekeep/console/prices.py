"""Pages of prices beside those of variants, and what a variant has cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from storekeep.client import LowestPrice, Price
from storekeep.console.forms import FormField
from storekeep.console.listings import NOTHING, Shown, fetch_part, try_fetch
from storekeep.console.rendering import format_money, format_time
from storekeep.console.requests import Request, quote_filter
from storekeep.console.resources import Column, Filter, Kind

READ, WRITE = "pricing.read", "pricing.write"
HISTORY_MAX = 50
PRICES_MAX = 50
FIELDS = (
    FormField("sku", "SKU", only_new=True, picker="skus"),
    FormField("amount", "Price of a unit", kind="amount", hint="such as 4.50 EUR; a change keeps the currency"),
    FormField("customer_group", "Customer group", hint="empty: everyone"),
    FormField("minimum_quantity", "From units", kind="whole"),
    FormField("start_time", "Begins", kind="time", hint="empty: at once"),
    FormField("end_time", "Ends", kind="time", hint="empty: never"),
    FormField("compare_at", "Crossed-out price", kind="amount"),
    FormField("floor", "Lowest price after discounts", kind="amount"),
)
KIND = Kind(
    "prices",
    "price",
    "Prices",
    Price,
    select=lambda client: client.prices,
    id_parameter="price_id",
    read=READ,
    write=WRITE,
    fields=FIELDS,
    columns=(
        Column("Price", lambda request, price: format_money(price.amount, request.locale), is_number=True),
        Column("Group", lambda _, price: price.customer_group or "Everyone"),
        Column("From units", lambda request, price: request.count(max(1, price.minimum_quantity)), is_number=True),
        Column("Begins", lambda _, price: format_time(price.start_time)),
        Column("Ends", lambda _, price: format_time(price.end_time)),
    ),
    hint="There are no prices beside those of variants: for a group of customers, a quantity or a span of time.",
    delete_text="New orders no longer have this price. Existing orders keep it, and it can be restored.",
    filters=(Filter("sku", "SKU", "sku", picker="skus"), Filter("group", "Customer group", "customer_group")),
    get_title=lambda price: price.sku,
)


@dataclass(frozen=True)
class PriceFacts:
    """What is known of the prices of a SKU.

    Attributes:
        special: prices beside those of the variant.
        history: prices that it has had, the latest first.
        lowest: the lowest price of the last 30 days, by currency.
    """

    special: Shown
    history: Shown
    lowest: Mapping[str, LowestPrice]


def read_facts(request: Request, sku: str, currencies: list[str]) -> PriceFacts | None:
    """Return the prices of a SKU; None if the person may not read them."""
    if not request.session.may(READ):
        return None
    prices = request.session.client.prices
    special = prices.list(filter=f"sku = {quote_filter(sku)}", page_size=PRICES_MAX)
    history = prices.list_history(sku, page_size=HISTORY_MAX)
    lowest = {code: try_fetch(partial(prices.get_lowest, sku, code), None) for code in currencies}
    return PriceFacts(
        try_fetch(lambda: fetch_part(special), NOTHING),
        try_fetch(lambda: fetch_part(history), NOTHING),
        {code: price for code, price in lowest.items() if price is not None},
    )


ROUTES = KIND.make_routes()
