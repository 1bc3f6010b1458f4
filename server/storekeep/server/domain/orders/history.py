"""The history of an order: who did what when and why, and what it changed, as its entries in the ledger tell.

It is derived: nothing is written for it beside the audit entries.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from storekeep.server.domain.money import MINOR_DIGITS
from storekeep.server.domain.orders.orders import Order, decode_order, find_order
from storekeep.server.domain.orders.states import CANCELLED
from storekeep.server.domain.standard.lists import Column, Listing, ListRequest
from storekeep.server.domain.standard.pages import Page, PageTokens
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.ledger import AuditEntry


class FieldChange(NamedTuple):
    """What a change made of one field: texts, empty where there is nothing."""

    field: str
    old_value: str
    new_value: str


class OrderChange(msgspec.Struct, frozen=True):
    """One step in the history of an order, as its entry in the ledger tells it; `from_state` is empty for the first.

    Attributes:
        sequence: the order's version after the step.
        method: the RPC's name, such as `ConfirmOrder`.
        changes: what it changed, field by field; none of the first, as all was new.
    """

    sequence: int
    method: str
    from_state: str
    to_state: str
    reason: str
    actor: str
    create_time_us: int
    changes: tuple[FieldChange, ...] = ()


EPOCH = datetime.fromtimestamp(0, UTC)
CHANGES_MAX = 200
"""Fields that one step tells of."""
Text = Callable[[Any, str], str]
"""What makes text of a value, in an order of some currency."""


def _plain(value: Any, _currency_code: str) -> str:
    return "" if value is None else str(value)


def _flag(value: bool, _currency_code: str) -> str:
    return "true" if value else "false"


def _named(collection: str) -> Text:
    return lambda value, _: f"{collection}/{value}"


def _amount(amount_minor: int, currency_code: str) -> str:
    """In major units, such as `19.99`."""
    return str(Decimal(amount_minor).scaleb(-MINOR_DIGITS[currency_code]))


def _time(time_us: int | None, _currency_code: str) -> str:
    """As RFC 3339 has it, in UTC."""
    if time_us is None:
        return ""
    return (EPOCH + timedelta(microseconds=time_us)).isoformat().replace("+00:00", "Z")


ORDER_FIELDS: dict[str, tuple[str, Text]] = {
    "state": ("state", _plain),
    "total_minor": ("total", _amount),
    "shipping_minor": ("shipping", _amount),
    "customer_id": ("customer", _named("customers")),
    "location_id": ("location", _named("locations")),
    "external_reference": ("external_reference", _plain),
    "note": ("note", _plain),
    "cancel_reason": ("cancel_reason", _plain),
    "expire_time_us": ("expire_time", _time),
    "held": ("held", _flag),
    "hold_reason": ("hold_reason", _plain),
}
"""Our field -> the contract's, and how its values read."""
LINE_FIELDS: dict[str, tuple[str, Text]] = {
    "sku": ("sku", _plain),
    "quantity": ("quantity", _plain),
    "unit_price_minor": ("unit_price", _amount),
    "discount_minor": ("discount", _amount),
    "total_minor": ("total", _amount),
    "open": ("open_quantity", _plain),
    "fulfilled": ("fulfilled_quantity", _plain),
    "cancelled": ("cancelled_quantity", _plain),
    "returned": ("returned_quantity", _plain),
}


def changes_between(old: Order, new: Order) -> Iterator[FieldChange]:
    """What differs between two versions of an order, field by field, and line by line."""
    currency_code = new.currency_code
    yield from _differences(old, new, ORDER_FIELDS, currency_code, prefix="")
    before = {line.line_number: line for line in old.lines}
    for line in new.lines:
        prefix = f"lines[{line.line_number}]."
        yield from _differences(before.get(line.line_number), line, LINE_FIELDS, currency_code, prefix=prefix)


def _differences(
    old: object, new: object, fields: dict[str, tuple[str, Text]], currency_code: str, *, prefix: str
) -> Iterator[FieldChange]:
    for name, (told, text) in fields.items():
        value = getattr(new, name)
        before = getattr(old, name, None)
        if value != before and (old is not None or value):
            was = "" if before is None else text(before, currency_code)
            yield FieldChange(f"{prefix}{told}", was, text(value, currency_code))


def list_order_history(
    db: Store, order_id: str, *, page_size: int, page_token: str, tokens: PageTokens
) -> Page[OrderChange]:
    """One page of an order's history, oldest change first.

    Raises: OrderNotFound, InvalidPageToken.
    """

    def work(tx: Transaction) -> Page[OrderChange]:
        find_order(tx, order_id)
        request = ListRequest(page_size=page_size, page_token=page_token, parent=f"orders/{order_id}")
        return HISTORY.page(tx, request, tokens=tokens)

    return db.snapshot(work)


def _read_changes(_tx: Transaction, rows: Sequence[Sequence[Any]]) -> list[OrderChange]:
    return [_change_of(*row) for row in rows]


def _change_of(method: str, before: bytes | None, after: bytes, actor: str, create_time_us: int) -> OrderChange:
    old = None if before is None else decode_order(before)
    new = decode_order(after)
    return OrderChange(
        sequence=new.version,
        method=method.rpartition("/")[2],
        from_state="" if old is None else old.state,
        to_state=new.state,
        reason=new.change_reason or (new.cancel_reason if new.state == CANCELLED else ""),
        actor=actor,
        create_time_us=create_time_us,
        changes=() if old is None else tuple(itertools.islice(changes_between(old, new), CHANGES_MAX)),
    )


HISTORY = Listing(
    method="ListOrderHistory",
    query=lambda: AuditEntry.select(
        AuditEntry.method, AuditEntry.before, AuditEntry.after, AuditEntry.actor, AuditEntry.create_time_us
    ),
    columns={"sequence": Column(AuditEntry.sequence, sortable=True)},
    unique=(),
    read_rows=_read_changes,
    default_order="sequence",
    parent=AuditEntry.resource,
)
