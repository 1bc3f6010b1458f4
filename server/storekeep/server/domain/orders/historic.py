"""Historic orders: what an order that was placed elsewhere comes to, by itself.

Refuses what does not add up, looks like an order of ours, or cannot have been. Knows no database: what is there of what
an order names is the business of `order_imports`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.money import TOTAL_MINOR_MAX, Money, share_of
from storekeep.server.domain.orders.numbers import OrderNumbers
from storekeep.server.domain.orders.orders import Order, OrderLine, decode_order
from storekeep.server.domain.orders.placing import DEFAULT_LOCATION
from storekeep.server.domain.orders.states import CANCELLED, CONFIRMED, FULFILLED

MILLION = 1_000_000
CURRENCY, AMOUNT, NUMBER_RESERVED, DOES_NOT_ADD_UP, TIME = (
    "CURRENCY",
    "AMOUNT",
    "NUMBER_RESERVED",
    "DOES_NOT_ADD_UP",
    "TIME",
)
NUMBER_TAKEN, OUT_OF_STOCK = "NUMBER_TAKEN", "OUT_OF_STOCK"
CUSTOMER_NOT_FOUND, LOCATION_NOT_FOUND, SKU_NOT_FOUND = "CUSTOMER_NOT_FOUND", "LOCATION_NOT_FOUND", "SKU_NOT_FOUND"
PROBLEMS = (
    CURRENCY,
    AMOUNT,
    NUMBER_RESERVED,
    DOES_NOT_ADD_UP,
    TIME,
    NUMBER_TAKEN,
    CUSTOMER_NOT_FOUND,
    LOCATION_NOT_FOUND,
    SKU_NOT_FOUND,
    OUT_OF_STOCK,
)
"""Why an order is refused, in the order in which it is looked for."""


@dataclass(frozen=True, slots=True)
class HistoricLine:
    """So many units of one SKU at the price of their time; see `HistoricOrderLine` in the contract.

    Attributes:
        discount_ppm: millionths of the line that were taken off, where `discount` does not say how much.
        total: what it should come to; None where that is not said.
    """

    sku: str
    quantity: int
    unit_price: Money
    discount: Money | None = None
    discount_ppm: int = 0
    cancelled: int = 0
    total: Money | None = None

    @property
    def amounts(self) -> Iterable[Money | None]:
        """All amounts that it names."""
        return self.unit_price, self.discount, self.total


@dataclass(frozen=True, slots=True)
class HistoricOrder:
    """An order that was placed elsewhere; see `HistoricOrder` in the contract.

    Attributes:
        ship_time_us: when all of it was shipped; None where nothing was.
        location_id: empty for the default one, or where open units are to be taken from wherever they are.
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


