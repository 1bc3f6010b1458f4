"""Imports of batches of historic orders. Each order is imported completely or refused with a problem.

Numbers must be unused; customers, locations and SKUs must exist. Shipped units take no stock; open units are allocated
as usual. Invariant: a batch runs a fixed number of statements, and repeating an import of an order changes nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import InvalidField
from storekeep.server.domain.keys.personal_fields import decrypt_copies
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.fulfillments import SHIPPED, Fulfillment, FulfillmentLine, insert_fulfillments
from storekeep.server.domain.orders.historic import (
    CUSTOMER_NOT_FOUND,
    LOCATION_NOT_FOUND,
    NUMBER_TAKEN,
    OUT_OF_STOCK,
    REFERENCE_TAKEN,
    SKU_NOT_FOUND,
    HistoricOrder,
    ImportedOrder,
    OrderRefused,
    Shipping,
    build_imported_order,
    decode_content,
)
from storekeep.server.domain.orders.numbers import OrderNumbers
from storekeep.server.domain.orders.orders import Order, insert_orders
from storekeep.server.domain.orders.references import Reference, find_references, require_reference
from storekeep.server.domain.standard.resources import new_id
from storekeep.server.domain.stock.allocations import (
    ALLOCATE,
    RequestedLine,
    Share,
    move_levels,
    read_available_units,
    split_lines,
    sum_quantities,
)
from storekeep.server.domain.stock.expiry import expire_batch_by_sku
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.statements import Row
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import order_imports as store
from storekeep.server.store.tables import stock as inventory_store

LINES_MAX = 1000
"""The maximum number of lines in a batch, over all its orders."""
IMPORTED, ALREADY_THERE, REFUSED = "IMPORTED", "ALREADY_THERE", "REFUSED"


class TakenUnits(NamedTuple):
    """Units of a SKU that orders of a dry run would allocate.

    Attributes:
        location_id: their location; empty for any location.
    """

    sku: str
    location_id: str
    quantity: int


class Result(msgspec.Struct, frozen=True):
    """The outcome of importing one historic order.

    Attributes:
        order: the resource name of the imported order; empty if it was refused.
        problem: the reason for the refusal, one of `PROBLEMS`; empty if the order was imported.
        detail: a description of the problem for people.
        taken: in a dry run, the units that the order would allocate.
    """

    number: str
    outcome: str
    order: str = ""
    problem: str = ""
    detail: str = ""
    taken: tuple[TakenUnits, ...] = ()


def build_refusal(number: str, problem: str, detail: str) -> Result:
    """Return the result of a refused order."""
    return Result(number, REFUSED, problem=problem, detail=detail)


Item = HistoricOrder | Result
"""An order of a batch, or its result if its amounts were invalid and it is refused already."""


@dataclass(slots=True)
class _Existing:
    """The existing rows that a batch refers to.

    Attributes:
        hides: whether the imported values omit personal data, which the caller may not read.
        contents: order number -> id and imported values of the order with this number.
        references: reference -> id of an order that has it, for those that must be unique and for those of the batch.
        customers: customer id -> whether the customer is erased.
        locations: location id -> whether the location is deleted.
        names: SKU -> display name for order lines.
    """

    hides: bool
    contents: dict[str, tuple[str, tuple[object, ...]]]
    references: dict[Reference, str]
    customers: dict[str, bool]
    locations: dict[str, bool]
    names: dict[str, str]


@dataclass(slots=True)
class _Batch:
    """The rows that a batch will write.

    Attributes:
        shares: (order name, allocation) of each open line and location.
    """

    orders: list[Order] = field(default_factory=list)
    fulfillments: list[Fulfillment] = field(default_factory=list)
    shares: list[tuple[str, Share]] = field(default_factory=list)


def import_orders(
    db: Store, call: Call, items: Sequence[Item], *, numbers: OrderNumbers, taken: Sequence[TakenUnits] = ()
) -> tuple[Result, ...]:
    """Import a batch of historic orders, each completely or not at all. Return one result for each item, in order.

    Args:
        taken: for a dry run, the units that orders of earlier calls would have allocated: the `taken` of their results.

    Raises: InvalidField for too many lines, a missing reference, or units taken outside of a dry run, and the errors of
        `mutate`.
    """
    if taken and not call.validate_only:
        raise InvalidField("taken_units", "only a dry run (validate_only) has earlier calls that stored nothing")
    orders = [item for item in items if isinstance(item, HistoricOrder)]
    if sum(len(order.lines) for order in orders) > LINES_MAX:
        raise InvalidField("orders", f"the orders of a batch can have at most {LINES_MAX} lines together")
    for index, item in enumerate(items):
        if isinstance(item, HistoricOrder) and item.unique_reference:
            require_reference(item.external_reference, field=f"orders[{index}].external_reference")

    def effect(mutation: Mutation) -> tuple[Result, ...]:
        existing = _read_existing(mutation.tx, orders, hides=not call.caller.reads_personal_data)
        stock = _Stock(mutation, orders, taken)
        batch = _Batch()
        results = tuple(_process_item(mutation.tx, item, numbers, existing, stock, batch) for item in items)
        _write(mutation, batch)
        return _add_taken(results, batch.shares) if call.validate_only else results

    return mutate(db, call, effect, tuple[Result, ...])


def _process_item(
    tx: Transaction, item: Item, numbers: OrderNumbers, existing: _Existing, stock: _Stock, batch: _Batch
) -> Result:
    """Add one order to the batch, unless it was imported before or is refused. Return its result."""
    if isinstance(item, Result):
        return item
    try:
        imported = build_imported_order(item, numbers, now_us=tx.now_us)
        duplicate = existing.contents.get(item.number)
        if duplicate is not None:
            order_id, content = duplicate
            if content == imported.extract_content(hides=existing.hides):
                return Result(item.number, ALREADY_THERE, order=f"orders/{order_id}")
            raise OrderRefused(NUMBER_TAKEN, f"orders/{order_id} has this number and different content")
        if item.unique_reference and item.reference in existing.references:
            raise OrderRefused(REFERENCE_TAKEN, f"orders/{existing.references[item.reference]} has this reference")
        _check_references(item, existing)
        order = _assign_identity(imported, existing.names)
        batch.shares += [(order.name, share) for share in stock.take(order, location_id=item.location_id)]
    except OrderRefused as refusal:
        return build_refusal(item.number, refusal.problem, str(refusal))
    existing.contents[item.number] = (order.id, imported.extract_content(hides=existing.hides))
    existing.references.setdefault(item.reference, order.id)
    batch.orders.append(order)
    if imported.shipping is not None:
        batch.fulfillments.append(_build_fulfillment(order, imported.shipping, now_us=tx.now_us))
    return Result(item.number, IMPORTED, order=order.name)


def _add_taken(results: Sequence[Result], shares: Iterable[tuple[str, Share]]) -> tuple[Result, ...]:
    """Return the results of a dry run with the units that each order would allocate.

    Args:
        shares: (order name, allocation) of each open line and location.
    """
    units: defaultdict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for name, share in shares:
        units[name][share.sku, share.location_id] += share.quantity
    return tuple(
        result
        if result.outcome != IMPORTED
        else msgspec.structs.replace(
            result, taken=tuple(TakenUnits(*level, quantity) for level, quantity in units[result.order].items())
        )
        for result in results
    )


# -- references


def _read_existing(tx: Transaction, orders: Sequence[HistoricOrder], *, hides: bool) -> _Existing:
    customers = {order.customer_id for order in orders}
    locations = {order.location_id for order in orders if order.location_id}
    skus = {line.sku for order in orders for line in order.lines}
    names = store.VARIANT_NAMES.all(tx, skus=_encode_sorted(skus))
    rows = store.FIND_IMPORTED.all(tx, numbers=_encode_sorted({order.number for order in orders}))
    return _Existing(
        hides=hides,
        contents=_read_contents(tx, rows, hides=hides),
        references=find_references(tx, (order.reference for order in orders if order.unique_reference)),
        customers={
            customer: bool(erased)
            for customer, erased in store.EXISTING_CUSTOMERS.all(tx, ids=_encode_sorted(customers))
        },
        locations={
            location: bool(deleted)
            for location, deleted in store.EXISTING_LOCATIONS.all(tx, ids=_encode_sorted(locations))
        },
        names={sku: f"{product}, {variant}" if variant else product for sku, product, variant in names},
    )


def _read_contents(tx: Transaction, rows: Sequence[Row], *, hides: bool) -> dict[str, tuple[str, tuple[object, ...]]]:
    """Return order number -> id and imported values of existing orders."""
    copies: list[tuple[str, bytes | None]] = []
    for _, order_id, order, fulfillment, fulfillment_id in rows:
        copies += [(f"orders/{order_id}", order), (f"orders/{order_id}/fulfillments/{fulfillment_id}", fulfillment)]
    decrypted = decrypt_copies(tx, copies)
    pairs = zip(decrypted[::2], decrypted[1::2], strict=True)
    return {row[0]: (row[1], decode_content(*pair, hides=hides)) for row, pair in zip(rows, pairs, strict=True)}


def _check_references(item: HistoricOrder, existing: _Existing) -> None:
    """Raise unless the customer, the location and the SKUs of an order exist.

    Raises: OrderRefused.
    """
    if item.customer_id not in existing.customers:
        raise OrderRefused(CUSTOMER_NOT_FOUND, f"no such customer: customers/{item.customer_id}")
    if existing.customers[item.customer_id]:
        raise OrderRefused(CUSTOMER_NOT_FOUND, f"customers/{item.customer_id} was erased")
    deleted = existing.locations.get(item.location_id) if item.location_id else False
    if deleted is None or (deleted and item.has_open_units):
        raise OrderRefused(LOCATION_NOT_FOUND, f"no such location: locations/{item.location_id}")
    missing = sorted({line.sku for line in item.lines} - existing.names.keys())
    if missing:
        raise OrderRefused(SKU_NOT_FOUND, f"no such SKU: {', '.join(missing)}")


def _assign_identity(imported: ImportedOrder, names: dict[str, str]) -> Order:
    """Return the order with a new id and the current display names of its SKUs."""
    lines = tuple(msgspec.structs.replace(line, display_name=names[line.sku]) for line in imported.order.lines)
    return msgspec.structs.replace(imported.order, id=new_id(), lines=lines)


def _build_fulfillment(order: Order, shipping: Shipping, *, now_us: int) -> Fulfillment:
    """Build one fulfilment with the shipped units of an order."""
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


# -- stock of open orders


class _Stock:
    """The available stock for the open orders of a batch: read once, taken order by order.

    If the stock does not suffice for all orders, expired reservations and orders release theirs first; see `expiry`.
    """

    def __init__(self, mutation: Mutation, orders: Iterable[HistoricOrder], taken: Sequence[TakenUnits]) -> None:
        open_lines = [
            TakenUnits(line.sku, order.location_id, line.quantity)
            for order in orders
            if order.has_open_units
            for line in order.lines
        ]
        open_skus = {line.sku for line in open_lines}
        taken = [units for units in taken if units.sku in open_skus]
        requested: dict[tuple[str, str], int] = defaultdict(int)
        for sku, location_id, quantity in (*open_lines, *taken):
            requested[sku, location_id] += quantity
            requested[sku, ""] += quantity if location_id else 0
        skus = sorted(open_skus)
        self._levels = read_available_units(mutation.tx, skus) if skus else {}
        while (short := self._find_short(requested)) and expire_batch_by_sku(mutation, short):
            self._levels = read_available_units(mutation.tx, skus)
        for units in taken:
            self._take_earlier(units)

    def _take_earlier(self, taken: TakenUnits) -> None:
        missing = taken.quantity
        for location_id, available in self._filter_levels(taken.sku, taken.location_id).items():
            units = min(missing, available)
            self._levels[taken.sku][location_id] -= units
            missing -= units

    def _find_short(self, requested: Mapping[tuple[str, str], int]) -> list[str]:
        """Return the SKUs with too few units.

        Args:
            requested: (SKU, location id) -> units; an empty location id stands for all locations.
        """
        short = {
            sku
            for (sku, location_id), units in requested.items()
            if units > sum(self._filter_levels(sku, location_id).values())
        }
        return sorted(short)

    def take(self, order: Order, *, location_id: str) -> list[Share]:
        """Take the stock of all open units of an order, or none of it.

        Args:
            location_id: the location that supplies all units; empty for any location.

        Raises: OrderRefused.
        """
        requested = [RequestedLine(line.line_number, line.sku, line.open) for line in order.lines if line.open]
        quantities = sum_quantities((line.sku, line.quantity) for line in requested)
        available = {sku: self._filter_levels(sku, location_id) for sku in quantities}
        short = [
            f"{units} of {sku} are open, {sum(available[sku].values())} are available"
            for sku, units in quantities.items()
            if units > sum(available[sku].values())
        ]
        if short:
            raise OrderRefused(OUT_OF_STOCK, "; ".join(short))
        shares: list[Share] = []
        for sku in quantities:
            shares += split_lines([line for line in requested if line.sku == sku], available[sku])
            self._levels[sku].update(available[sku])
        return shares

    def _filter_levels(self, sku: str, location_id: str) -> dict[str, int]:
        """Return location id -> units, for one location or, if `location_id` is empty, for all."""
        return {location: units for location, units in self._levels[sku].items() if location_id in ("", location)}


# -- writing


def _write(mutation: Mutation, batch: _Batch) -> None:
    """Write the rows of a batch, with one statement for each table."""
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
    """Allocate the stock of open orders. The CHECK constraints of the database reject an excess."""
    tx = mutation.tx
    moved: dict[tuple[str, str], int] = defaultdict(int)
    for _, share in shares:
        moved[share.location_id, share.sku] += share.quantity
    moves = [(*level, 0, 0, units) for level, units in sorted(moved.items())]
    on_hand = move_levels(mutation, moves)
    context = (ALLOCATE, "", mutation.call.caller.subject)
    movements = []
    for source, share in shares:
        level = share.location_id, share.sku
        deltas = (0, 0, share.quantity, on_hand[level])
        movements.append((*level, share.line_number, *deltas, *context, source, tx.now_us))
    inventory_store.INSERT_MOVEMENTS.run_deferred(tx, movements)


def _encode_sorted(texts: Iterable[str]) -> str:
    return _encode(sorted(texts))


def _encode(value: object) -> str:
    return msgspec.json.encode(value).decode()
