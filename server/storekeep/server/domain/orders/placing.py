"""Placing orders: with frozen prices and promised stock, all lines or none.

Refuses what is not for sale or not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import (
    CurrencyMismatch,
    CustomerNotFound,
    InvalidAmount,
    LocationNotFound,
    NotForSale,
    ResourceDeleted,
    SkuNotFound,
)
from storekeep.server.domain.money import TOTAL_MINOR_MAX, Money, minor_digits
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.numbers import OrderNumbers
from storekeep.server.domain.orders.orders import ROWS, Order, OrderLine, insert_lines, row_values
from storekeep.server.domain.orders.states import PLACED
from storekeep.server.domain.standard.resources import new_id
from storekeep.server.domain.stock.allocations import Places, Wanted, add_up, allocate_stock
from storekeep.server.domain.stock.reservations import commit_to_order
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import orders as store

DEFAULT_LOCATION = "main"
"""Where stock is taken from when an order does not say; made with the database."""
MICROS = 1_000_000
encode = msgspec.json.encode
Offers = dict[str, list[object]]
"""SKU -> what `OFFER` says of it: the names of its product and its own, its price, whether it is for sale."""


class NewOrder(msgspec.Struct, frozen=True):
    """What somebody wants to order.

    Attributes:
        lines: (SKU, units), in the customer's order; a SKU may stand on several.
        location_id: where the stock is taken from; empty to choose, see `allocations`.
        reservation_id: whose stock is taken first; empty without one.
        shipping: what sending it costs, in the order's currency; None for nothing.
    """

    customer_id: str
    lines: tuple[tuple[str, int], ...]
    currency_code: str
    location_id: str = ""
    shipping_address: Address | None = None
    external_reference: str = ""
    note: str = ""
    shipping: Money | None = None
    reservation_id: str = ""


@dataclass(frozen=True, slots=True)
class PlacingRules:
    """What one installation gives to each new order.

    Attributes:
        numbers: how its number looks.
        unpaid_ttl_s: seconds until it expires unless it is confirmed; 0 for never.
    """

    numbers: OrderNumbers
    unpaid_ttl_s: int


def place_order(db: Store, call: Call, new: NewOrder, *, rules: PlacingRules) -> Order:
    """Place an order: freeze its prices, promise its stock, all lines or none.

    Raises: UnknownCurrency, CustomerNotFound, LocationNotFound, ResourceDeleted, SkuNotFound, NotForSale,
        CurrencyMismatch, InvalidAmount, ReservationNotFound, IllegalState, OutOfStock, and those of `mutate`.
    """
    minor_digits(new.currency_code, field="currency_code")

    def effect(mutation: Mutation) -> Order:
        tx = mutation.tx
        location_id = new.location_id or DEFAULT_LOCATION
        offered, places = _offers(tx, new, location_id)
        lines = price_lines(new.lines, offered, currency_code=new.currency_code)
        shipping_minor = _shipping_minor(new)
        total_minor = total_of(lines, shipping_minor=shipping_minor)
        order_id = new_id()
        wanted = [Wanted(line.line_number, line.sku, line.quantity) for line in lines]
        if new.reservation_id:
            commit_to_order(mutation, new.reservation_id, order_id, wanted, location_id=new.location_id)
        else:
            allocate_stock(mutation, f"orders/{order_id}", wanted, location_id=new.location_id, places=places)
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
            lines=lines,
        )
        _insert(tx, order)
        mutation.record("order.placed", before=None, after=order)
        return order

    return mutate(db, call, effect, Order)


def _shipping_minor(new: NewOrder) -> int:
    """What sending it costs, in minor units.

    Raises: CurrencyMismatch.
    """
    if new.shipping is None:
        return 0
    if new.shipping.currency_code != new.currency_code:
        raise CurrencyMismatch("shipping", f"the order is priced in {new.currency_code}")
    return new.shipping.amount_minor


def _offers(tx: Transaction, new: NewOrder, location_id: str) -> tuple[Offers, Places]:
    """What is offered of the SKUs of an order, to a customer and from a location that are there; and where it is.

    Raises: CustomerNotFound, LocationNotFound, ResourceDeleted.
    """
    rows = store.OFFER.all(
        tx,
        customer_id=new.customer_id,
        location_id=location_id,
        taken_at=new.location_id,
        quantities=encode(add_up(new.lines)).decode(),
        currency_code=new.currency_code,
    )
    _check_parties(new, deleted=rows[0][:2])
    offers, places = {}, {}
    for _, _, sku, place, on_hand, *offer in rows:
        offers[sku] = offer
        if place is not None:
            places[sku] = (place, on_hand)
    return offers, places


def price_lines(
    lines: Sequence[tuple[str, int]], offered: Offers, *, currency_code: str, first: int = 1, field: str = "lines"
) -> tuple[OrderLine, ...]:
    """Lines at the prices of this moment.

    Args:
        lines: (SKU, units) of each.
        offered: what `OFFER` says of each SKU.
        first: the number of the first line.
        field: of the request that has the lines, for the error.

    Raises: SkuNotFound, NotForSale, CurrencyMismatch.
    """
    if not all(offer[-1] for offer in offered.values()):
        _refuse_what_is_not_for_sale(offered)
    priced = []
    for place, (sku, quantity) in enumerate(lines):
        product_name, variant_name, price_minor, _ = offered[sku]
        if not isinstance(price_minor, int):
            raise CurrencyMismatch(f"{field}[{place}].sku", f"{sku} has no price in {currency_code}")
        display_name = f"{product_name}, {variant_name}" if variant_name else str(product_name)
        priced.append(OrderLine(first + place, sku, display_name, quantity, price_minor, quantity * price_minor))
    return tuple(priced)


def _refuse_what_is_not_for_sale(offered: Offers) -> None:
    """Raises: SkuNotFound, NotForSale."""
    for sku in sorted(offered):
        if offered[sku][-1] is None:
            raise SkuNotFound(sku)
    for sku in sorted(offered):
        if not offered[sku][-1]:
            raise NotForSale(sku)


def _check_parties(new: NewOrder, *, deleted: Sequence[int | None]) -> None:
    """Refuse a customer or a location that is not there, or deleted; one that nobody named is not asked about.

    Raises: CustomerNotFound, LocationNotFound, ResourceDeleted.
    """
    customer, location = f"customers/{new.customer_id}", f"locations/{new.location_id}"
    asked = (
        (customer, deleted[0], CustomerNotFound),
        (location, deleted[1] if new.location_id else 0, LocationNotFound),
    )
    for name, time_us, not_found in asked:
        if time_us is None:
            raise not_found(name)
    for name, time_us, _ in asked:
        if time_us:
            raise ResourceDeleted(name)


def total_of(lines: Iterable[OrderLine], *, shipping_minor: int) -> int:
    """What an order costs.

    Raises: InvalidAmount.
    """
    total_minor = shipping_minor + sum([line.total_minor for line in lines])
    if total_minor > TOTAL_MINOR_MAX:
        raise InvalidAmount("lines", "the total is more than an order can cost")
    return total_minor


def _insert(tx: Transaction, order: Order) -> None:
    ROWS.insert(tx, row_values(order))
    insert_lines(tx, order.id, order.lines)
