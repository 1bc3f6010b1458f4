"""The history of an order: each change with its actor, time, reason and changed fields.

The history is derived from the order's audit entries; nothing else is stored for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.keys.personal_fields import decrypt_copies
from storekeep.server.domain.money import MINOR_DIGITS
from storekeep.server.domain.orders.orders import Order, decode_order, find_order
from storekeep.server.domain.orders.states import CANCELLED
from storekeep.server.domain.standard.lists import Column, Listing, ListRequest
from storekeep.server.domain.standard.pages import Page, PageTokens
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.ledger import AuditEntry


class FieldChange(NamedTuple):
    """The values of one field before and after a change, as text; empty for no value."""

    field: str
    old_value: str
    new_value: str


class OrderChange(msgspec.Struct, frozen=True):
    """One change in the history of an order. `from_state` is empty for the first.

    Attributes:
        sequence: the order's version after the change.
        method: the RPC's name, such as `ConfirmOrder`.
        changes: the changed fields; empty for the first change, which creates the order.
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
"""The maximum number of fields listed for one change."""
Formatter = Callable[[Any, str], str]
"""Formats a value of an order in the given currency as text."""


def _format_plain(value: Any, _currency_code: str) -> str:
    return "" if value is None else str(value)


def _format_flag(value: bool, _currency_code: str) -> str:
    return "true" if value else "false"


def _build_name_formatter(collection: str) -> Formatter:
    return lambda value, _: f"{collection}/{value}"


def _format_amount(amount_minor: int, currency_code: str) -> str:
    """Return an amount in major units, such as `19.99`."""
    return str(Decimal(amount_minor).scaleb(-MINOR_DIGITS[currency_code]))


def _format_time(time_us: int | None, _currency_code: str) -> str:
    """Return a time in RFC 3339 format, in UTC."""
    if time_us is None:
        return ""
    return (EPOCH + timedelta(microseconds=time_us)).isoformat().replace("+00:00", "Z")


ORDER_FIELDS: dict[str, tuple[str, Formatter]] = {
    "state": ("state", _format_plain),
    "total_minor": ("total", _format_amount),
    "shipping_minor": ("shipping", _format_amount),
    "tax_minor": ("price_details.tax_total", _format_amount),
    "customer_id": ("customer", _build_name_formatter("customers")),
    "location_id": ("location", _build_name_formatter("locations")),
    "external_reference": ("external_reference", _format_plain),
    "source": ("source", _format_plain),
    "unique_reference": ("unique_external_reference", _format_flag),
    "note": ("note", _format_plain),
    "cancel_reason": ("cancel_reason", _format_plain),
    "expire_time_us": ("expire_time", _format_time),
    "email": ("email", _format_plain),
    "phone": ("phone", _format_plain),
    "language_code": ("language_code", _format_plain),
    "ship_by_time_us": ("ship_by_time", _format_time),
    "deliver_by_time_us": ("deliver_by_time", _format_time),
    "held": ("held", _format_flag),
    "hold_reason": ("hold_reason", _format_plain),
}
"""Attribute of `Order` -> field of the contract, and the formatter of its values."""
ADDRESSES = ("shipping_address", "billing_address")
LINE_FIELDS: dict[str, tuple[str, Formatter]] = {
    "sku": ("sku", _format_plain),
    "quantity": ("quantity", _format_plain),
    "unit_price_minor": ("unit_price", _format_amount),
    "discount_minor": ("discount", _format_amount),
    "tax_minor": ("tax_total", _format_amount),
    "total_minor": ("total", _format_amount),
    "open": ("open_quantity", _format_plain),
    "fulfilled": ("fulfilled_quantity", _format_plain),
    "cancelled": ("cancelled_quantity", _format_plain),
    "returned": ("returned_quantity", _format_plain),
}


def diff_orders(old: Order, new: Order) -> Iterator[FieldChange]:
    """Yield the fields that differ between two versions of an order: first its own, then those of its lines."""
    currency_code = new.currency_code
    yield from _diff_fields(old, new, ORDER_FIELDS, currency_code, prefix="")
    for field in ADDRESSES:
        parts = (_list_parts(getattr(order, field)) for order in (old, new))
        yield from _diff_members(field, *parts)
    yield from _diff_members("labels", _quote_empty(old.labels), _quote_empty(new.labels))
    before = {line.line_number: line for line in old.lines}
    for line in new.lines:
        prefix = f"lines[{line.line_number}]."
        yield from _diff_fields(before.get(line.line_number), line, LINE_FIELDS, currency_code, prefix=prefix)


def _list_parts(address: Address | None) -> dict[str, str]:
    """Return the parts of an address by name; all are empty if there is none. Its lines are one part."""
    parts = msgspec.structs.asdict(address or Address())
    return parts | {"address_lines": "\n".join(parts["address_lines"])}


def _quote_empty(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels with `""` for an empty value, because a change has an empty text for a label that is not there."""
    return {name: value or '""' for name, value in labels.items()}


def _diff_members(field: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[FieldChange]:
    """Yield the members of a field that differ, as `field.member`."""
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            yield FieldChange(f"{field}.{name}", old.get(name, ""), new.get(name, ""))


def _diff_fields(
    old: object, new: object, fields: dict[str, tuple[str, Formatter]], currency_code: str, *, prefix: str
) -> Iterator[FieldChange]:
    for name, (contract_field, format_value) in fields.items():
        value = getattr(new, name)
        before = getattr(old, name, None)
        if value != before and (old is not None or value):
            old_value = "" if before is None else format_value(before, currency_code)
            yield FieldChange(f"{prefix}{contract_field}", old_value, format_value(value, currency_code))


def list_order_history(db: Store, request: ListRequest, *, tokens: PageTokens) -> Page[OrderChange]:
    """Return one page of an order's history, oldest change first.

    Args:
        request: its parent is the name of the order.

    Raises: OrderNotFound, InvalidPageToken.
    """

    def work(tx: Transaction) -> Page[OrderChange]:
        find_order(tx, request.parent.removeprefix("orders/"))
        return HISTORY.page(tx, request, tokens=tokens)

    return db.snapshot(work)


def _read_changes(tx: Transaction, rows: Sequence[Sequence[Any]]) -> list[OrderChange]:
    copies = decrypt_copies(tx, [(row[0], copy) for row in rows for copy in row[2:4]])
    pairs = zip(copies[::2], copies[1::2], strict=True)
    return [_build_change(row[1], *pair, *row[4:]) for row, pair in zip(rows, pairs, strict=True)]


def _build_change(
    method: str, before: bytes | None, after: bytes | None, actor: str, create_time_us: int
) -> OrderChange:
    old = None if before is None else decode_order(before)
    new = decode_order(after or b"null")
    return OrderChange(
        sequence=new.version,
        method=method.rpartition("/")[2],
        from_state="" if old is None else old.state,
        to_state=new.state,
        reason=new.change_reason or (new.cancel_reason if new.state == CANCELLED else ""),
        actor=actor,
        create_time_us=create_time_us,
        changes=() if old is None else tuple(itertools.islice(diff_orders(old, new), CHANGES_MAX)),
    )


HISTORY = Listing(
    method="ListOrderHistory",
    query=lambda: AuditEntry.select(
        AuditEntry.resource,
        AuditEntry.method,
        AuditEntry.before,
        AuditEntry.after,
        AuditEntry.actor,
        AuditEntry.create_time_us,
    ),
    columns={"sequence": Column(AuditEntry.sequence, sortable=True)},
    unique=(),
    read_rows=_read_changes,
    default_order="sequence",
    parent=AuditEntry.resource,
)
