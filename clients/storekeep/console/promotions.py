"""Pages of promotions: with a preview on a sample basket, also of input that is not saved yet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from storekeep.client import (
    Promotion,
    PromotionAction,
    PromotionActionKind,
    QuoteOrderResponse,
    StorekeepError,
)
from storekeep.client.money import split_currency
from storekeep.console.forms import FormField, apply_changes, build_new
from storekeep.console.listings import fetch_part, try_fetch
from storekeep.console.rendering import (
    format_badge,
    format_count,
    format_money,
    format_share,
    format_time,
    get_state,
)
from storekeep.console.requests import (
    BadRequest,
    Faults,
    Inputs,
    Problem,
    Reply,
    Request,
    Route,
    describe_problem,
    quote_filter,
)
from storekeep.console.resources import Column, Filter, Kind
from storekeep.console.rows import Rows

READ, WRITE = "pricing.read", "pricing.write"
BASKET_ROWS = Rows("basket.sku", "SKU", range(4), units="basket.units", usual_units="1")
COUPONS_MAX = 50
PERCENTAGE = "PROMOTION_ACTION_KIND_PERCENTAGE"
AMOUNT = "PROMOTION_ACTION_KIND_AMOUNT"
FIXED_UNIT_PRICE = "PROMOTION_ACTION_KIND_FIXED_UNIT_PRICE"
BUY_X_GET_Y = "PROMOTION_ACTION_KIND_BUY_X_GET_Y"
KINDS = {
    PERCENTAGE: "Percentage off",
    AMOUNT: "Amount off",
    FIXED_UNIT_PRICE: "Fixed price of each unit",
    BUY_X_GET_Y: "Buy some, get some at a discount",
}
STATES = (("DRAFT", "Draft"), ("ACTIVE", "Active"), ("ENDED", "Ended"))
TARGETS = {
    "": "Each line",
    "PROMOTION_TARGET_UNITS": "Each unit",
    "PROMOTION_TARGET_ORDER": "The lines together",
    "PROMOTION_TARGET_SHIPPING": "The shipping",
}
FIELDS = (
    FormField("display_name", "Name"),
    FormField("action.kind", "Kind", kind="choice", choices=KINDS, heading="Discount"),
    FormField(
        "action.percentage_ppm",
        "Percentage off",
        kind="percentage",
        hint="such as 12.5",
        kinds=(PERCENTAGE, BUY_X_GET_Y),
    ),
    FormField(
        "action.amount",
        "Amount",
        kind="amount",
        hint="off, or the price of a unit: such as 5.00 EUR",
        kinds=(AMOUNT, FIXED_UNIT_PRICE),
    ),
    FormField(
        "action.target", "What the discount applies to", kind="choice", choices=TARGETS, kinds=(PERCENTAGE, AMOUNT)
    ),
    FormField(
        "action.items.skus",
        "Only these SKUs",
        kind="area",
        hint="one on each line; empty: all",
        picker="skus",
        heading="Discounted lines",
    ),
    FormField(
        "action.items.products", "Only these products", kind="products", hint="ids, one on each line", picker="products"
    ),
    FormField(
        "action.items.categories",
        "Only these categories",
        kind="categories",
        hint="ids, one on each line",
        picker="categories",
    ),
    FormField(
        "action.items.labels",
        "Only with these labels",
        kind="labels",
        hint="of the product or the variant: key=value, one on each line",
    ),
    FormField("action.items.inverted", "All lines except these", kind="flag"),
    FormField(
        "action.tiers", "Larger orders", kind="tiers", hint="such as from 10 units: 15", heading="Units and limits"
    ),
    FormField("action.buy_units", "Units to buy", kind="whole", hint="of “buy some, get some”", kinds=(BUY_X_GET_Y,)),
    FormField("action.get_units", "Units to get", kind="whole", kinds=(BUY_X_GET_Y,)),
    FormField("action.max_units", "Maximum number of discounted units", kind="whole"),
    FormField("action.max_discount", "Maximum discount of one order", kind="amount"),
    FormField(
        "currency_code", "Currency of the orders", hint="such as EUR, then amounts need none of their own; empty: all"
    ),
    FormField(
        "conditions.min_subtotal", "Orders from", kind="amount", hint="amount of all lines", heading="Conditions"
    ),
    FormField("conditions.min_units", "Units from", kind="whole"),
    FormField("conditions.customer_groups", "Customer groups", kind="area", hint="one on each line; empty: everyone"),
    FormField("conditions.first_order", "Only the first order of a customer", kind="flag"),
    FormField("requires_coupon", "Only with a coupon", kind="flag"),
    FormField("exclusive", "Applies alone, without other promotions", kind="flag"),
    FormField("priority", "Priority", kind="whole", hint="the highest applies first"),
    FormField("start_time", "Begins", kind="time", hint="empty: at once", heading="When, and how often"),
    FormField("end_time", "Ends", kind="time", hint="empty: never"),
    FormField("max_uses", "Orders at most", kind="whole", hint="empty: no limit"),
    FormField("budget", "Sum of all discounts at most", kind="amount"),
)
LABELS = {item.name: item.label for item in FIELDS} | dict(BASKET_ROWS.labels)


def read_basket(request: Request) -> dict[str, Any]:
    """Return the sample basket in the form: rows of (SKU, units), currency and customer."""
    rows = [(request.field(f"basket.sku.{row}"), request.field(f"basket.units.{row}")) for row in BASKET_ROWS.numbers]
    return {
        "rows": rows,
        "currency": request.field("basket.currency"),
        "customer": request.field("basket.customer"),
    }


def suggest_basket(request: Request, promotion: Promotion | None) -> dict[str, Any]:
    """Return the basket of the form; an example of the reduced SKUs, or of any, if there is none."""
    if "basket.currency" in request.form:
        return read_basket(request)
    skus = list(promotion.action.items.skus)[:2] if promotion is not None else []
    terms = " OR ".join(f"sku = {quote_filter(sku)}" for sku in skus) or "state = ACTIVE"
    variants: Sequence[Any] = ()
    if request.session.may("products.read"):
        listing = request.session.client.variants.list("products/-", filter=terms, page_size=2)
        variants = try_fetch(lambda: listing.page().items, ())
    currencies = [price.currency_code for variant in variants for price in variant.prices]
    currency = (promotion.currency_code if promotion is not None else "") or next(iter(currencies), "EUR")
    rows = [(variant.sku, "2") for variant in variants]
    return {
        "rows": [*rows, *[("", "1")] * len(BASKET_ROWS.numbers)][: len(BASKET_ROWS.numbers)],
        "currency": currency,
        "customer": "",
    }


def preview(request: Request, promotion: Promotion) -> dict[str, Any]:
    """Return what the sample basket costs without and with a promotion, as texts of a table.

    Raises: StorekeepError, BadRequest.
    """
    basket, faults = read_basket(request), Faults()
    lines = [(sku, units) for _, sku, units in BASKET_ROWS.read(request, faults)]
    faults.check()
    customer = basket["customer"]
    orders = request.session.client.orders
    name = f"customers/{customer.removeprefix('customers/')}" if customer else ""
    currency = basket["currency"].upper()
    absent = build_absent(promotion, currency_code=currency)
    before = orders.quote(lines=lines, currency_code=currency, customer=name, draft_promotion=absent)
    after = orders.quote(lines=lines, currency_code=currency, customer=name, draft_promotion=promotion)
    return describe_preview(before, after, name=promotion.name, locale=request.locale)


def build_absent(promotion: Promotion, *, currency_code: str) -> Promotion | None:
    """Return a draft that keeps a stored promotion out of a quote; None if it is not stored.

    A draft takes the place of the stored one with its name, and this one is for orders of another currency.
    """
    if not promotion.name:
        return None
    action = PromotionAction(kind=PromotionActionKind.PROMOTION_ACTION_KIND_PERCENTAGE, percentage_ppm=1)
    return Promotion(name=promotion.name, currency_code="EUR" if currency_code == "USD" else "USD", action=action)


def describe_preview(
    before: QuoteOrderResponse, after: QuoteOrderResponse, *, name: str, locale: str
) -> dict[str, Any]:
    """Return both prices of a basket as texts: a row for each line, the totals, and what the promotion takes off."""

    def show(money: Any) -> str:
        return format_money(money, locale)

    rows = [
        [old.display_name, format_count(old.quantity, locale), show(old.total), show(new.total)]
        for old, new in zip(before.lines, after.lines, strict=False)
    ]
    own = [one for one in after.price_details.discounts if one.promotion in (name, name or "promotions/")]
    verdict = f"It takes {show(own[0].amount)} off." if own else "It does not apply to this basket."
    return {"rows": rows, "before": show(before.total), "after": show(after.total), "verdict": verdict}


def build_extras(request: Request, promotion: Promotion | None) -> Mapping[str, Any]:
    """Return the sample basket, and the coupons of a promotion."""
    coupons = None
    if promotion is not None and request.session.may("coupons.read"):
        listing = request.session.client.coupons.list(
            filter=f"promotion = {quote_filter(promotion.name)}", order_by="create_time desc", page_size=COUPONS_MAX
        )
        coupons = try_fetch(lambda: fetch_part(listing), None)
    state = get_state(promotion.state, "PromotionState") if promotion is not None else ""
    return {"basket": suggest_basket(request, promotion), "coupons": coupons, "state": state, "result": None}


def describe_discount(promotion: Promotion, locale: str) -> str:
    """Return what a promotion gives, in a few words: `10% off`."""
    action, kind = promotion.action, FIELDS[1].read(promotion)
    amount, share = format_money(action.amount, locale), format_share(action.percentage_ppm, locale)
    buy, get = format_count(action.buy_units, locale), format_count(action.get_units, locale)
    texts = {
        PERCENTAGE: f"{share} off",
        AMOUNT: f"{amount} off",
        FIXED_UNIT_PRICE: f"{amount} for each unit",
        BUY_X_GET_Y: f"Buy {buy}, get {get} at {share} off",
    }
    return texts.get(kind, "") + (", more for larger orders" if action.tiers else "")


KIND = Kind(
    "promotions",
    "promotion",
    "Promotions",
    Promotion,
    select=lambda client: client.promotions,
    id_parameter="promotion_id",
    read=READ,
    write=WRITE,
    fields=FIELDS,
    columns=(
        Column("State", lambda _, one: format_badge(get_state(one.state, "PromotionState"))),
        Column("Discount", lambda request, one: describe_discount(one, request.locale)),
        Column("Coupon", lambda _, one: "Needed" if one.requires_coupon else ""),
        Column("Ends", lambda _, one: format_time(one.end_time)),
        Column("Orders", lambda request, one: request.count(one.uses), is_number=True),
        Column(
            "Spent", lambda request, one: format_money(one.spent, request.locale) if one.HasField("spent") else "0",
            is_number=True,
        ),
    ),
    hint="There are no promotions yet. A promotion is a discount with conditions.",
    delete_text="The promotion no longer applies. Orders keep it, and it can be restored.",
    filters=(Filter("state", "State", "state", choices=STATES),),
    template="promotion.html",
    new_template="promotion-new.html",
    extras=build_extras,
)  # fmt: skip


def add_currency(request: Request) -> Request:
    """Return the form with the currency of the orders, in capitals, also at each amount that has none."""
    currency = request.field("currency_code").upper()
    texts = {item.name: request.field(item.name) for item in FIELDS if item.kind == "amount"}
    plain = [name for name, text in texts.items() if text and not split_currency(text)[0]]
    amounts = {name: [f"{request.field(name)} {currency}"] for name in plain if currency}
    return replace(request, form={**request.form, "currency_code": [currency], **amounts})


def build_draft(request: Request) -> Promotion:
    """Return the promotion as the form has it. Raises: StorekeepError, BadRequest."""
    if "resource" not in request.parameters:
        return build_new(FIELDS, request, Promotion())
    current = request.session.client.promotions.get(KIND.get_name(request))
    return apply_changes(FIELDS, request, current)[0]


def save(request: Request) -> Reply:
    """Create or change a promotion; or show what the form would do. Raises: StorekeepError, BadRequest."""
    request = add_currency(request)
    if request.field("step") != "preview":
        return KIND.update(request) if "resource" in request.parameters else KIND.create(request)
    result = preview(request, build_draft(request))
    if "resource" not in request.parameters:
        values = [(item, request.field(item.name)) for item in FIELDS]
        extras = {**build_extras(request, None), "result": result}
        return request.page("promotion-new.html", title="New promotion", kind=KIND, fields=values, **extras)
    item = request.session.client.promotions.get(KIND.get_name(request))
    values = [(field, request.field(field.name)) for field in FIELDS]
    extras = {**build_extras(request, item), "result": result}
    title = KIND.get_title(item)
    return request.page("promotion.html", title=title, kind=KIND, item=item, fields=values, conflict=[], **extras)


def answer_preview(request: Request) -> Reply:
    """Return the preview as JSON, for the script of the page."""
    try:
        answer: Mapping[str, Any] = preview(request, build_draft(add_currency(request)))
    except (StorekeepError, BadRequest) as error:
        problem = describe_problem(error, Inputs(LABELS), locale=request.locale) or Problem("")
        texts = [f"{LABELS[name]}: {text}" for name, text in problem.by_field.items()]
        answer = {"problem": [*texts, *problem.details] or [problem.message]}
    return Reply(200, json.dumps(answer).encode(), [(b"content-type", b"application/json; charset=utf-8")])


def link_promotion(request: Request, name: str) -> Markup:
    """Return a link to a promotion."""
    return request.link(name, name.removeprefix("promotions/"))


ROUTES = (
    Route("POST", "/promotions/new", save, WRITE, KIND.show_new),
    Route("POST", "/promotions/new/preview", answer_preview, READ),
    Route("POST", "/promotions/{resource}", save, WRITE, KIND.show),
    Route("POST", "/promotions/{resource}/preview", answer_preview, READ),
    *KIND.make_routes(),
)
