"""Events: reads the entries of the ledger that are events, and the cursors that continue after one.

Invariant: events have the order of their commits. Nothing is ever inserted before an event that was read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from storekeep.server.domain.errors import AuditEntryUnreadable, EventNotFound, InvalidField, InvalidPageToken
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing, ListRequest
from storekeep.server.domain.standard.pages import Page, PageTokens
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.statements import Row
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import audit as store
from storekeep.server.store.tables.ledger import AuditEntry

PERMISSIONS = {
    "category": "products.read",
    "customer": "customers.read",
    "fulfillment": "orders.read",
    "location": "stock.read",
    "order": "orders.read",
    "order_note": "orders.read",
    "product": "products.write",
    "reservation": "reservations.read",
    "stock_level": "stock.read",
    "variant": "products.write",
}
"""The noun of an event type -> the permission to see its events. Products and variants need the permission to see
drafts. Other entries of the ledger, such as those of API keys, are no events."""
SEQUENCE_MAX = 2**63 - 1
CURSOR = ("event",)
"""The query that cursors belong to: none in particular."""


class Event(msgspec.Struct, frozen=True):
    """An event; see `Event` in the contract.

    Attributes:
        sequence: its number in the ledger.
        content: the resource after the change, as JSON.
    """

    sequence: int
    create_time_us: int
    type: str
    actor: str
    resource: str
    request_id: str
    content: bytes

    @property
    def name(self) -> str:
        """The resource name."""
        return f"events/{self.sequence}"

    @property
    def noun(self) -> str:
        """The kind of the changed resource, such as `order`."""
        return self.type.partition(".")[0]


def list_visible_nouns(permissions: Collection[str]) -> list[str]:
    """Return the nouns of the events that a caller with these permissions may see."""
    return [noun for noun, permission in PERMISSIONS.items() if permission in permissions]


def _read_rows(_tx: Transaction, rows: Sequence[Row]) -> list[Event]:
    return [Event(*row) for row in rows]


def _make_listing(nouns: Sequence[str], *, after: int | None, descending: bool) -> Listing[Event]:
    """Return the list of the events of some nouns, after a sequence or before it."""
    return Listing(
        method="ListEvents",
        query=lambda: store.select_events(nouns, after=after, descending=descending),
        columns=COLUMNS,
        unique=(),
        read_rows=_read_rows,
        default_order="sequence",
    )


COLUMNS = {
    "sequence": Column(AuditEntry.sequence, sortable=True),
    "type": Column(AuditEntry.type, FilterField(Kind.TEXT)),
    "resource": Column(AuditEntry.resource, FilterField(Kind.TEXT)),
    "actor": Column(AuditEntry.actor, FilterField(Kind.TEXT)),
    "request_id": Column(AuditEntry.request_id, FilterField(Kind.TEXT)),
    "create_time": Column(AuditEntry.create_time_us, FilterField(Kind.TIME)),
}
LISTING = _make_listing(tuple(PERMISSIONS), after=None, descending=False)


def list_events(
    database: Store, request: ListRequest, *, cursor: str, permissions: Collection[str], tokens: PageTokens
) -> Page[Event]:
    """Return one page of the events that the caller may see, in the order of their commits by default.

    Args:
        cursor: list only events after this position, or before it in descending order; empty for all.

    Raises: InvalidField, InvalidFilter, InvalidOrderBy, InvalidPageToken, AuditEntryUnreadable.
    """
    after = read_cursor(cursor, tokens=tokens) if cursor else None
    descending = request.order_by.split()[1:] == ["desc"]
    listing = _make_listing(list_visible_nouns(permissions), after=after, descending=descending)
    try:
        return database.snapshot(lambda tx: listing.page(tx, request, tokens=tokens))
    except UnicodeDecodeError:
        raise AuditEntryUnreadable("auditEntries/-") from None


def get_event(database: Store, sequence: int, *, permissions: Collection[str]) -> Event:
    """Return one event.

    Raises: EventNotFound, also if the caller may not see it; AuditEntryUnreadable.
    """
    rows: Sequence[Row] = ()
    query = store.select_events(list_visible_nouns(permissions)).where(AuditEntry.sequence == sequence)
    try:
        if sequence <= SEQUENCE_MAX:
            rows = database.read(lambda tx: tx.run(query).fetchall())
    except UnicodeDecodeError:
        raise AuditEntryUnreadable(f"auditEntries/{sequence}") from None
    if not rows:
        raise EventNotFound(f"events/{sequence}")
    return Event(*rows[0])


def write_cursor(sequence: int, *, tokens: PageTokens) -> str:
    """Return the cursor of a position in the ledger. It is bound to nothing but the position."""
    return tokens.write(CURSOR, [sequence])


def read_cursor(cursor: str, *, tokens: PageTokens) -> int:
    """Return the position of a cursor.

    Raises: InvalidField if no server with this secret made the cursor.
    """
    try:
        position = tokens.read(CURSOR, cursor)
    except InvalidPageToken:
        position = None
    if not position:
        raise InvalidField("cursor", "must be the `cursor` of an event of this server")
    sequence: int = position[0]
    return sequence
