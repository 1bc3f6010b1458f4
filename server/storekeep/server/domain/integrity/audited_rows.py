"""Rows against the audit log: what was changed by SQL of one's own differs from what the log says of it last.

Each kind of row that mutations write is compared, in pages, each by itself, so that nobody has to wait. What is not
compared, and why, stands in docs/operations.md.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import peewee

from storekeep.server.domain.access import signing_keys
from storekeep.server.domain.access.accounts import SERVICE_ACCOUNTS
from storekeep.server.domain.access.api_keys import API_KEYS, digest_of
from storekeep.server.domain.access.roles import ROLES
from storekeep.server.domain.catalog.categories import CATEGORIES
from storekeep.server.domain.catalog.products import PRODUCTS
from storekeep.server.domain.catalog.variants import VARIANTS
from storekeep.server.domain.customers import CUSTOMERS
from storekeep.server.domain.integrity.audited_sessions import (
    KEPT_US,
    PAGE_ROWS,
    UNREADABLE,
    Found,
    check_pages,
    check_sessions,
    logged_names,
)
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.domain.keys.keyrings import Keyring, SecretUnknown
from storekeep.server.domain.orders import fulfillments, notes, orders
from storekeep.server.domain.standard.collections import Collection
from storekeep.server.domain.stock import levels, reservations
from storekeep.server.domain.stock.locations import LOCATIONS
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.rows import Rows
from storekeep.server.store.sql.statements import Row
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import access as auth_store
from storekeep.server.store.tables import audit as store

FIRST_LOCATION = "locations/main"
"""The one row that a migration makes, without an entry; see `0001_initial`."""
FIRST_LOCATION_IS = {"display_name": "Main", "address": None, "priority": 0, "version": 1, "delete_time_us": None}
CHANGED_BY_MIGRATION = frozenset({"total_minor", "lines"})
"""What `0003_orders` changed of orders without an entry; entries from before have no `number`."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of resource whose rows are compared.

    Attributes:
        rows: its table.
        read: rows as resources, as they are written.
        pattern: finds the key in a resource name; empty where rows are removed once they are over.
        only: the fields that are compared; empty for all that both have.
        ignored: fields that are in entries and not in rows.
        logged: whether each row has an entry.
    """

    rows: Rows
    read: Callable[[Transaction, Sequence[Row]], Sequence[Any]]
    pattern: str
    only: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()
    logged: bool = True


def _kind(collection: Collection[Any]) -> Kind:
    pattern = re.escape(collection.pattern).replace(r"\{\}", "([^/]+)")
    return Kind(collection.rows, collection.read_rows, pattern)


COLLECTIONS: tuple[Collection[Any], ...] = (
    ROLES,
    SERVICE_ACCOUNTS,
    API_KEYS,
    PRODUCTS,
    CATEGORIES,
    VARIANTS,
    CUSTOMERS,
    LOCATIONS,
)
KINDS: tuple[Kind, ...] = (
    *(_kind(collection) for collection in COLLECTIONS),
    Kind(signing_keys.ROWS, signing_keys.read_public_keys, ""),
    Kind(orders.ROWS, orders.read_written, "orders/([^/]+)", ignored=frozenset({"change_reason"})),
    Kind(fulfillments.ROWS, fulfillments.read_fulfillments, "orders/[^/]+/fulfillments/([^/]+)"),
    Kind(
        notes.ROWS,
        lambda tx, rows: [notes.OrderNote(*row) for row in rows],
        "orders/[^/]+/notes/([^/]+)",
    ),
    Kind(reservations.ROWS, reservations.read_written, "reservations/([^/]+)"),
    Kind(
        levels.LEVELS,
        lambda tx, rows: [levels.StockLevel(*row) for row in rows],
        "locations/([^/]+)/stockLevels/([^/]+)",
        only=frozenset({"backorder_limit", "safety_threshold"}),  # the movements tell the rest
        logged=False,
    ),
)


def check_rows(db: Store, chain: AuditChain | None = None) -> Iterator[str]:
    """Each row that is not what the log says of it, rows that it does not know, and rows that are gone; a text each.

    Args:
        chain: has the server's secret, to open private keys; None leaves these out.
    """
    for kind in KINDS:
        yield from _check_kind(db, kind)
    yield from check_pages(db, "api_keys", auth_store.NEXT_API_KEY, _key_hashes_page)
    yield from check_sessions(db)
    yield from _check_signing_keys(db, chain)
    yield from _check_gone(db)


def _check_kind(db: Store, kind: Kind) -> Iterator[str]:
    after: Sequence[Any] | None = None
    places = [kind.rows.columns.index(column) for column in kind.rows.key]
    while True:
        try:
            rows, found = db.snapshot(lambda tx: _compare_page(tx, kind, after, PAGE_ROWS))  # noqa: B023 - read at once
        except UNREADABLE:
            rows, found = _compare_one_by_one(db, kind, after)
        yield from found
        if not rows:
            return
        after = [rows[-1][place] for place in places]


def _compare_one_by_one(db: Store, kind: Kind, after: Sequence[Any] | None) -> tuple[list[Row], list[str]]:
    """A page in which a row cannot be read: up to that row, which is named, and passed over by its key."""
    name = kind.rows.table._meta.table_name
    try:
        key = db.snapshot(lambda tx: _next_key(tx, kind, after))
    except UNREADABLE as error:
        return [], [f"{name}: a key holds what is never written there ({error}); the rows from it on are not compared"]
    if key is None:
        return [], []
    try:
        return db.snapshot(lambda tx: _compare_page(tx, kind, after, 1))
    except UNREADABLE as error:
        row = [None] * len(kind.rows.columns)
        for column, value in zip(kind.rows.key, key, strict=True):
            row[kind.rows.columns.index(column)] = value
        told = "/".join(str(part) for part in key)
        return [tuple(row)], [f"{name}, row {told}: it holds what is never written there ({error})"]


def _next_key(tx: Transaction, kind: Kind, after: Sequence[Any] | None) -> Row | None:
    fields = [getattr(kind.rows.table, column) for column in kind.rows.key]
    query = _page(kind.rows.table.select(*fields), fields, after, 1)
    row: Row | None = tx.run(query).fetchone()
    return row


def _page(query: Any, fields: list[Any], after: Sequence[Any] | None, rows_max: int) -> Any:
    if after is not None:
        query = query.where(peewee.Tuple(*fields) > peewee.Tuple(*after))
    return query.order_by(*fields).limit(rows_max)


def _compare_page(
    tx: Transaction, kind: Kind, after: Sequence[Any] | None, rows_max: int
) -> tuple[list[Row], list[str]]:
    """A page of rows, and what is wrong with them."""
    fields = [getattr(kind.rows.table, column) for column in kind.rows.key]
    rows = tx.run(_page(kind.rows.table.select(*kind.rows.fields), fields, after, rows_max)).fetchall()
    if not rows:
        return [], []
    resources = kind.read(tx, rows)
    names = msgspec.json.encode([resource.name for resource in resources]).decode()
    last = {name: (said, sequence) for name, said, sequence in store.LAST_AFTER.all(tx, resources=names)}
    found = [_compare(kind, resource, *last[resource.name]) for resource in resources]
    return rows, [f"{resource.name}: {text}" for resource, text in zip(resources, found, strict=True) if text]


def _compare(kind: Kind, resource: Any, said: Any, sequence: int | None) -> str:
    """What differs between a row and what its last entry says; empty when nothing does."""
    if sequence is None:
        is_now = msgspec.json.decode(msgspec.json.encode(resource))
        if not kind.logged or (resource.name == FIRST_LOCATION and _is_subset(FIRST_LOCATION_IS, is_now)):
            return ""
        return "the audit log has no entry of it"
    if said is None:
        return f"it is there, and auditEntries/{sequence} says that it is gone"
    try:
        wrong = _differing(kind, resource, said)
    except UNREADABLE:
        return f"auditEntries/{sequence} cannot be read"
    return f"{', '.join(wrong)} not as in auditEntries/{sequence}" if wrong else ""


def _differing(kind: Kind, resource: Any, said: bytes) -> list[str]:
    """The fields of a row that are not as its last entry has them.

    Raises: one of `UNREADABLE`.
    """
    try:
        was = msgspec.json.decode(said, type=type(resource))
    except msgspec.ValidationError:
        return _differing_of_older(kind, resource, said)
    if kind.rows is orders.ROWS and not was.number:
        return _differing_of_older(kind, resource, said)
    compared = kind.only or set(resource.__struct_fields__) - kind.ignored
    return sorted(name for name in compared if getattr(was, name) != getattr(resource, name))


def _differing_of_older(kind: Kind, resource: Any, said: bytes) -> list[str]:
    """The same for an entry of a release that wrote less: what it does not say is not compared.

    Raises: one of `UNREADABLE`.
    """
    was, is_now = msgspec.json.decode(said, type=dict), msgspec.json.decode(msgspec.json.encode(resource))
    compared = was.keys() & is_now.keys() - kind.ignored
    if kind.only:
        compared &= kind.only
    if kind.rows is orders.ROWS:
        compared -= CHANGED_BY_MIGRATION
    return sorted(name for name in compared if not _is_subset(was[name], is_now[name]))


def _is_subset(was: Any, now: Any) -> bool:
    """Whether a value is as it was; what a later release added is not compared."""
    if isinstance(was, dict) and isinstance(now, dict):
        return all(_is_subset(value, now.get(name)) for name, value in was.items() if name in now or value is not None)
    if isinstance(was, list) and isinstance(now, list):
        return len(was) == len(now) and all(map(_is_subset, was, now))
    return operator.eq(was, now) and isinstance(was, bool) == isinstance(now, bool)


def _key_hashes_page(tx: Transaction, after: str, rows_max: int) -> Found:
    rows = auth_store.KEY_HASHES_AFTER.all(tx, after=after, rows_max=rows_max)
    texts = []
    for _, account_id, key_id, digest, key_hash in rows:
        name = f"serviceAccounts/{account_id}/apiKeys/{key_id}"
        if not isinstance(key_hash, bytes | memoryview):
            texts.append(f"{name}: the hash of the key is missing, or no hash")
        elif digest and digest != digest_of(bytes(key_hash)):
            texts.append(f"{name}: the hash of the key is not the one that the audit log knows")
    return (rows[-1][0] if rows else ""), texts


def _check_signing_keys(db: Store, chain: AuditChain | None) -> Iterator[str]:
    """Signing keys that are gone before they are over, and private halves that are not those of their public ones."""
    for names in logged_names(db, "signingKeys/"):
        yield from db.snapshot(lambda tx: _missing_keys(tx, names))  # noqa: B023 - read at once
    if chain is None:
        return
    try:
        yield from db.snapshot(lambda tx: _misfit_keys(tx, chain))
    except UNREADABLE as error:
        yield f"signing_keys: they hold what is never written there ({error})"


def _missing_keys(tx: Transaction, names: list[str]) -> list[str]:
    keys = signing_keys.ROWS.find_many(tx, [(name.rpartition("/")[2],) for name in names])
    existing = {f"signingKeys/{row[0]}" for row in keys}
    asked = msgspec.json.encode([name for name in names if name not in existing]).decode()
    found = []
    for name, said, sequence in store.LAST_AFTER.all(tx, resources=asked):
        try:
            expire_us = msgspec.json.decode(said, type=signing_keys.SigningKey).expire_time_us
        except UNREADABLE:
            found.append(f"{name}: auditEntries/{sequence} cannot be read")
            continue
        if expire_us is None or expire_us > tx.now_us - KEPT_US:
            found.append(f"{name}: it is gone, and auditEntries/{sequence} says that it is there")
    return found


def _misfit_keys(tx: Transaction, chain: AuditChain) -> list[str]:
    try:
        keyring = Keyring.of(chain.keyring.current(tx).secret)
    except SecretUnknown:
        return []  # the chain cannot be checked either, and says so
    rows = auth_store.SIGNING_KEYS.all(tx, now_us=tx.now_us)
    return [
        f"signingKeys/{row[0]}: its private key does not open, or is another one"
        for row in rows
        if not signing_keys.has_its_private_key(row, keyring)
    ]


def _check_gone(db: Store) -> Iterator[str]:
    """Resources that are there by their last entry, and have no row."""
    patterns = [(kind, re.compile(kind.pattern)) for kind in KINDS if kind.pattern]
    after = ""
    while True:
        try:
            last, texts = db.snapshot(lambda tx: _gone_page(tx, patterns, after))  # noqa: B023 - read at once
        except UNREADABLE:
            yield "audit_entries: a resource name cannot be read, see audit-chain"
            return
        yield from texts
        if not last:
            return
        after = last


def _gone_page(tx: Transaction, patterns: list[tuple[Kind, re.Pattern[str]]], after: str) -> tuple[str, list[str]]:
    """The last resource name of a page, and what is gone of those on it; empty behind the last page."""
    page = store.RESOURCES_AFTER.all(tx, after=after, rows_max=PAGE_ROWS)
    wanted: dict[int, list[tuple[tuple[str, ...], str, int]]] = {}
    for name, sequence, exists in page:
        for place, (_, pattern) in enumerate(patterns):
            match = pattern.fullmatch(name) if exists else None
            if match:
                wanted.setdefault(place, []).append((match.groups(), name, sequence))
    texts = []
    for place, entries in wanted.items():
        rows = patterns[place][0].rows
        places = [rows.columns.index(column) for column in rows.key]
        there = {tuple(row[i] for i in places) for row in rows.find_many(tx, [key for key, _, _ in entries])}
        texts += [
            f"{name}: it is gone, and auditEntries/{sequence} says that it is there"
            for key, name, sequence in entries
            if key not in there
        ]
    return (page[-1][0] if page else ""), texts
