"""Imports of historic orders: each is taken over whole, or refused for itself.

Refuses a number that another order has, and what names something that is not there. What was shipped takes no stock;
what is open is allocated as any order's is. Invariant: a batch costs a fixed number of statements, and an order that
was imported before changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import InvalidField
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.fulfillments import SHIPPED, Fulfillment, FulfillmentLine, insert_fulfillments
from storekeep.server.domain.orders.historic import (
    CUSTOMER_NOT_FOUND,
    LOCATION_NOT_FOUND,
    NUMBER_TAKEN,
    OUT_OF_STOCK,
    SKU_NOT_FOUND,
    Draft,
    HistoricOrder,
    Refused,
    Shipping,
    draft_of,
    stored_content,
)
from storekeep.server.domain.orders.numbers import OrderNumbers
from storekeep.server.domain.orders.orders import Order, insert_orders
from storekeep.server.domain.standard.resources import new_id
from storekeep.server.domain.stock.allocations import ALLOCATE, Share, Wanted, add_up, levels_to_take_from, spread_sku
from storekeep.server.domain.stock.expiry import expire_batch_of
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import order_imports as store
from storekeep.server.store.tables import stock as inventory_store

LINES_MAX = 1000
"""Lines of all orders of a batch together."""
IMPORTED, ALREADY_THERE, REFUSED = "IMPORTED", "ALREADY_THERE", "REFUSED"


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


Item = HistoricOrder | Result
"""An order of a batch, or the result that it has already, as its amounts cannot be read."""


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
        draft = draft_of(item, numbers, now_us=tx.now_us)
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


# -- what it names


def _look_up(tx: Transaction, orders: Sequence[HistoricOrder]) -> _There:
    locations = {order.location_id for order in orders if order.location_id}
    skus = {line.sku for order in orders for line in order.lines}
    names = store.VARIANT_NAMES.all(tx, skus=_texts(skus))
    found = store.FIND_IMPORTED.all(tx, numbers=_texts({order.number for order in orders}))
    return _There(
        contents={number: (order_id, stored_content(first, *shipping)) for number, order_id, first, *shipping in found},
        customers=frozenset(
            customer
            for (customer,) in store.CUSTOMERS_THERE.all(tx, ids=_texts({order.customer_id for order in orders}))
        ),
        locations={
            location: bool(deleted) for location, deleted in store.LOCATIONS_THERE.all(tx, ids=_texts(locations))
        },
        names={sku: f"{product}, {variant}" if variant else product for sku, product, variant in names},
    )


def _require_parties(item: HistoricOrder, there: _There) -> None:
    """Raises: Refused."""
    if item.customer_id not in there.customers:
        raise Refused(CUSTOMER_NOT_FOUND, f"no such customer: customers/{item.customer_id}")
    deleted = there.locations.get(item.location_id) if item.location_id else False
    if deleted is None or (deleted and item.ship_time_us is None):
        raise Refused(LOCATION_NOT_FOUND, f"no such location: locations/{item.location_id}")
    missing = sorted({line.sku for line in item.lines} - there.names.keys())
    if missing:
        raise Refused(SKU_NOT_FOUND, f"no such SKU: {', '.join(missing)}")


def _named(draft: Draft, names: dict[str, str]) -> Order:
    """The order with an id, and with what its lines are called today."""
    lines = tuple(msgspec.structs.replace(line, display_name=names[line.sku]) for line in draft.order.lines)
    return msgspec.structs.replace(draft.order, id=new_id(), lines=lines)


def _fulfillment(order: Order, shipping: Shipping, *, now_us: int) -> Fulfillment:
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

    Where it cannot do for all of them, what has expired is expired first; see `expiry`.
    """

    def __init__(self, mutation: Mutation, orders: Iterable[HistoricOrder]) -> None:
        wanted: dict[tuple[str, str], int] = defaultdict(int)
        for order in orders:
            for line in order.lines if order.ship_time_us is None else ():
                wanted[line.sku, order.location_id] += line.quantity
                wanted[line.sku, ""] += line.quantity if order.location_id else 0
        skus = sorted({sku for sku, _ in wanted})
        self._levels = levels_to_take_from(mutation.tx, skus) if skus else {}
        while (short := self._short(wanted)) and expire_batch_of(mutation, short):
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
    insert_orders(mutation.tx, batch.orders)
    if batch.fulfillments:
        insert_fulfillments(mutation.tx, batch.fulfillments)
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
    why = (ALLOCATE, "", mutation.call.caller.subject)
    movements = []
    for source, share in shares:
        level = share.location_id, share.sku
        deltas = (0, 0, share.quantity, on_hand[level])
        movements.append((*level, share.line_number, *deltas, *why, source, tx.now_us))
    inventory_store.INSERT_MOVEMENTS.run_later(tx, movements)


def _texts(texts: Iterable[str]) -> str:
    return _json(sorted(texts))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
