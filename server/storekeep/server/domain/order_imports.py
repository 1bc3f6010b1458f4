"""Historic orders: taken over from elsewhere with their own numbers, dates and prices.

Refuses, each for itself, orders that do not add up, whose number is taken or looks like one of ours, or that name what
is not there. What was shipped takes no stock; what is open is allocated as any order's is. Invariant: a batch costs a
fixed number of statements, and an order that was imported before changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import msgspec

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.allocations import Share, Wanted, add_up, levels_to_take_from, spread_sku
from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import InvalidField
from storekeep.server.domain.expiry import end_due_of
from storekeep.server.domain.fulfillments import SHIPPED, Fulfillment, FulfillmentLine
from storekeep.server.domain.money import TOTAL_MINOR_MAX, Money
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.order_numbers import OrderNumbers
from storekeep.server.domain.order_placing import DEFAULT_LOCATION
from storekeep.server.domain.order_states import CANCELLED, CONFIRMED, FULFILLED
from storekeep.server.domain.orders import NO_ADDRESS, Order, OrderLine, decode_order
from storekeep.server.domain.resources import new_id
from storekeep.server.store import inventory as inventory_store
from storekeep.server.store import order_imports as store
from storekeep.server.store.database import Transaction
from storekeep.server.store.engine import Store

LINES_MAX = 1000
"""Lines of all orders of a batch together."""
MILLION = 1_000_000
IMPORTED, ALREADY_THERE, REFUSED = "IMPORTED", "ALREADY_THERE", "REFUSED"
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


class Result(msgspec.Struct, frozen=True):
    """What became of one historic order.

    Attributes:
        order: the resource name of what is there now; empty where it was refused.
        problem: why it was refused, and `detail` the particulars; empty where it was not.
    """

    number: str
    outcome: str
    order: str = ""
    problem: str = ""
    detail: str = ""


def refused(number: str, problem: str, detail: str) -> Result:
    """The result of an order that was left out."""
    return Result(number, REFUSED, problem=problem, detail=detail)


class Refused(Exception):
    """One order is left out. Never leaves this module: its result says so."""

    def __init__(self, problem: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem


Item = HistoricOrder | Result
"""An order of a batch, or the result that it has already, as its amounts cannot be read."""


@dataclass(frozen=True, slots=True)
class _Shipping:
    """How an order was shipped."""

    time_us: int
    carrier: str
    tracking_number: str


@dataclass(frozen=True, slots=True)
class _Draft:
    """An order as it is going to be, before it has an id; `content` is what must be the same the next time."""

    order: Order
    shipping: _Shipping | None

    @property
    def content(self) -> tuple[object, ...]:
        """What makes two imports of a number the same."""
        return _content_of(self.order, self.shipping)


@dataclass(slots=True)
class _There:
    """What a batch finds in the database.

    Attributes:
        contents: number -> id and content of the order that has it.
        locations: id -> whether it is deleted.
        names: SKU -> what a line calls it.
    """

    contents: dict[str, tuple[str, tuple[object, ...]]]
    customers: frozenset[str]
    locations: dict[str, bool]
    names: dict[str, str]


@dataclass(slots=True)
class _Batch:
    """What a batch is going to write."""

    orders: list[Order] = field(default_factory=list)
    fulfillments: list[Fulfillment] = field(default_factory=list)
    shares: list[tuple[str, Share]] = field(default_factory=list)


def import_orders(db: Store, call: Call, items: Sequence[Item], *, numbers: OrderNumbers) -> tuple[Result, ...]:
    """Import a batch of historic orders, each whole or not at all; gives what became of each.

    Raises: InvalidField for too many lines, and those of `mutate`.
    """
    orders = [item for item in items if isinstance(item, HistoricOrder)]
    if sum(len(order.lines) for order in orders) > LINES_MAX:
        raise InvalidField("orders", f"they have more than {LINES_MAX} lines together")

    def effect(mutation: Mutation) -> tuple[Result, ...]:
        there = _look_up(mutation.tx, orders)
        stock = _Stock(mutation, orders)
        batch = _Batch()
        results = tuple(_result(mutation.tx, item, numbers, there, stock, batch) for item in items)
        _write(mutation, batch)
        return results

    return mutate(db, call, effect, tuple[Result, ...])


def _result(tx: Transaction, item: Item, numbers: OrderNumbers, there: _There, stock: _Stock, batch: _Batch) -> Result:
    """Take one order into the batch, unless it is there already or has to be refused."""
    if isinstance(item, Result):
        return item
    try:
        draft = _draft(item, numbers, now_us=tx.now_us)
        known = there.contents.get(item.number)
        if known is not None:
            order_id, content = known
            if content == draft.content:
                return Result(item.number, ALREADY_THERE, order=f"orders/{order_id}")
            raise Refused(NUMBER_TAKEN, f"orders/{order_id} has the number, with another content")
        _require_parties(item, there)
        order = _named(draft, there.names)
        batch.shares += [(order.name, share) for share in stock.take(order, location_id=item.location_id)]
    except Refused as refusal:
        return refused(item.number, refusal.problem, str(refusal))
    there.contents[item.number] = (order.id, draft.content)
    batch.orders.append(order)
    if draft.shipping is not None:
        batch.fulfillments.append(_fulfillment(order, draft.shipping, now_us=tx.now_us))
    return Result(item.number, IMPORTED, order=order.name)


# -- what an order is


def _draft(item: HistoricOrder, numbers: OrderNumbers, *, now_us: int) -> _Draft:
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
        return _Draft(order, None)
    return _Draft(order, _Shipping(item.ship_time_us, item.carrier, item.tracking_number))


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
    discount_minor = (
        _part_of(kept * price_minor, line.discount_ppm) if line.discount is None else line.discount.amount_minor
    )
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


def _part_of(gross_minor: int, discount_ppm: int) -> int:
    """What a rate takes off, such that what is left is rounded half up."""
    return gross_minor - (2 * gross_minor * (MILLION - discount_ppm) + MILLION) // (2 * MILLION)


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


def _content_of(order: Order, shipping: _Shipping | None) -> tuple[object, ...]:
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


# -- what it names


def _look_up(tx: Transaction, orders: Sequence[HistoricOrder]) -> _There:
    locations = {order.location_id or DEFAULT_LOCATION for order in orders}
    skus = {line.sku for order in orders for line in order.lines}
    names = store.VARIANT_NAMES.all(tx, skus=_texts(skus))
    found = store.FIND_IMPORTED.all(tx, numbers=_texts({order.number for order in orders}))
    return _There(
        contents={
            number: (order_id, _stored_content(first, *shipping)) for number, order_id, first, *shipping in found
        },
        customers=frozenset(
            customer
            for (customer,) in store.CUSTOMERS_THERE.all(tx, ids=_texts({order.customer_id for order in orders}))
        ),
        locations={
            location: bool(deleted) for location, deleted in store.LOCATIONS_THERE.all(tx, ids=_texts(locations))
        },
        names={sku: f"{product}, {variant}" if variant else product for sku, product, variant in names},
    )


def _stored_content(first: bytes, ship_time_us: int | None, carrier: str, tracking_number: str) -> tuple[object, ...]:
    """The content of an order as it was at first, whatever has become of it since."""
    order = decode_order(first)
    shipped = any(line.fulfilled for line in order.lines) and ship_time_us is not None
    return _content_of(order, _Shipping(ship_time_us, carrier, tracking_number) if shipped and ship_time_us else None)


def _require_parties(item: HistoricOrder, there: _There) -> None:
    """Raises: Refused."""
    if item.customer_id not in there.customers:
        raise Refused(CUSTOMER_NOT_FOUND, f"no such customer: customers/{item.customer_id}")
    deleted = there.locations.get(item.location_id or DEFAULT_LOCATION)
    if deleted is None or (deleted and item.ship_time_us is None):
        raise Refused(LOCATION_NOT_FOUND, f"no such location: locations/{item.location_id or DEFAULT_LOCATION}")
    missing = sorted({line.sku for line in item.lines} - there.names.keys())
    if missing:
        raise Refused(SKU_NOT_FOUND, f"no such SKU: {', '.join(missing)}")


def _named(draft: _Draft, names: dict[str, str]) -> Order:
    """The order with an id, and with what its lines are called today."""
    lines = tuple(msgspec.structs.replace(line, display_name=names[line.sku]) for line in draft.order.lines)
    return msgspec.structs.replace(draft.order, id=new_id(), lines=lines)


def _fulfillment(order: Order, shipping: _Shipping, *, now_us: int) -> Fulfillment:
    """All that was shipped of an order, as one fulfilment."""
    return Fulfillment(
        id=new_id(),
        order_id=order.id,
        location_id=order.location_id,
        state=SHIPPED,
        carrier=shipping.carrier,
        tracking_number=shipping.tracking_number,
        ship_time_us=shipping.time_us,
        deliver_time_us=None,
        version=1,
        create_time_us=shipping.time_us,
        update_time_us=now_us,
        lines=tuple(
            FulfillmentLine(line.line_number, line.fulfilled, line.sku) for line in order.lines if line.fulfilled
        ),
    )


# -- what open ones take


class _Stock:
    """The stock that the open orders of a batch can take: read once, taken order by order, written together.

    Where it cannot do for all of them, promises whose time is up are ended first; see `expiry`.
    """

    def __init__(self, mutation: Mutation, orders: Iterable[HistoricOrder]) -> None:
        wanted: dict[tuple[str, str], int] = defaultdict(int)
        for order in orders:
            for line in order.lines if order.ship_time_us is None else ():
                wanted[line.sku, order.location_id] += line.quantity
                wanted[line.sku, ""] += line.quantity if order.location_id else 0
        skus = sorted({sku for sku, _ in wanted})
        self._levels = levels_to_take_from(mutation.tx, skus) if skus else {}
        while (short := self._short(wanted)) and end_due_of(mutation, short):
            self._levels = levels_to_take_from(mutation.tx, skus)

    def _short(self, wanted: Mapping[tuple[str, str], int]) -> list[str]:
        """SKUs of which there is too little at a location, or at all of them ('')."""
        short = {sku for (sku, place), units in wanted.items() if units > sum(self._levels_at(sku, place).values())}
        return sorted(short)

    def take(self, order: Order, *, location_id: str) -> list[Share]:
        """Take what is open of an order, all or nothing.

        Args:
            location_id: where all of it is taken from; empty for wherever it is.

        Raises: Refused.
        """
        wanted = [Wanted(line.line_number, line.sku, line.open) for line in order.lines if line.open]
        quantities = add_up((line.sku, line.quantity) for line in wanted)
        there = {sku: self._levels_at(sku, location_id) for sku in quantities}
        short = [
            f"{units} of {sku} are open, {sum(there[sku].values())} are available"
            for sku, units in quantities.items()
            if units > sum(there[sku].values())
        ]
        if short:
            raise Refused(OUT_OF_STOCK, "; ".join(short))
        shares: list[Share] = []
        for sku in quantities:
            shares += spread_sku([line for line in wanted if line.sku == sku], there[sku])
            self._levels[sku].update(there[sku])
        return shares

    def _levels_at(self, sku: str, location_id: str) -> dict[str, int]:
        """Location -> units, of one location or of all."""
        return {place: units for place, units in self._levels[sku].items() if location_id in ("", place)}


# -- writing


def _write(mutation: Mutation, batch: _Batch) -> None:
    """Write all that was taken into a batch, each table once."""
    if not batch.orders:
        return
    tx = mutation.tx
    store.INSERT_ORDERS.run_later(tx, orders=_json([_order_row(order) for order in batch.orders]), now_us=tx.now_us)
    store.INSERT_LINES_OF.run_later(tx, lines=_json([row for order in batch.orders for row in _line_rows(order)]))
    if batch.fulfillments:
        store.INSERT_SHIPMENTS.run_later(tx, fulfillments=_json([_fulfillment_row(one) for one in batch.fulfillments]))
        lines = [(one.id, line.line_number, line.quantity) for one in batch.fulfillments for line in one.lines]
        store.INSERT_SHIPMENT_LINES.run_later(tx, lines=_json(lines))
    if batch.shares:
        _allocate(mutation, batch.shares)
    mutation.record_new("order.imported", batch.orders)
    mutation.record_new("fulfillment.imported", batch.fulfillments)


def _allocate(mutation: Mutation, shares: Sequence[tuple[str, Share]]) -> None:
    """Promise what was found for the lines of open orders; the database's CHECK has the last word."""
    tx = mutation.tx
    moved: dict[tuple[str, str], int] = defaultdict(int)
    for _, share in shares:
        moved[share.location_id, share.sku] += share.quantity
    moves = [(*level, 0, 0, units) for level, units in sorted(moved.items())]
    rows = inventory_store.MOVE_LEVELS.all(tx, moves=_json(moves), now_us=tx.now_us)
    on_hand = {(location, sku): units for location, sku, units in rows}
    movements = [
        (share.location_id, share.sku, share.line_number, share.quantity, on_hand[share.location_id, share.sku], source)
        for source, share in shares
    ]
    actor = mutation.call.caller.subject
    store.INSERT_ALLOCATIONS.run_later(tx, movements=_json(movements), actor=actor, now_us=tx.now_us)


def _order_row(order: Order) -> tuple[object, ...]:
    address = order.shipping_address
    return (
        order.id,
        order.customer_id,
        order.state,
        order.currency_code,
        order.total_minor,
        order.location_id,
        NO_ADDRESS if address is None else _json(address),
        order.note,
        order.create_time_us,
        order.number,
        order.shipping_minor,
    )


def _line_rows(order: Order) -> Iterable[tuple[object, ...]]:
    return ((order.id, *msgspec.structs.astuple(line), line.total_minor) for line in order.lines)


def _fulfillment_row(fulfillment: Fulfillment) -> tuple[object, ...]:
    return msgspec.structs.astuple(fulfillment)[:-1]


def _texts(texts: Iterable[str]) -> str:
    return _json(sorted(texts))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
