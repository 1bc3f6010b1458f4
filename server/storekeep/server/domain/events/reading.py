"""Events: reads the entries of the ledger that are events, and the cursors that continue after one.

Invariant: events have the order of their commits. Nothing is ever inserted before an event that was read.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from storekeep.server.domain.errors import AuditEntryUnreadable, EventNotFound
from storekeep.server.domain.events.cursors import Position, is_in_history, make_check
from storekeep.server.domain.events.retention import Retention
from storekeep.server.domain.events.types import describe_unknown
from storekeep.server.domain.keys.personal_fields import decrypt_copies
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
    "coupon": "coupons.read",
    "customer": "customers.read",
    "fulfillment": "orders.read",
    "location": "stock.read",
    "order": "orders.read",
    "order_note": "orders.read",
    "price": "pricing.read",
    "product": "products.write",
    "promotion": "pricing.read",
    "quote": "orders.read",
    "reservation": "reservations.read",
    "shipping_method": "pricing.read",
    "stock": "stock.read",
    "stock_level": "stock.read",
    "tax_rate": "pricing.read",
    "tax_zone": "pricing.read",
    "variant": "products.write",
}
"""The noun of an event type -> the permission to see its events. Products and variants need the permission to see
drafts. Other entries of the ledger, such as those of API keys, are no events."""
PERSONAL_NOUNS = frozenset({"customer", "fulfillment", "order", "order_note", "quote", "reservation"})
"""The nouns of the events whose resource has personal data."""
SEQUENCE_MAX = 2**63 - 1
TYPES_CACHED = 1_024


@functools.lru_cache(TYPES_CACHED)
def get_noun(event_type: str) -> str:
    """Return the noun of an event type: `order` of `order.placed`."""
    return event_type.partition(".")[0]


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event; see `Event` in the contract.

    Attributes:
        sequence: its number in the ledger.
        entry_hash: the hash of its entry.
        content: the resource after the change, as JSON.
    """

    sequence: int
    create_time_us: int
    type: str
    actor: str
    resource: str
    request_id: str
    entry_hash: bytes
    content: bytes

    @property
    def name(self) -> str:
        """The resource name."""
        return f"events/{self.sequence}"

    @property
    def position(self) -> Position:
        """The position after it."""
        return Position(self.sequence, make_check(self.entry_hash))

    @property
    def noun(self) -> str:
        """The kind of the changed resource, such as `order`."""
        return get_noun(self.type)


RESOURCE, CONTENT = map(Event.__struct_fields__.index, ("resource", "content"))
"""Indexes in the rows of events."""


def list_visible_nouns(permissions: Collection[str]) -> list[str]:
    """Return the nouns of the events that a caller with these permissions may see."""
    return [noun for noun, permission in PERMISSIONS.items() if permission in permissions]


def read_rows(tx: Transaction, rows: Sequence[Row]) -> list[Event]:
    """Convert rows to events, with the personal data of the resources in them.

    Raises: DecryptionFailed.
    """
    contents = decrypt_copies(tx, [(row[RESOURCE], row[CONTENT]) for row in rows])
    return [
        Event(*row[:CONTENT], content)  # type: ignore[call-arg]  # an event has a content
        for row, content in zip(rows, contents, strict=True)
    ]


def _make_listing(nouns: Sequence[str], *, after: int | None, descending: bool, oldest: int = 0) -> Listing[Event]:
    """Return the list of the kept events of some nouns, after a sequence or before it."""

    def select() -> Any:
        query = store.select_events(nouns, after=after, descending=descending)
        return query.where(AuditEntry.sequence >= oldest) if oldest else query

    return Listing(
        method="ListEvents",
        query=select,
        columns=COLUMNS,
        unique=(),
        read_rows=read_rows,
        default_order="sequence",
    )


COLUMNS = {
    "sequence": Column(AuditEntry.sequence, sortable=True),
    "type": Column(AuditEntry.type, FilterField(Kind.TEXT, find_problem=describe_unknown)),
    "resource": Column(AuditEntry.resource, FilterField(Kind.TEXT)),
    "actor": Column(AuditEntry.actor, FilterField(Kind.TEXT)),
    "request_id": Column(AuditEntry.request_id, FilterField(Kind.TEXT)),
    "create_time": Column(AuditEntry.create_time_us, FilterField(Kind.TIME)),
}
LISTING = _make_listing(tuple(PERMISSIONS), after=None, descending=False)


def list_events(
    database: Store,
    request: ListRequest,
    *,
    after: Position | None,
    permissions: Collection[str],
    tokens: PageTokens,
    retention: Retention,
) -> Page[Event]:
    """Return one page of the events that the caller may see, in the order of their commits by default.

    Args:
        after: list only events after this position, or before it in descending order; None for all.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken, EventsExpired, HistoryChanged, AuditEntryUnreadable.
    """
    if after is not None:
        retention.check_age(after.sequence)
    descending = request.order_by.split()[1:] == ["desc"]
    nouns, oldest = list_visible_nouns(permissions), retention.find_oldest()
    listing = _make_listing(nouns, after=after and after.sequence, descending=descending, oldest=oldest)

    def work(tx: Transaction) -> Page[Event]:
        if after is not None and not is_in_history(tx, after):
            raise retention.make_history_error()
        return listing.page(tx, request, tokens=tokens)

    try:
        return database.snapshot(work)
    except UnicodeDecodeError:
        raise AuditEntryUnreadable("auditEntries/-") from None


def get_event(database: Store, sequence: int, *, permissions: Collection[str]) -> Event:
    """Return one event.

    Raises: EventNotFound, also if the caller may not see it; AuditEntryUnreadable.
    """
    events: list[Event] = []
    query = store.select_events(list_visible_nouns(permissions)).where(AuditEntry.sequence == sequence)
    try:
        if sequence <= SEQUENCE_MAX:
            events = database.read(lambda tx: read_rows(tx, tx.run(query).fetchall()))
    except UnicodeDecodeError:
        raise AuditEntryUnreadable(f"auditEntries/{sequence}") from None
    if not events:
        raise EventNotFound(f"events/{sequence}")
    return events[0]
