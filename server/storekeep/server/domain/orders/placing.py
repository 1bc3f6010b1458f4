"""Placement of orders: freezes the prices and allocates the stock of all lines in one transaction.

SKUs must be for sale; the customer and the location must exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from storekeep.server.domain.addresses import check_address
from storekeep.server.domain.calls import Call
from storekeep.server.domain.catalog.quantity_rules import NO_RULES, check_quantities
from storekeep.server.domain.errors import (
    CouponNotApplicable,
    CurrencyMismatch,
    InvalidField,
    NotForSale,
    PriceChanged,
    SkuNotFound,
)
from storekeep.server.domain.money import Money, format_amount, get_minor_digits
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.baskets import NO_PRICING, Offers, read_basket
from storekeep.server.domain.orders.new_orders import DEFAULT_LOCATION, NewOrder
from storekeep.server.domain.orders.numbers import OrderNumbers
from storekeep.server.domain.orders.order_reads import OrderReads, read_for_order
from storekeep.server.domain.orders.orders import (
    DELIVERED_BEFORE_SHIPPED,
    Order,
    OrderLine,
    insert_order,
    is_reversed,
)
from storekeep.server.domain.orders.price_sheets import is_for_sheet, price_by_sheet
from storekeep.server.domain.orders.pricing import freeze_terms
from storekeep.server.domain.orders.references import require_reference, require_unused_reference
from storekeep.server.domain.orders.repricing import apply_pricing, calculate_total, sum_lines
from storekeep.server.domain.orders.states import PLACED
from storekeep.server.domain.pricing.baskets import USED_UP, AppliedPromotion
from storekeep.server.domain.pricing.calculation import price_basket
from storekeep.server.domain.pricing.counts import claim_use
from storekeep.server.domain.pricing.terms import DEFAULT_RULES, CouponCode, Promotion, Rules
from storekeep.server.domain.standard.resources import MICROS, new_id
from storekeep.server.domain.stock.allocations import RequestedLine, SourceLocations, allocate_stock
from storekeep.server.domain.stock.reservations import commit_to_order
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction


@dataclass(frozen=True, slots=True)
class PlacingRules:
    """The rules of one installation for new orders.

    Attributes:
        numbers: the format of order numbers.
        unpaid_ttl_s: seconds until an order that is not confirmed expires; 0 for no expiry.
        pricing: the settings of the calculation.
    """

    numbers: OrderNumbers
    unpaid_ttl_s: int
    pricing: Rules = DEFAULT_RULES


def place_order(db: Store, call: Call, new: NewOrder, *, rules: PlacingRules) -> Order:
    """Place an order: freeze its prices and allocate its stock, all lines or none.

    Raises: InvalidField, UnknownCurrency, CustomerNotFound, LocationNotFound, ResourceDeleted, SkuNotFound, NotForSale,
        CurrencyMismatch, QuantityNotAllowed, CouponNotApplicable, InvalidAmount, PriceChanged, ReferenceTaken,
        ReservationNotFound, IllegalState, OutOfStock, and the errors of `mutate`.
    """
    check_request(new)

    def effect(mutation: Mutation) -> Order:
        tx = mutation.tx
        reads = read_for_order(tx, new)
        order = _start_by_sheet(tx, new, reads, rules) if reads.version else None
        if order is None:
            order = _start_by_terms(tx, new, reads, rules)
        check_expected_total(new.expected_total, order)
        order = finish_order(mutation, new, order, reads.source_locations, numbers=rules.numbers)
        reads.count_units(tx)
        return order

    subject = None if new.reservation_ids else new
    return mutate(db, call, effect, Order, subject=subject)


def check_request(new: NewOrder) -> None:
    """Raise unless the values of a new order agree, whatever is stored.

    Raises: UnknownCurrency, InvalidField.
    """
    get_minor_digits(new.currency_code, field="currency_code")
    if is_reversed(new.ship_by_time_us, new.deliver_by_time_us):
        raise InvalidField("deliver_by_time", DELIVERED_BEFORE_SHIPPED)
    if new.unique_reference:
        require_reference(new.external_reference)
    check_address(new.shipping_address, field="shipping_address")
    check_address(new.billing_address, field="billing_address")
    check_address(new.pricing.tax_address, field="tax_address")


def start_order(
    tx: Transaction, new: NewOrder, reads: OrderReads, *, amounts: Mapping[str, Any], unpaid_ttl_s: int
) -> Order:
    """Return a new order without a number.

    Args:
        amounts: its lines, its total and the other fields of `Order` with amounts, by name.
    """
    return Order(
        id=new_id(),
        customer_id=new.customer_id,
        state=PLACED,
        currency_code=new.currency_code,
        location_id=new.location_id or DEFAULT_LOCATION,
        shipping_address=new.shipping_address,
        external_reference=new.external_reference,
        note=new.note,
        cancel_reason="",
        version=1,
        create_time_us=tx.now_us,
        update_time_us=tx.now_us,
        expire_time_us=tx.now_us + unpaid_ttl_s * MICROS if unpaid_ttl_s else None,
        billing_address=new.billing_address,
        email=reads.contact[0],
        phone=reads.contact[1],
        language_code=reads.language_code,
        labels=new.labels,
        ship_by_time_us=new.ship_by_time_us,
        deliver_by_time_us=new.deliver_by_time_us,
        source=new.source,
        unique_reference=new.unique_reference,
        **amounts,
    )


def finish_order(
    mutation: Mutation, new: NewOrder, order: Order, source_locations: SourceLocations, *, numbers: OrderNumbers
) -> Order:
    """Allocate the stock of a priced order, number it and store it.

    Raises: ReferenceTaken, ReservationNotFound, IllegalState, OutOfStock.
    """
    if new.unique_reference:
        require_unused_reference(mutation.tx, (new.source, new.external_reference))
    _take_stock(mutation, new, order.id, order.lines, source_locations)
    order = replace(order, number=numbers.make(mutation.next_sequence))
    insert_order(mutation.tx, order)
    mutation.record("order.placed", before=None, after=order)
    return order


def _start_by_sheet(tx: Transaction, new: NewOrder, reads: OrderReads, rules: PlacingRules) -> Order | None:
    """Return a new order with its price by a sheet; None if its price needs more than a sheet has.

    Raises: SkuNotFound, NotForSale, QuantityNotAllowed, CouponNotApplicable, InvalidAmount.
    """
    if not is_for_sheet(new):
        return None
    check_for_sale(reads.offers)
    check_offered_quantities(reads.units, reads.offers)
    priced = price_by_sheet(tx, new, reads, rules.pricing)
    if priced is None:
        return None
    amounts = sum_lines(priced.lines, priced.pricing)
    order = start_order(tx, new, reads, amounts=amounts, unpaid_ttl_s=rules.unpaid_ttl_s)
    _claim_uses(tx, order, priced.promotions, priced.coupons, priced.pricing.applied)
    return order


def _start_by_terms(tx: Transaction, new: NewOrder, reads: OrderReads, rules: PlacingRules) -> Order:
    """Return a new order with its price by all that is configured.

    Raises: SkuNotFound, NotForSale, CurrencyMismatch, QuantityNotAllowed, InvalidAmount, InvalidField,
        CouponNotApplicable.
    """
    lines = price_lines(new.lines, reads.offers, currency_code=new.currency_code, requires_price=not reads.version)
    shipping_minor = _check_shipping(new)
    check_offered_quantities(reads.units, reads.offers)
    amounts = {
        "lines": lines,
        "shipping_minor": shipping_minor,
        "total_minor": calculate_total(lines, shipping_minor=shipping_minor),
    }
    order = start_order(tx, new, reads, amounts=amounts, unpaid_ttl_s=rules.unpaid_ttl_s)
    if not reads.version and new.pricing == NO_PRICING:
        return order
    return _price(tx, order, new, reads, rules.pricing)


def _price(tx: Transaction, order: Order, new: NewOrder, reads: OrderReads, rules: Rules) -> Order:
    """Return a new order with its price by all that is configured, and with these terms.

    Raises: CurrencyMismatch, InvalidField, CouponNotApplicable, InvalidAmount.
    """
    basket, applying = read_basket(
        tx,
        new.lines,
        reads.offers,
        new.pricing,
        customer_id=new.customer_id,
        currency_code=new.currency_code,
        shipping_minor=None if new.shipping is None else new.shipping.amount_minor,
        address=new.pricing.tax_address or new.shipping_address or new.billing_address,
        rules=rules,
        version=reads.version,
        facts=reads.facts,
        prices=reads.prices,
    )
    priced = price_basket(basket, applying)
    for refused in priced.refused_codes:
        raise CouponNotApplicable(refused.code, problem=refused.problem)
    order = apply_pricing(order, freeze_terms(basket, applying, priced, tax_address=new.pricing.tax_address))
    _claim_uses(tx, order, applying.promotions, applying.coupons, priced.promotions)
    return order


def _claim_uses(
    tx: Transaction,
    order: Order,
    promotions: Iterable[Promotion],
    coupons: Mapping[str, CouponCode],
    applied: Sequence[AppliedPromotion],
) -> None:
    """Count the uses of the promotions and coupons of a new order.

    Args:
        coupons: by code.

    Raises: CouponNotApplicable.
    """
    if not applied:
        return
    with_code = {one.promotion for one in applied if one.code}
    counted = {
        one.name: one
        for one in promotions
        if one.name in with_code or one.uses_max is not None or one.budget_minor is not None
    }
    for one in applied:
        if one.promotion not in counted:
            continue
        claimed = claim_use(
            tx,
            counted[one.promotion],
            coupons.get(one.code),
            order_id=order.id,
            customer_id=order.customer_id,
            discount_minor=one.discount_minor,
        )
        if not claimed:
            raise CouponNotApplicable(one.code, problem=USED_UP)


def check_expected_total(expected: Money | None, order: Order) -> None:
    """Raise unless the order costs what the caller expects.

    Raises: CurrencyMismatch, PriceChanged.
    """
    if expected is None:
        return
    if expected.currency_code != order.currency_code:
        raise CurrencyMismatch("expected_total", f"the order is priced in {order.currency_code}")
    if expected.amount_minor != order.total_minor:
        raise PriceChanged(
            currency_code=order.currency_code,
            expected_minor=expected.amount_minor,
            total_minor=order.total_minor,
            expected=format_amount(expected.amount_minor, order.currency_code),
            total=format_amount(order.total_minor, order.currency_code),
        )


def check_offered_quantities(units: dict[str, int], offered: Offers) -> None:
    """Raise unless the units of each SKU keep its quantity rules.

    Args:
        units: SKU -> ordered units.

    Raises: QuantityNotAllowed.
    """
    rules = [(sku, offer.quantity_rules) for sku, offer in offered.items() if offer.quantity_rules != NO_RULES]
    if rules:
        check_quantities(units, rules)


def _take_stock(
    mutation: Mutation, new: NewOrder, order_id: str, lines: Iterable[OrderLine], source_locations: SourceLocations
) -> None:
    """Allocate the stock of all lines, first from the order's reservations.

    Raises: ReservationNotFound, IllegalState, OutOfStock.
    """
    requested = [RequestedLine(line.line_number, line.sku, line.quantity) for line in lines]
    if new.reservation_ids:
        commit_to_order(mutation, new.reservation_ids, order_id, requested, location_id=new.location_id)
        return
    order = f"orders/{order_id}"
    allocate_stock(mutation, order, requested, location_id=new.location_id, source_locations=source_locations)


def _check_shipping(new: NewOrder) -> int:
    """Return the shipping cost in minor units.

    Raises: CurrencyMismatch.
    """
    if new.shipping is None:
        return 0
    if new.shipping.currency_code != new.currency_code:
        raise CurrencyMismatch("shipping", f"the order is priced in {new.currency_code}")
    return new.shipping.amount_minor


def price_lines(
    lines: Sequence[tuple[str, int]],
    offered: Offers,
    *,
    currency_code: str,
    first: int = 1,
    field: str = "lines",
    requires_price: bool = True,
) -> tuple[OrderLine, ...]:
    """Return order lines at the current prices of the variants.

    Args:
        lines: (SKU, units) of each line.
        offered: the offer of each SKU.
        first: the number of the first line.
        field: the request field that contains the lines, for the error.
        requires_price: whether each variant needs a price; otherwise a missing one is 0.

    Raises: SkuNotFound, NotForSale, CurrencyMismatch.
    """
    check_for_sale(offered)
    priced = []
    for index, (sku, quantity) in enumerate(lines):
        offer = offered[sku]
        price_minor = offer.price_minor
        if price_minor is None and not requires_price:
            price_minor = 0
        if price_minor is None:
            raise CurrencyMismatch(f"{field}[{index}].sku", f"{sku} has no price in {currency_code}")
        priced.append(OrderLine(first + index, sku, offer.display_name, quantity, price_minor, quantity * price_minor))
    return tuple(priced)


def check_for_sale(offered: Offers) -> None:
    """Raise the error for the first SKU, in alphabetical order, that is missing or not for sale.

    Raises: SkuNotFound, NotForSale.
    """
    if all(offer.for_sale for offer in offered.values()):
        return
    for sku in sorted(offered):
        if offered[sku].for_sale is None:
            raise SkuNotFound(sku)
    for sku in sorted(offered):
        if not offered[sku].for_sale:
            raise NotForSale(sku)
