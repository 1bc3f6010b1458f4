"""Exports: everything that is stored about a customer and those merged into it, page by page.

An export begins with an entry in the audit log. Invariant: its data can be read only with the token of that entry, by
the account that the entry names, so that no export goes unrecorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from storekeep.server.domain.audit.log import AuditEntry, read_entries
from storekeep.server.domain.calls import Call
from storekeep.server.domain.customers import CUSTOMERS, Customer
from storekeep.server.domain.errors import AuditEntryUnreadable, InvalidField, InvalidPageToken
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders import fulfillments, notes, orders
from storekeep.server.domain.orders.fulfillments import Fulfillment
from storekeep.server.domain.orders.notes import OrderNote
from storekeep.server.domain.orders.orders import Order
from storekeep.server.domain.orders.quotes import QUOTES, Quote
from storekeep.server.domain.standard.pages import Page, PageTokens, count_fitting_items, limit_page_size
from storekeep.server.domain.standard.resources import MICROS, new_id
from storekeep.server.domain.stock import reservations
from storekeep.server.domain.stock.reservations import Reservation
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import personal_data as store

LIFETIME_US = 24 * 3600 * MICROS
"""How long the data of an export can be read, as the contract states."""
PAGE_SIZE_DEFAULT = 50
PURPOSE = "customer-export"
Record = Customer | Order | OrderNote | Fulfillment | Reservation | Quote | AuditEntry
Key = tuple[Any, ...]
"""The sort key of a record within its section."""
Section = Callable[[Transaction, str, Sequence[Any], int], list[tuple[Key, Record]]]
"""Returns the next records of a customer, given its id, the key of the last record, and the most records to return."""


class CustomerExport(msgspec.Struct, frozen=True):
    """One export; see `CustomerExport` in the contract."""

    customer_id: str
    id: str
    create_time_us: int

    @property
    def name(self) -> str:
        """The name in the audit log."""
        return f"customers/{self.customer_id}/exports/{self.id}"


def export_customer(database: Store, call: Call, customer_id: str) -> CustomerExport:
    """Start an export and record it in the audit log.

    Raises: CustomerNotFound.
    """

    def effect(mutation: Mutation) -> CustomerExport:
        CUSTOMERS.find(mutation.tx, (customer_id,))
        export = CustomerExport(customer_id, new_id(), mutation.tx.now_us)
        mutation.record("customer_export.started", before=None, after=export)
        return export

    return mutate(database, call, effect, CustomerExport)


def write_export_token(export: CustomerExport, *, subject: str, tokens: PageTokens) -> str:
    """Return the token with which an account can read the data of its export."""
    return tokens.write((PURPOSE, export.customer_id, subject), [export.id, export.create_time_us])


def read_customer_data(
    database: Store,
    customer_id: str,
    *,
    subject: str,
    export_token: str,
    page_size: int,
    page_token: str,
    tokens: PageTokens,
) -> Page[Record]:
    """Return one page of the data of an export.

    Args:
        subject: resource name of the account that reads.

    Raises: InvalidField for a token of another customer or account, or an old one, InvalidPageToken, CustomerNotFound,
        AuditEntryUnreadable.
    """
    identity = PURPOSE, customer_id, export_token
    started_us = _read_start((PURPOSE, customer_id, subject), export_token, tokens)
    first, *after = tokens.read(identity, page_token) or (0,)
    size = limit_page_size(page_size, default=PAGE_SIZE_DEFAULT)

    def work(tx: Transaction) -> Page[Record]:
        if started_us + LIFETIME_US < tx.now_us:
            raise InvalidField("export_token", "is more than a day old; start another export")
        CUSTOMERS.find(tx, (customer_id,))
        rows: list[tuple[Key, Record]] = []
        for number, (section, start) in enumerate(SECTIONS[first:], start=first):
            position = after if number == first and after else start
            found = section(tx, customer_id, position, size + 1 - len(rows))
            rows += [((number, *key), record) for key, record in found]
            if len(rows) > size:
                break
        records = [record for _, record in rows[:size]]
        count = count_fitting_items(records)
        token = tokens.write(identity, rows[count - 1][0]) if len(rows) > count else ""
        return Page(records[:count], token)

    try:
        return database.snapshot(work)
    except UnicodeDecodeError:
        raise AuditEntryUnreadable("auditEntries/-") from None


def _read_start(identity: Sequence[str], export_token: str, tokens: PageTokens) -> int:
    """Return the time of an export, microseconds since 1970.

    Raises: InvalidField.
    """
    try:
        position = tokens.read(identity, export_token)
    except InvalidPageToken:
        position = None
    if position is None:
        raise InvalidField("export_token", "must be the `export_token` of your own export of this customer")
    started_us: int = position[1]
    return started_us


# -- the sections of an export, in order


def _find_keys(statement: Statement, tx: Transaction, customer_id: str, after: Sequence[Any], limit: int) -> list[Key]:
    """Return the next sort keys of a section; the last part of each is the id."""
    first, second = after
    return [tuple(row) for row in statement.all(tx, customer_id=customer_id, first=first, second=second, limit=limit)]


def _find_customers(tx: Transaction, customer_id: str, after: Sequence[Any], limit: int) -> list[tuple[Key, Record]]:
    """Return the customer, then those that were merged into it."""
    keys = _find_keys(store.FIND_CUSTOMERS, tx, customer_id, after, limit)
    records = CUSTOMERS.read_rows(tx, CUSTOMERS.rows.find_many(tx, [key[-1:] for key in keys]))
    return list(zip(keys, records, strict=True))


def _find_orders(tx: Transaction, customer_id: str, after: Sequence[Any], limit: int) -> list[tuple[Key, Record]]:
    keys = _find_keys(store.FIND_ORDERS, tx, customer_id, after, limit)
    records = orders.read_orders(tx, orders.ROWS.find_many(tx, [key[-1:] for key in keys]))
    return list(zip(keys, records, strict=True))


def _find_notes(tx: Transaction, customer_id: str, after: Sequence[Any], limit: int) -> list[tuple[Key, Record]]:
    keys = _find_keys(store.FIND_NOTES, tx, customer_id, after, limit)
    rows = notes.ROWS.find_many(tx, [key[-1:] for key in keys])
    return list(zip(keys, notes.read_notes(tx, rows), strict=True))


def _find_fulfillments(tx: Transaction, customer_id: str, after: Sequence[Any], limit: int) -> list[tuple[Key, Record]]:
    keys = _find_keys(store.FIND_FULFILLMENTS, tx, customer_id, after, limit)
    rows = fulfillments.ROWS.find_many(tx, [key[-1:] for key in keys])
    return list(zip(keys, fulfillments.read_fulfillments(tx, rows), strict=True))


def _find_reservations(tx: Transaction, customer_id: str, after: Sequence[Any], limit: int) -> list[tuple[Key, Record]]:
    keys = _find_keys(store.FIND_RESERVATIONS, tx, customer_id, after, limit)
    rows = reservations.ROWS.find_many(tx, [key[-1:] for key in keys])
    return list(zip(keys, reservations.read_stored_rows(tx, rows), strict=True))


def _find_quotes(tx: Transaction, customer_id: str, after: Sequence[Any], limit: int) -> list[tuple[Key, Record]]:
    keys = _find_keys(store.FIND_QUOTES, tx, customer_id, after, limit)
    records = QUOTES.read_rows(tx, QUOTES.rows.find_many(tx, [key[-1:] for key in keys]))
    return list(zip(keys, records, strict=True))


def _find_entries(
    statement: Statement, tx: Transaction, customer_id: str, after: Sequence[Any], limit: int
) -> list[tuple[Key, Record]]:
    resource, sequence = after
    rows = statement.all(tx, customer_id=customer_id, resource=resource, sequence=sequence, limit=limit)
    entries = read_entries(tx, rows)
    return [((entry.resource, entry.sequence), entry) for entry in entries]


BEFORE_TEXT, BEFORE_RANK, BEFORE_TIME, BEFORE_ENTRY = ("", ""), (-1, ""), (-(2**62), ""), ("", 0)
"""Sort keys before all others, by their types."""
SECTIONS: tuple[tuple[Section, Key], ...] = (
    (_find_customers, BEFORE_RANK),
    (_find_orders, BEFORE_TIME),
    (_find_notes, BEFORE_TEXT),
    (_find_fulfillments, BEFORE_TEXT),
    (_find_reservations, BEFORE_TEXT),
    (_find_quotes, BEFORE_TIME),
    *((partial(_find_entries, statement), BEFORE_ENTRY) for statement in store.FIND_ENTRIES),
)
"""The sections of an export, and the sort key before the first record of each."""
