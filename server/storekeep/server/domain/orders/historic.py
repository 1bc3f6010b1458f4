"""Historic orders: checks and conversion of orders that were placed in another system.

Refuses wrong totals, impossible times and numbers in this server's own format. Does not use the database; `imports`
checks that the customers, locations and SKUs exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import msgspec
from msgspec.structs import replace as replace_fields

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.keys.personal_fields import hide_values
from storekeep.server.domain.money import TOTAL_MINOR_MAX, Money, prorate_amount
from storekeep.server.domain.orders.new_orders import DEFAULT_LOCATION
from storekeep.server.domain.orders.numbers import OrderNumbers
from storekeep.server.domain.orders.orders import (
    DELIVERED_BEFORE_SHIPPED,
    Order,
    OrderLine,
    decode_order,
    is_reversed,
)
from storekeep.server.domain.orders.pricing import StatedTax
from storekeep.server.domain.orders.prorating import NOTHING, freeze_amounts
from storekeep.server.domain.orders.references import Reference
from storekeep.server.domain.orders.states import CANCELLED, CONFIRMED, FULFILLED, PARTIALLY_FULFILLED

MILLION = 1_000_000
CURRENCY, AMOUNT, NUMBER_RESERVED, DOES_NOT_ADD_UP, TIME = (
    "CURRENCY",
    "AMOUNT",
    "NUMBER_RESERVED",
    "DOES_NOT_ADD_UP",
    "TIME",
)
NUMBER_TAKEN, REFERENCE_TAKEN, OUT_OF_STOCK = "NUMBER_TAKEN", "REFERENCE_TAKEN", "OUT_OF_STOCK"
CUSTOMER_NOT_FOUND, LOCATION_NOT_FOUND, SKU_NOT_FOUND = "CUSTOMER_NOT_FOUND", "LOCATION_NOT_FOUND", "SKU_NOT_FOUND"
PROBLEMS = (
    CURRENCY,
    AMOUNT,
    NUMBER_RESERVED,
    DOES_NOT_ADD_UP,
    TIME,
    NUMBER_TAKEN,
    REFERENCE_TAKEN,
    CUSTOMER_NOT_FOUND,
    LOCATION_NOT_FOUND,
    SKU_NOT_FOUND,
    OUT_OF_STOCK,
)
"""Reasons to refuse an order, in the order of the checks."""


@dataclass(frozen=True, slots=True)
class HistoricTax:
    """A tax as another system charged it. `rate_ppm` is 0 if it is not known."""

    display_name: str
    rate_ppm: int
    amount: Money


@dataclass(frozen=True, slots=True)
class HistoricLine:
    """A quantity of one SKU at its historic price; see `HistoricOrderLine` in the contract.

    Attributes:
        discount_ppm: the discount in millionths of the line's price; ignored if `discount` is set.
        shipped: the units shipped at the ship time; None for all that are not cancelled.
        total: the expected total, without tax that is added; None to skip the check.
        tax: of the units that are not cancelled; None for the sum of `taxes`.
        taxes: what `tax` is made of; empty if it is not known.
    """

    sku: str
    quantity: int
    unit_price: Money
    discount: Money | None = None
    discount_ppm: int = 0
    cancelled: int = 0
    shipped: int | None = None
    total: Money | None = None
    tax: Money | None = None
    taxes: tuple[HistoricTax, ...] = ()

    @property
    def amounts(self) -> Iterable[Money | None]:
        """Return all amounts of the line; None for a missing one."""
        return self.unit_price, self.discount, self.total, self.tax, *[tax.amount for tax in self.taxes]


@dataclass(frozen=True, slots=True)
class HistoricOrder:
    """An order that was placed in another system; see `HistoricOrder` in the contract.

    Attributes:
        ship_time_us: when the shipped units of the lines were shipped; None if nothing was shipped.
        location_id: empty for the default location; open units are then allocated from any location.
        source: the system that `external_reference` comes from.
        unique_reference: whether no other order may have the same source and external reference.
        shipping_tax: None for the sum of `shipping_taxes`.
        shipping_taxes: what it is made of; empty if it is not known.
        prices_include_tax: whether tax is a part of prices, discounts and shipping, or is added to them.
    """

    number: str
    customer_id: str
    currency_code: str
    order_time_us: int
    lines: tuple[HistoricLine, ...]
    shipping: Money | None = None
    ship_time_us: int | None = None
    carrier: str = ""
    tracking_number: str = ""
    shipping_address: Address | None = None
    note: str = ""
    location_id: str = ""
    total: Money | None = None
    billing_address: Address | None = None
    email: str = ""
    phone: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    language_code: str = ""
    ship_by_time_us: int | None = None
    deliver_by_time_us: int | None = None
    external_reference: str = ""
    source: str = ""
    unique_reference: bool = False
    shipping_tax: Money | None = None
    prices_include_tax: bool = False
    shipping_taxes: tuple[HistoricTax, ...] = ()

    @property
    def is_cancelled(self) -> bool:
        """Return whether all units are cancelled, so that the order costs nothing."""
        return all(line.cancelled >= line.quantity for line in self.lines)

    @property
    def has_open_units(self) -> bool:
        """Return whether units may be neither shipped nor cancelled, for which stock is allocated."""
        return self.ship_time_us is None or any(
            line.shipped is not None and line.shipped < line.quantity - line.cancelled for line in self.lines
        )

    @property
    def reference(self) -> Reference:
        """Return its source and external reference."""
        return self.source, self.external_reference


class OrderRefused(Exception):
    """An order of a batch cannot be imported. The import catches this error and returns a `Result`."""

    def __init__(self, problem: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem


class Shipping(msgspec.Struct, frozen=True):
    """The shipment of an order, decoded from the JSON of its fulfilment."""

    time_us: int = msgspec.field(name="ship_time_us")
    carrier: str
    tracking_number: str


decode_shipping = msgspec.json.Decoder(Shipping).decode


@dataclass(frozen=True, slots=True)
class ImportedOrder:
    """A new order without an id, and its shipment. `shipping` is None if nothing was shipped."""

    order: Order
    shipping: Shipping | None

    def extract_content(self, *, hides: bool) -> tuple[object, ...]:
        """Return the values that a repeated import of the same number must match; see `extract_content`."""
        return extract_content(self.order, self.shipping, hides=hides)


def build_imported_order(item: HistoricOrder, numbers: OrderNumbers, *, now_us: int) -> ImportedOrder:
    """Check a historic order and build the order to import.

    Raises: OrderRefused.
    """
    _check_amounts(item)
    if numbers.matches_format(item.number):
        raise OrderRefused(NUMBER_RESERVED, f"{item.number} has the format of the numbers that this server assigns")
    lines = tuple(_build_line(number, line, item) for number, line in enumerate(item.lines, start=1))
    if item.is_cancelled:
        item = replace(item, shipping=None, shipping_tax=None, shipping_taxes=())
    shipping_minor = item.shipping.amount_minor if item.shipping else 0
    shipping_tax_minor = _find_tax(item.shipping_tax, item.shipping_taxes, what="the shipping")
    if item.prices_include_tax and shipping_tax_minor > shipping_minor:
        raise OrderRefused(AMOUNT, "the tax of the shipping is greater than the shipping, which includes it")
    tax_minor = shipping_tax_minor + sum(line.tax_minor for line in lines)
    total_minor = _calculate_total(item, lines, shipping_minor, tax_minor=tax_minor)
    if max(item.order_time_us, item.ship_time_us or 0) > now_us:
        raise OrderRefused(TIME, "the order or ship time is in the future")
    if item.ship_time_us is not None and item.ship_time_us < item.order_time_us:
        raise OrderRefused(TIME, "the ship time is before the order time")
    if is_reversed(item.ship_by_time_us, item.deliver_by_time_us):
        raise OrderRefused(TIME, f"deliver_by_time {DELIVERED_BEFORE_SHIPPED}")
    order = Order(
        id="",
        customer_id=item.customer_id,
        state=_derive_state(lines),
        currency_code=item.currency_code,
        total_minor=total_minor,
        location_id=item.location_id or DEFAULT_LOCATION,
        shipping_address=item.shipping_address,
        external_reference=item.external_reference,
        note=item.note,
        cancel_reason="",
        version=1,
        create_time_us=item.order_time_us,
        update_time_us=now_us,
        number=item.number,
        shipping_minor=shipping_minor,
        billing_address=item.billing_address,
        email=item.email,
        phone=item.phone,
        language_code=item.language_code,
        labels=dict(item.labels),
        ship_by_time_us=item.ship_by_time_us,
        deliver_by_time_us=item.deliver_by_time_us,
        source=item.source,
        unique_reference=item.unique_reference,
        tax_minor=tax_minor,
        shipping_tax_minor=shipping_tax_minor,
        prices_include_tax=item.prices_include_tax,
        lines=lines,
    )
    if item.shipping_taxes or any(line.taxes for line in item.lines):
        taxes = [_state_taxes(line.taxes) for line in item.lines]
        order = replace_fields(order, pricing=freeze_amounts(order, taxes, _state_taxes(item.shipping_taxes)))
    if item.ship_time_us is None or not any(line.fulfilled for line in lines):
        return ImportedOrder(order, None)
    return ImportedOrder(order, Shipping(item.ship_time_us, item.carrier, item.tracking_number))


def _check_amounts(item: HistoricOrder) -> None:
    """Raise unless all amounts are in the order's currency.

    Raises: OrderRefused.
    """
    own = (item.shipping, item.shipping_tax, item.total, *[tax.amount for tax in item.shipping_taxes])
    for amount in chain(own, chain.from_iterable(line.amounts for line in item.lines)):
        if amount is not None and amount.currency_code != item.currency_code:
            raise OrderRefused(CURRENCY, f"an amount is in {amount.currency_code}, the order in {item.currency_code}")


def _build_line(number: int, line: HistoricLine, item: HistoricOrder) -> OrderLine:
    """Build a line with its discount, total and tax.

    Raises: OrderRefused.
    """
    if line.cancelled > line.quantity:
        raise OrderRefused(AMOUNT, f"line {number}: {line.cancelled} of {line.quantity} units are cancelled")
    active = line.quantity - line.cancelled
    shipped = _count_shipped(number, line, item, active=active)
    price_minor = line.unit_price.amount_minor
    discount_minor = _compute_discount(line, gross_minor=active * price_minor)
    built = OrderLine(
        line_number=number,
        sku=line.sku,
        display_name="",
        quantity=line.quantity,
        unit_price_minor=price_minor,
        subtotal_minor=line.quantity * price_minor,
        discount_minor=discount_minor,
        fulfilled=shipped,
        cancelled=line.cancelled,
        tax_minor=_find_tax(line.tax, line.taxes, what=f"line {number}"),
    )
    if built.total_minor < 0:
        raise OrderRefused(AMOUNT, f"line {number}: the discount is greater than the line's price")
    if built.tax_minor and not active:
        raise OrderRefused(AMOUNT, f"line {number}: all units are cancelled, but there is a tax")
    if item.prices_include_tax and built.tax_minor > built.total_minor:
        raise OrderRefused(AMOUNT, f"line {number}: the tax is greater than the line's total, which includes it")
    if line.total is not None and line.total.amount_minor != built.total_minor:
        raise OrderRefused(
            DOES_NOT_ADD_UP,
            f"line {number}: the total is {built.total_minor} minor units, not {line.total.amount_minor}",
        )
    return built


def _find_tax(stated: Money | None, taxes: Sequence[HistoricTax], *, what: str) -> int:
    """Return the tax of a line or of the shipping, in minor units.

    Raises: OrderRefused.
    """
    sum_minor = sum([tax.amount.amount_minor for tax in taxes])
    if stated is None:
        return sum_minor
    if taxes and stated.amount_minor != sum_minor:
        raise OrderRefused(DOES_NOT_ADD_UP, f"{what}: the taxes are {sum_minor} minor units, not {stated.amount_minor}")
    return stated.amount_minor


def _state_taxes(taxes: Iterable[HistoricTax]) -> tuple[StatedTax, ...]:
    return tuple([StatedTax(tax.display_name, tax.rate_ppm, tax.amount.amount_minor) for tax in taxes])


def _count_shipped(number: int, line: HistoricLine, item: HistoricOrder, *, active: int) -> int:
    """Return the shipped units of a line.

    Args:
        active: the units that are not cancelled.

    Raises: OrderRefused.
    """
    if item.ship_time_us is None:
        if line.shipped:
            raise OrderRefused(AMOUNT, f"line {number}: {line.shipped} units are shipped, but there is no ship time")
        return 0
    if line.shipped is not None and line.shipped > active:
        raise OrderRefused(AMOUNT, f"line {number}: {line.shipped} units are shipped, more than the {active} remaining")
    return active if line.shipped is None else line.shipped


def _compute_discount(line: HistoricLine, *, gross_minor: int) -> int:
    """Return the stated discount or compute it from its rate. The amount to pay is rounded, not the discount."""
    if line.discount is not None:
        return line.discount.amount_minor
    return gross_minor - prorate_amount(gross_minor, MILLION - line.discount_ppm, MILLION)


def _calculate_total(item: HistoricOrder, lines: Iterable[OrderLine], shipping_minor: int, *, tax_minor: int) -> int:
    """Return the total of the order, in minor units.

    Raises: OrderRefused.
    """
    added_tax_minor = 0 if item.prices_include_tax else tax_minor
    total_minor = shipping_minor + added_tax_minor + sum(line.total_minor for line in lines)
    if total_minor > TOTAL_MINOR_MAX:
        raise OrderRefused(AMOUNT, "the total is greater than the maximum of an order")
    if item.total is not None and item.total.amount_minor != total_minor:
        raise OrderRefused(DOES_NOT_ADD_UP, f"the total is {total_minor} minor units, not {item.total.amount_minor}")
    return total_minor


def _derive_state(lines: Sequence[OrderLine]) -> str:
    shipped = any(line.fulfilled for line in lines)
    if any(line.open for line in lines):
        return PARTIALLY_FULFILLED if shipped else CONFIRMED
    return FULFILLED if shipped else CANCELLED


def extract_content(order: Order, shipping: Shipping | None, *, hides: bool) -> tuple[object, ...]:
    """Return the imported values of an order, without the values that this server adds.

    The shipping of a cancelled order, which earlier releases kept, does not count.

    Args:
        hides: whether to omit personal data, for a caller that may not read it: else the outcome of an import would
            tell whether the caller guessed it.
    """
    if hides:
        order = hide_values(order)
        shipping = None if shipping is None else replace_fields(shipping, tracking_number="")
    has_shipping = order.state != CANCELLED
    pricing = order.pricing
    lines = tuple(
        (
            line.sku,
            line.quantity,
            line.unit_price_minor,
            line.discount_minor,
            line.fulfilled,
            line.cancelled,
            line.tax_minor,
        )
        for line in order.lines
    )
    return (
        order.customer_id,
        order.currency_code,
        order.location_id,
        order.shipping_address,
        order.note,
        order.source,
        order.external_reference,
        order.create_time_us,
        order.shipping_minor if has_shipping else 0,
        order.shipping_tax_minor if has_shipping else 0,
        () if pricing is None else tuple([one.taxes for one in (*pricing.stated, pricing.stated_shipping or NOTHING)]),
        order.prices_include_tax,
        order.billing_address,
        order.email,
        order.phone,
        order.language_code,
        order.labels,
        order.ship_by_time_us,
        order.deliver_by_time_us,
        lines,
        shipping,
    )


def decode_content(first: bytes | None, first_fulfillment: bytes | None, *, hides: bool) -> tuple[object, ...]:
    """Return the imported values of a stored order, whatever has changed since.

    Args:
        first: the order as JSON, from its first audit entry.
        first_fulfillment: its first fulfilment as JSON, from its first audit entry; None if there is none.
        hides: see `extract_content`.
    """
    order = decode_order(first or b"null")
    if first_fulfillment is None or not any(line.fulfilled for line in order.lines):
        return extract_content(order, None, hides=hides)
    return extract_content(order, decode_shipping(first_fulfillment), hides=hides)
