"""Edits that add, change and remove lines of an order with no shipped units, in one transaction.

New lines get current prices; existing lines keep their price and number. Units that are assigned to a fulfilment
cannot be removed. A preview is the same edit as a dry run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from storekeep.server.domain.calls import Call
from storekeep.server.domain.catalog.quantity_rules import check_quantities
from storekeep.server.domain.errors import InvalidField
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.baskets import build_offers
from storekeep.server.domain.orders.cancellations import cancel_line_units, deallocate_unbound, recalculate_order
from storekeep.server.domain.orders.changes import find_order_for_update, save_order
from storekeep.server.domain.orders.fulfillments import LineUnits, check_lines_exist, read_unbound_units
from storekeep.server.domain.orders.new_orders import DEFAULT_LOCATION
from storekeep.server.domain.orders.orders import Order, OrderLine
from storekeep.server.domain.orders.placing import price_lines
from storekeep.server.domain.orders.pricing import OrderPricing
from storekeep.server.domain.orders.repricing import add_lines
from storekeep.server.domain.orders.states import CANCELLED, EDITABLE, require_state
from storekeep.server.domain.stock.allocations import RequestedLine, allocate_stock, count_held_units, sum_quantities
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import catalog as catalog_store
from storekeep.server.store.tables import orders as store

EDITED = "EDITED"
"""The target that an `IllegalState` error names for an edit, which does not change the state."""
LINES_MAX = 1_000
"""The maximum number of lines of an order."""


@dataclass(frozen=True, slots=True)
class Edit:
    """The requested changes to the lines of an order.

    Attributes:
        added: (SKU, units) of new lines.
        changed: line numbers and their new units, cancelled units not counted.
        removed: numbers of the lines to cancel completely.
    """

    added: tuple[tuple[str, int], ...] = ()
    changed: tuple[LineUnits, ...] = ()
    removed: tuple[int, ...] = ()

    @property
    def line_targets(self) -> tuple[LineUnits, ...]:
        """Return the changed and the removed lines; a removed line has 0 units."""
        return (*self.changed, *(LineUnits(number, 0) for number in self.removed))


def apply_order_edit(db: Store, call: Call, order_id: str, edit: Edit, *, reason: str = "", etag: str = "") -> Order:
    """Edit the lines of an order. Write nothing if no line differs.

    Raises: InvalidField, OrderNotFound, EtagMismatch, IllegalState, OrderLineNotFound, SkuNotFound, NotForSale,
        CurrencyMismatch, QuantityNotAllowed, InvalidAmount, UnitsNotOpen, OutOfStock.
    """
    _check(edit)

    def effect(mutation: Mutation) -> Order:
        tx = mutation.tx
        old = find_order_for_update(tx, order_id, etag=etag)
        require_state(old.name, order_number=old.number, state=old.state, among=EDITABLE, target=EDITED)
        check_lines_exist(old, edit.line_targets)
        added, pricing = _price_added_lines(tx, old, edit)
        lines = (*_edit_lines(old, edit), *added)
        if lines == old.lines:
            return old
        _check_quantities(tx, old.lines, lines)
        new = recalculate_order(old, replace(old, lines=lines, pricing=pricing))
        _move_stock(mutation, old, lines)
        if new.state == CANCELLED:
            return save_order(mutation, old, replace(new, cancel_reason=reason), event="cancelled", reason=reason)
        return save_order(mutation, old, new, event="edited", reason=reason)

    return mutate(db, call, effect, Order)


def _check(edit: Edit) -> None:
    """Raise if an edit is empty or names a line twice.

    Raises: InvalidField.
    """
    numbers = [number for number, _ in edit.line_targets]
    if not numbers and not edit.added:
        raise InvalidField("edit", "the edit is empty: add, change or remove lines")
    number, times = max(Counter(numbers).items(), key=lambda counted: counted[1], default=(0, 0))
    if times > 1:
        raise InvalidField("edit", f"line {number} occurs more than once")


def _edit_lines(order: Order, edit: Edit) -> tuple[OrderLine, ...]:
    """Return the existing lines after the edit."""
    requested = dict(edit.line_targets)
    return tuple(_edit_line(line, requested.get(line.line_number)) for line in order.lines)


def _edit_line(line: OrderLine, requested: int | None) -> OrderLine:
    """Return a line with the requested active units; None keeps the line."""
    active = line.quantity - line.cancelled
    if requested is None or requested == active:
        return line
    if requested == 0:
        return cancel_line_units(line, active)
    quantity = requested + line.cancelled
    return replace(line, quantity=quantity, subtotal_minor=quantity * line.unit_price_minor)


def _price_added_lines(tx: Transaction, order: Order, edit: Edit) -> tuple[tuple[OrderLine, ...], OrderPricing | None]:
    """Return the new lines at current prices, and the terms of the order with them.

    Raises: InvalidField, SkuNotFound, NotForSale, CurrencyMismatch.
    """
    if not edit.added:
        return (), order.pricing
    if len(order.lines) + len(edit.added) > LINES_MAX:
        raise InvalidField("edit.added_lines", f"an order can have at most {LINES_MAX} lines")
    rows = store.OFFER.all(
        tx,
        customer_id=order.customer_id,
        location_id=order.location_id,
        taken_at="",
        quantities=msgspec.json.encode(sum_quantities(edit.added)).decode(),
        currency_code=order.currency_code,
        language_code=order.language_code,
        now_us=tx.now_us,
    )
    offers = build_offers(rows)
    lines = price_lines(
        edit.added,
        offers,
        currency_code=order.currency_code,
        first=len(order.lines) + 1,
        field="edit.added_lines",
        requires_price=order.terms is None,
    )
    if order.terms is None:
        return lines, order.pricing
    return lines, add_lines(tx, order, order.terms, [(line.sku, line.quantity) for line in lines], offers)


def _check_quantities(tx: Transaction, before: Iterable[OrderLine], after: Iterable[OrderLine]) -> None:
    """Raise unless the units of each SKU that the edit changes keep its quantity rules. No units at all are allowed.

    Raises: QuantityNotAllowed.
    """
    old, new = (
        sum_quantities((line.sku, line.quantity - line.cancelled) for line in lines) for lines in (before, after)
    )
    changed = {sku: units for sku, units in new.items() if units and units != old.get(sku)}
    rules = catalog_store.QUANTITY_RULES.all(tx, skus=msgspec.json.encode(list(changed)).decode())
    check_quantities(changed, rules)


def _move_stock(mutation: Mutation, order: Order, lines: tuple[OrderLine, ...]) -> None:
    """Deallocate surplus units of the lines, then allocate missing units.

    Missing units come from the order's location; from any location if that is `DEFAULT_LOCATION`.

    Raises: UnitsNotOpen, OutOfStock.
    """
    open_before = {line.line_number: line.open for line in order.lines}
    differences = [(line, line.open - open_before.get(line.line_number, 0)) for line in lines]
    surplus = {line.line_number: -units for line, units in differences if units < 0}
    if surplus:
        deallocate_unbound(mutation, order, read_unbound_units(mutation.tx, order), surplus)
    missing = [RequestedLine(line.line_number, line.sku, units) for line, units in differences if units > 0]
    if missing:
        location_id = "" if order.location_id == DEFAULT_LOCATION else order.location_id
        active = [RequestedLine(line.line_number, line.sku, line.quantity - line.cancelled) for line in lines]
        with count_held_units(active, missing):
            allocate_stock(mutation, order.name, missing, location_id=location_id)