class Refused(Exception):
    """One order is left out. Nobody outside hears of it but by the result."""

    def __init__(self, problem: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Shipping:
    """How an order was shipped."""

    time_us: int
    carrier: str
    tracking_number: str


@dataclass(frozen=True, slots=True)
class Draft:
    """An order as it is going to be, before it has an id; `content` is what must be the same the next time."""

    order: Order
    shipping: Shipping | None

    @property
    def content(self) -> tuple[object, ...]:
        """What makes two imports of a number the same."""
        return content_of(self.order, self.shipping)


def draft_of(item: HistoricOrder, numbers: OrderNumbers, *, now_us: int) -> Draft:
    """An order by itself, without what it names.

    Raises: Refused.
    """
    _check_amounts(item)
    if numbers.could_make(item.number):
        raise Refused(NUMBER_RESERVED, f"{item.number} looks like a number that this server gives")
    lines = tuple(_line(number, line, item) for number, line in enumerate(item.lines, start=1))
    shipping_minor = item.shipping.amount_minor if item.shipping else 0
    total_minor = _total(item, lines, shipping_minor)
    if max(item.order_time_us, item.ship_time_us or 0) > now_us:
        raise Refused(TIME, "it was placed or shipped in the future")
    if item.ship_time_us is not None and item.ship_time_us < item.order_time_us:
        raise Refused(TIME, "it was shipped before it was placed")
    order = Order(
        id="",
        customer_id=item.customer_id,
        state=_state(lines),
        currency_code=item.currency_code,
        total_minor=total_minor,
        location_id=item.location_id or DEFAULT_LOCATION,
        shipping_address=item.shipping_address,
        external_reference="",
        note=item.note,
        cancel_reason="",
        version=1,
        create_time_us=item.order_time_us,
        update_time_us=now_us,
        number=item.number,
        shipping_minor=shipping_minor,
        lines=lines,
    )
    if order.state != FULFILLED or item.ship_time_us is None:
        return Draft(order, None)
    return Draft(order, Shipping(item.ship_time_us, item.carrier, item.tracking_number))


def _check_amounts(item: HistoricOrder) -> None:
    """Raises: Refused."""
    for amount in chain((item.shipping, item.total), chain.from_iterable(line.amounts for line in item.lines)):
        if amount is not None and amount.currency_code != item.currency_code:
            raise Refused(CURRENCY, f"an amount is in {amount.currency_code}, the order in {item.currency_code}")


def _line(number: int, line: HistoricLine, item: HistoricOrder) -> OrderLine:
    """A line with what it costs.

    Raises: Refused.
    """
    if line.cancelled > line.quantity:
        raise Refused(AMOUNT, f"line {number}: {line.cancelled} units are cancelled of {line.quantity}")
    kept = line.quantity - line.cancelled
    price_minor = line.unit_price.amount_minor
    discount_minor = _discount_minor(line, gross_minor=kept * price_minor)
    built = OrderLine(
        line_number=number,
        sku=line.sku,
        display_name="",
        quantity=line.quantity,
        unit_price_minor=price_minor,
        subtotal_minor=line.quantity * price_minor,
        discount_minor=discount_minor,
        fulfilled=0 if item.ship_time_us is None else kept,
        cancelled=line.cancelled,
    )
    if built.total_minor < 0:
        raise Refused(AMOUNT, f"line {number}: the discount is more than the line costs")
    if line.total is not None and line.total.amount_minor != built.total_minor:
        raise Refused(
            DOES_NOT_ADD_UP, f"line {number} costs {built.total_minor} minor units, not {line.total.amount_minor}"
        )
    return built


def _discount_minor(line: HistoricLine, *, gross_minor: int) -> int:
    """Return the discount of a line, as it is stated or by its rate: what is left to pay is rounded."""
    if line.discount is not None:
        return line.discount.amount_minor
    return gross_minor - share_of(gross_minor, MILLION - line.discount_ppm, MILLION)


def _total(item: HistoricOrder, lines: Iterable[OrderLine], shipping_minor: int) -> int:
    """What all of it costs.

    Raises: Refused.
    """
    total_minor = shipping_minor + sum(line.total_minor for line in lines)
    if total_minor > TOTAL_MINOR_MAX:
        raise Refused(AMOUNT, "the total is more than an order can cost")
    if item.total is not None and item.total.amount_minor != total_minor:
        raise Refused(DOES_NOT_ADD_UP, f"it adds up to {total_minor} minor units, not {item.total.amount_minor}")
    return total_minor


def _state(lines: Sequence[OrderLine]) -> str:
    if any(line.open for line in lines):
        return CONFIRMED
    return FULFILLED if any(line.fulfilled for line in lines) else CANCELLED


def content_of(order: Order, shipping: Shipping | None) -> tuple[object, ...]:
    """What of an order an import says, with nothing of this server's own."""
    lines = tuple(
        (line.sku, line.quantity, line.unit_price_minor, line.discount_minor, line.fulfilled, line.cancelled)
        for line in order.lines
    )
    return (
        order.customer_id,
        order.currency_code,
        order.location_id,
        order.shipping_address,
        order.note,
        order.create_time_us,
        order.shipping_minor,
        lines,
        shipping,
    )


def stored_content(first: bytes, ship_time_us: int | None, carrier: str, tracking_number: str) -> tuple[object, ...]:
    """The content of an order as it was at first, whatever has become of it since."""
    order = decode_order(first)
    if ship_time_us is None or not any(line.fulfilled for line in order.lines):
        return content_of(order, None)
    return content_of(order, Shipping(ship_time_us, carrier, tracking_number))
