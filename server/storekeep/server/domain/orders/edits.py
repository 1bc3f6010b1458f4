"""Edits: lines of an order of which nothing was shipped are added, changed and removed, all together or not at all.

New lines cost what they cost now; lines that are there keep price and number. Refuses to take away what is bound to a
fulfilment. A preview is the edit itself, as a trial.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import InvalidField
from storekeep.server.domain.money import share_of
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.cancellations import give_back, settled, without
from storekeep.server.domain.orders.changes import order_to_change, save
from storekeep.server.domain.orders.fulfillments import LineUnits, check_lines_there, unbound_units
from storekeep.server.domain.orders.orders import Order, OrderLine
from storekeep.server.domain.orders.placing import DEFAULT_LOCATION, price_lines, total_of
from storekeep.server.domain.orders.states import CANCELLED, EDITABLE, require_state
from storekeep.server.domain.stock.allocations import Wanted, add_up, allocate_stock
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import orders as store

EDITED = "EDITED"
"""What an edit makes of an order, as a refusal tells it; its state stays."""
LINES_MAX = 1_000
"""Lines of one order."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What is to be changed.

    Attributes:
        added: (SKU, units) of new lines.
        changed: lines and the units that they shall have, without those that are cancelled already.
        removed: numbers of lines of which all units are called off.
    """

    added: tuple[tuple[str, int], ...] = ()
    changed: tuple[LineUnits, ...] = ()
    removed: tuple[int, ...] = ()

    @property
    def named(self) -> tuple[LineUnits, ...]:
        """The lines that it changes or removes; a removed one with 0 units."""
        return (*self.changed, *(LineUnits(number, 0) for number in self.removed))


def apply_order_edit(db: Store, call: Call, order_id: str, edit: Edit, *, reason: str = "", etag: str = "") -> Order:
    """Edit the lines of an order; without any difference nothing is written.

    Raises: InvalidField, OrderNotFound, EtagMismatch, IllegalState, OrderLineNotFound, SkuNotFound, NotForSale,
        CurrencyMismatch, InvalidAmount, UnitsNotOpen, OutOfStock.
    """
    _check(edit)

    def effect(mutation: Mutation) -> Order:
        tx = mutation.tx
        old = order_to_change(tx, order_id, etag=etag)
        require_state(old.name, state=old.state, among=EDITABLE, wanted=EDITED)
        check_lines_there(old, edit.named)
        lines = (*_edited_lines(old, edit), *_added_lines(tx, old, edit))
        if lines == old.lines:
            return old
        total_of(lines, shipping_minor=old.shipping_minor)
        _move_stock(mutation, old, lines)
        new = settled(replace(old, lines=lines))
        if new.state == CANCELLED:
            return save(mutation, old, replace(new, cancel_reason=reason), happened="cancelled", reason=reason)
        return save(mutation, old, new, happened="edited", reason=reason)

    return mutate(db, call, effect, Order)


def _check(edit: Edit) -> None:
    """Refuse an edit that asks for nothing, or for two things of one line.

    Raises: InvalidField.
    """
    numbers = [number for number, _ in edit.named]
    if not numbers and not edit.added:
        raise InvalidField("edit", "it changes nothing: add, change or remove lines")
    number, times = max(Counter(numbers).items(), key=lambda counted: counted[1], default=(0, 0))
    if times > 1:
        raise InvalidField("edit", f"line {number} is named twice")


def _edited_lines(order: Order, edit: Edit) -> tuple[OrderLine, ...]:
    """The lines that are there, as they shall be."""
    wanted = dict(edit.named)
    return tuple(_edited(line, wanted.get(line.line_number)) for line in order.lines)


def _edited(line: OrderLine, wanted: int | None) -> OrderLine:
    """A line with so many units that are not cancelled; a discount grows and shrinks with them."""
    kept = line.quantity - line.cancelled
    if wanted is None or wanted == kept:
        return line
    if wanted == 0:
        return without(line, kept)
    quantity = wanted + line.cancelled
    return replace(
        line,
        quantity=quantity,
        subtotal_minor=quantity * line.unit_price_minor,
        discount_minor=share_of(line.discount_minor, wanted, kept),
    )


def _added_lines(tx: Transaction, order: Order, edit: Edit) -> tuple[OrderLine, ...]:
    """The new lines, at the prices of this moment.

    Raises: InvalidField, SkuNotFound, NotForSale, CurrencyMismatch.
    """
    if not edit.added:
        return ()
    if len(order.lines) + len(edit.added) > LINES_MAX:
        raise InvalidField("edit.added_lines", f"an order can have {LINES_MAX} lines")
    rows = store.OFFER.all(
        tx,
        customer_id=order.customer_id,
        location_id=order.location_id,
        taken_at="",
        quantities=msgspec.json.encode(add_up(edit.added)).decode(),
        currency_code=order.currency_code,
    )
    return price_lines(
        edit.added,
        {sku: offer for _, _, sku, _, _, *offer in rows},
        currency_code=order.currency_code,
        first=len(order.lines) + 1,
        field="edit.added_lines",
    )


def _move_stock(mutation: Mutation, order: Order, lines: tuple[OrderLine, ...]) -> None:
    """Give back what lines have too much, then take what they lack.

    What is taken comes from the order's location, or from any where that is the one of orders that name none.

    Raises: UnitsNotOpen, OutOfStock.
    """
    open_before = {line.line_number: line.open for line in order.lines}
    differences = [(line, line.open - open_before.get(line.line_number, 0)) for line in lines]
    given = {line.line_number: -units for line, units in differences if units < 0}
    if given:
        give_back(mutation, order, unbound_units(mutation.tx, order), given)
    wanted = [Wanted(line.line_number, line.sku, units) for line, units in differences if units > 0]
    if wanted:
        location_id = "" if order.location_id == DEFAULT_LOCATION else order.location_id
        allocate_stock(mutation, order.name, wanted, location_id=location_id)
