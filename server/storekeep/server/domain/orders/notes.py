"""Notes: comments of staff on an order. Notes are only added, and do not change the order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from storekeep.server.domain.calls import Call
from storekeep.server.domain.keys.personal_fields import PersonalFields, decrypt_resources, encrypt_resource, hide_text
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.changes import find_order_for_update
from storekeep.server.domain.orders.orders import find_order, find_order_subject
from storekeep.server.domain.standard.lists import ALL_PARENTS, Column, Listing, ListRequest
from storekeep.server.domain.standard.pages import Page, PageTokens
from storekeep.server.domain.standard.resources import new_id
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.rows import Rows
from storekeep.server.store.sql.statements import Row
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import orders as store


class OrderNote(msgspec.Struct, frozen=True):
    """A note on an order; see `OrderNote` in the contract."""

    PERSONAL: ClassVar = PersonalFields({"content": hide_text}, find_subject=find_order_subject)

    id: str
    order_id: str
    content: str
    actor: str
    create_time_us: int
    encrypted: str = ""

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"orders/{self.order_id}/notes/{self.id}"


ROWS = Rows(store.OrderNote, columns=("id", "order", "content", "actor", "create_time_us", "encrypted"), key=("id",))


def read_notes(tx: Transaction, rows: Sequence[Row]) -> list[OrderNote]:
    """Build notes from rows."""
    return decrypt_resources(tx, read_encrypted_rows(tx, rows))


def read_encrypted_rows(_tx: Transaction, rows: Sequence[Row]) -> list[OrderNote]:
    """Build notes from rows, without their text."""
    return [OrderNote(*row) for row in rows]


def build_row_values(tx: Transaction, note: OrderNote) -> dict[str, object]:
    """Return the column values of a row, with the text encrypted."""
    return dict(zip(ROWS.columns, msgspec.structs.astuple(encrypt_resource(tx, note)), strict=True))


def add_order_note(db: Store, call: Call, order_id: str, content: str, *, etag: str = "") -> OrderNote:
    """Add a note to an order.

    Args:
        etag: the order's etag; empty to skip the check.

    Raises: OrderNotFound, EtagMismatch.
    """

    def effect(mutation: Mutation) -> OrderNote:
        tx = mutation.tx
        find_order_for_update(tx, order_id, etag=etag)
        note = OrderNote(new_id(), order_id, content, call.caller.subject, tx.now_us)
        ROWS.insert(tx, build_row_values(tx, note))
        mutation.record("order_note.added", before=None, after=note)
        return note

    return mutate(db, call, effect, OrderNote)


def list_order_notes(db: Store, request: ListRequest, *, tokens: PageTokens) -> Page[OrderNote]:
    """Return one page of the notes of one order, or of all orders, oldest first.

    Raises: OrderNotFound, InvalidPageToken.
    """

    def work(tx: Transaction) -> Page[OrderNote]:
        if request.parent != ALL_PARENTS:
            find_order(tx, request.parent)
        return LISTING.page(tx, request, tokens=tokens)

    return db.snapshot(work)


LISTING = Listing(
    method="ListOrderNotes",
    query=lambda: store.OrderNote.select(*ROWS.fields),
    columns={"create_time": Column(store.OrderNote.create_time_us, sortable=True)},
    unique=(store.OrderNote.id,),
    read_rows=read_notes,
    parent=store.OrderNote.order,
)
