"""The history of an order: who did what when and why, and what it changed, as its entries in the ledger tell.

It is derived: nothing is written for it beside the audit entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from storekeep.server.domain.lists import Column, Listing, ListRequest
from storekeep.server.domain.order_states import CANCELLED
from storekeep.server.domain.orders import decode_order, find_order
from storekeep.server.domain.pages import Page, PageTokens
from storekeep.server.store.database import Transaction
from storekeep.server.store.engine import Store
from storekeep.server.store.ledger import AuditEntry


class OrderChange(msgspec.Struct, frozen=True):
    """One step in the history of an order, as its entry in the ledger tells it; `from_state` is empty for the first.

    Attributes:
        sequence: the order's version after the step.
        method: the RPC's name, such as `ConfirmOrder`.
    """

    sequence: int
    method: str
    from_state: str
    to_state: str
    reason: str
    actor: str
    create_time_us: int


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
        reason=new.cancel_reason if new.state == CANCELLED else "",
        actor=actor,
        create_time_us=create_time_us,
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
