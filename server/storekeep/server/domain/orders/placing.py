"""Placement of orders: freezes the prices and allocates the stock of all lines in one transaction.

SKUs must be for sale; the customer and the location must exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.calls import Call
from storekeep.server.domain.catalog.quantity_rules import NO_RULES, check_quantities
from storekeep.server.domain.errors import (
    CurrencyMismatch,
    CustomerNotFound,
    InvalidAmount,
    InvalidField,
    LocationNotFound,
    NotForSale,
    ResourceDeleted,
    SkuNotFound,
)
from storekeep.server.domain.money import TOTAL_MINOR_MAX, Money, get_minor_digits
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.numbers import OrderNumbers
from storekeep.server.domain.orders.orders import (
    DELIVERED_BEFORE_SHIPPED,
    ROWS,
    Order,
    OrderLine,
    build_row_values,
    insert_lines,
    is_reversed,
)
from storekeep.server.domain.orders.references import require_reference, require_unused_reference
from storekeep.server.domain.orders.states import PLACED
from storekeep.server.domain.standard.resources import MICROS, new_id
from storekeep.server.domain.stock.allocations import RequestedLine, SourceLocations, allocate_stock, sum_quantities
from storekeep.server.domain.stock.reservations import commit_to_order
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import orders as store

DEFAULT_LOCATION = "main"
"""The location of orders without a location; created with the database."""
encode = msgspec.json.encode
Offers = dict[str, list[object]]
"""SKU -> columns of `OFFER`: product name, variant name, price in minor units, quantity rules, whether for sale."""


class _Terms(NamedTuple):
    """The stored data that a new order depends on.

    Attributes:
        source_locations: the locations that supply the SKUs.
        email: the customer's email address.
        phone: the customer's phone number.
    """

    offers: Offers
    source_locations: SourceLocations
    email: str
    phone: str


class NewOrder(msgspec.Struct, frozen=True):
    """The input of `place_order`.

    Attributes:
        lines: (SKU, units), in the customer's order; several lines may have the same SKU.
        location_id: the location that supplies all units; empty to choose, see `allocations`.
        shipping: the shipping cost, in the order's currency; None for no cost.
        email: email address for this order; empty for the customer's own.
        phone: phone number for this order; empty for the customer's own.
        reservation_ids: the reservations whose stock is used first.
        source: the system that `external_reference` comes from.
        unique_reference: whether no other order may have the same source and external reference.
    """

    customer_id: str
    lines: tuple[tuple[str, int], ...]
    currency_code: str
    location_id: str = ""
    shipping_address: Address | None = None
    external_reference: str = ""
    note: str = ""
    shipping: Money | None = None
    reservation_ids: tuple[str, ...] = ()
    billing_address: Address | None = None
    email: str = ""
    phone: str = ""
    labels: dict[str, str] = {}
    ship_by_time_us: int | None = None
    deliver_by_time_us: int | None = None
    source: str = ""
    unique_reference: bool = False


@dataclass(frozen=True, slots=True)
class PlacingRules:
    """The rules of one installation for new orders.

    Attributes:
        numbers: the format of order numbers.
        unpaid_ttl_s: seconds until an order that is not confirmed expires; 0 for no expiry.
    """

    numbers: OrderNumbers
    unpaid_ttl_s: int


def place_order(db: Store, call: Call, new: NewOrder, *, rules: PlacingRules) -> Order:
    """Place an order: freeze its prices and allocate its stock, all lines or none.

    Raises: InvalidField, UnknownCurrency, CustomerNotFound, LocationNotFound, ResourceDeleted, SkuNotFound, NotForSale,
        CurrencyMismatch, QuantityNotAllowed, InvalidAmount, ReferenceTaken, ReservationNotFound, IllegalState,
        OutOfStock, and the errors of `mutate`.
    """
    get_minor_digits(new.currency_code, field="currency_code")
    if is_reversed(new.ship_by_time_us, new.deliver_by_time_us):
        raise InvalidField("deliver_by_time", DELIVERED_BEFORE_SHIPPED)
    if new.unique_reference:
        require_reference(new.external_reference)

    def effect(mutation: Mutation) -> Order:
        tx = mutation.tx
        location_id = new.location_id or DEFAULT_LOCATION
        terms = _read_terms(tx, new, location_id)
        lines = price_lines(new.lines, terms.offers, currency_code=new.currency_code)
        shipping_minor = _check_shipping(new)
        _check_quantities(new, terms.offers)
        total_minor = calculate_total(lines, shipping_minor=shipping_minor)
        if new.unique_reference:
            require_unused_reference(tx, (new.source, new.external_reference))
        order_id = new_id()
        _take_stock(mutation, new, order_id, lines, terms.source_locations)
        number = rules.numbers.make(mutation.next_sequence)
        expire_time_us = tx.now_us + rules.unpaid_ttl_s * MICROS if rules.unpaid_ttl_s else None
        order = Order(
            id=order_id,
            customer_id=new.customer_id,
            state=PLACED,
            currency_code=new.currency_code,
            total_minor=total_minor,
            location_id=location_id,
            shipping_address=new.shipping_address,
            external_reference=new.external_reference,
            note=new.note,
            cancel_reason="",
            version=1,
            create_time_us=tx.now_us,
            update_time_us=tx.now_us,
            number=number,
            shipping_minor=shipping_minor,
            expire_time_us=expire_time_us,
            billing_address=new.billing_address,
            email=new.email or terms.email,
            phone=new.phone or terms.phone,
            labels=new.labels,
            ship_by_time_us=new.ship_by_time_us,
            deliver_by_time_us=new.deliver_by_time_us,
            source=new.source,
            unique_reference=new.unique_reference,
            lines=lines,
        )
        _insert(tx, order)
        mutation.record("order.placed", before=None, after=order)
        return order

    return mutate(db, call, effect, Order)


def _check_quantities(new: NewOrder, offered: Offers) -> None:
    """Raise unless the units of each SKU keep its quantity rules.

    Raises: QuantityNotAllowed.
    """
    rules = [(sku, offer[3]) for sku, offer in offered.items() if offer[3] != NO_RULES]
    if rules:
        check_quantities(sum_quantities(new.lines), rules)


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


def _read_terms(tx: Transaction, new: NewOrder, location_id: str) -> _Terms:
    """Check that customer and location exist; return the data that the order depends on.

    Raises: CustomerNotFound, LocationNotFound, ResourceDeleted.
    """
    rows = store.OFFER.all(
        tx,
        customer_id=new.customer_id,
        location_id=location_id,
        taken_at=new.location_id,
        quantities=encode(sum_quantities(new.lines)).decode(),
        currency_code=new.currency_code,
        now_us=tx.now_us,
    )
    _check_parties(new, deleted=rows[0][:2])
    offers, source_locations = {}, {}
    for _, _, _, _, sku, source_id, on_hand, *offer in rows:
        offers[sku] = offer
        if source_id is not None:
            source_locations[sku] = (source_id, on_hand)
    return _Terms(offers, source_locations, *rows[0][2:4])


def price_lines(
    lines: Sequence[tuple[str, int]], offered: Offers, *, currency_code: str, first: int = 1, field: str = "lines"
) -> tuple[OrderLine, ...]:
    """Return order lines at current prices.

    Args:
        lines: (SKU, units) of each line.
        offered: the offer of each SKU.
        first: the number of the first line.
        field: the request field that contains the lines, for the error.

    Raises: SkuNotFound, NotForSale, CurrencyMismatch.
    """
    if not all(offer[-1] for offer in offered.values()):
        _raise_not_for_sale(offered)
    priced = []
    for index, (sku, quantity) in enumerate(lines):
        product_name, variant_name, price_minor, _, _ = offered[sku]
        if not isinstance(price_minor, int):
            raise CurrencyMismatch(f"{field}[{index}].sku", f"{sku} has no price in {currency_code}")
        display_name = f"{product_name}, {variant_name}" if variant_name else str(product_name)
        priced.append(OrderLine(first + index, sku, display_name, quantity, price_minor, quantity * price_minor))
    return tuple(priced)


def _raise_not_for_sale(offered: Offers) -> None:
    """Raise the error for the first SKU, in alphabetical order, that is missing or not for sale.

    Raises: SkuNotFound, NotForSale.
    """
    for sku in sorted(offered):
        if offered[sku][-1] is None:
            raise SkuNotFound(sku)
    for sku in sorted(offered):
        if not offered[sku][-1]:
            raise NotForSale(sku)


def _check_parties(new: NewOrder, *, deleted: Sequence[int | None]) -> None:
    """Raise unless the customer and the requested location exist and are not deleted.

    Args:
        deleted: deletion times of customer and location: 0 if not deleted, None if missing.


    Raises: CustomerNotFound, LocationNotFound, ResourceDeleted.
    """
    customer, location = f"customers/{new.customer_id}", f"locations/{new.location_id}"
    parties = (
        (customer, deleted[0], CustomerNotFound),
        (location, deleted[1] if new.location_id else 0, LocationNotFound),
    )
    for name, time_us, not_found in parties:
        if time_us is None:
            raise not_found(name)
    for name, time_us, _ in parties:
        if time_us:
            raise ResourceDeleted(name)


def calculate_total(lines: Iterable[OrderLine], *, shipping_minor: int, field: str = "lines") -> int:
    """Return the total of an order, in minor units.

    Args:
        field: the request field that changes the total, for the error.

    Raises: InvalidAmount.
    """
    total_minor = shipping_minor + sum([line.total_minor for line in lines])
    if total_minor > TOTAL_MINOR_MAX:
        raise InvalidAmount(field, "the total is greater than the maximum of an order")
    return total_minor


def _insert(tx: Transaction, order: Order) -> None:
    ROWS.insert(tx, build_row_values(order))
    insert_lines(tx, order.id, order.lines)
