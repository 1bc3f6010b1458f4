"""Comparison of rows with the audit log: finds rows that were changed by SQL, outside Storekeep.

It compares every kind of row that mutations write. It reads page by page, each page in its own transaction, and blocks
no writer. docs/operations.md lists the data that it does not compare, and why.
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
from storekeep.server.domain.access.api_keys import API_KEYS, digest_key_hash
from storekeep.server.domain.access.roles import ROLES
from storekeep.server.domain.access.users import USERS
from storekeep.server.domain.catalog.categories import CATEGORIES
from storekeep.server.domain.catalog.products import PRODUCTS
from storekeep.server.domain.catalog.variants import VARIANTS
from storekeep.server.domain.customers import CUSTOMERS
from storekeep.server.domain.integrity.audited_sessions import (
    MIN_RETENTION_US,
    PAGE_ROWS,
    UNREADABLE,
    PageResult,
    check_pages,
    check_sessions,
    list_logged_names,
)
from storekeep.server.domain.integrity.personal_values import BlindIndexes, check_personal_values
from storekeep.server.domain.integrity.user_secrets import check_password_links, check_user_secrets
from storekeep.server.domain.integrity.webhook_secrets import check_webhook_secrets
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.domain.keys.keyrings import Keyring, SecretUnknown
from storekeep.server.domain.keys.personal_fields import compute_tokens
from storekeep.server.domain.orders import fulfillments, notes, orders
from storekeep.server.domain.orders.quotes import QUOTES
from storekeep.server.domain.pricing.coupons import COUPONS
from storekeep.server.domain.pricing.prices import PRICES
from storekeep.server.domain.pricing.promotions import PROMOTIONS
from storekeep.server.domain.pricing.shipping_methods import SHIPPING_METHODS
from storekeep.server.domain.pricing.tax_rates import TAX_RATES
from storekeep.server.domain.pricing.tax_zones import TAX_ZONES
from storekeep.server.domain.standard.collections import Collection
from storekeep.server.domain.stock import reservations, stock_levels
from storekeep.server.domain.stock.locations import LOCATIONS
from storekeep.server.domain.webhooks.endpoints import ENDPOINTS
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.rows import Rows
from storekeep.server.store.sql.statements import Row
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import access as auth_store
from storekeep.server.store.tables import audit as store

FIRST_LOCATION = "locations/main"
"""The only row that a migration creates, without an entry; see `0001_initial`."""
FIRST_LOCATION_IS: dict[str, Any] = {
    "display_name": "Main",
    "address": None,
    "priority": 0,
    "labels": {},
    "version": 1,
    "delete_time_us": None,
}
CHANGED_BY_MIGRATION = frozenset({"total_minor", "lines"})
"""The fields of orders that migration `0003_orders` changed without an entry; older entries have no `number`."""


COUNTED = frozenset({"uses", "spent_minor"})
"""The fields of promotions and coupons that orders count; see `counts`."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of resource whose rows are compared.

    Attributes:
        rows: its table.
        read: converts rows to resources, with their stored values: personal data stays encrypted, and is equal if its
            encrypted form is.
        pattern: a regular expression that finds the key in a resource name; empty if ended rows are purged.
        only: the fields to compare; empty for all common fields.
        ignored: fields of entries that rows do not have.
        logged: whether each row has an entry.
        indexes: the columns with blind indexes; None for a kind without personal data.
    """

    rows: Rows
    read: Callable[[Transaction, Sequence[Row]], Sequence[Any]]
    pattern: str
    only: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()
    logged: bool = True
    indexes: BlindIndexes | None = None


def _make_kind(collection: Collection[Any], *, ignored: frozenset[str] = frozenset()) -> Kind:
    pattern = re.escape(collection.pattern).replace(r"\{\}", "([^/]+)")
    indexes = _make_indexes(collection.resource)
    hidden = () if indexes is None else indexes.columns
    return Kind(
        collection.rows, collection.read_encrypted_rows, pattern, ignored=ignored.union(hidden), indexes=indexes
    )


def _make_indexes(resource: type[Any]) -> BlindIndexes | None:
    """Return the blind indexes of a type of resource; None if it has no personal fields."""
    personal = getattr(resource, "PERSONAL", None)
    return None if personal is None else BlindIndexes(personal.tokens, compute_tokens)


COLLECTIONS: tuple[Collection[Any], ...] = (
    ROLES,
    SERVICE_ACCOUNTS,
    API_KEYS,
    USERS,
    PRODUCTS,
    CATEGORIES,
    VARIANTS,
    CUSTOMERS,
    LOCATIONS,
    ENDPOINTS,
    TAX_ZONES,
    TAX_RATES,
    PRICES,
    SHIPPING_METHODS,
    QUOTES,
)
KINDS: tuple[Kind, ...] = (
    *(_make_kind(collection) for collection in COLLECTIONS),
    *(_make_kind(collection, ignored=COUNTED) for collection in (PROMOTIONS, COUPONS)),
    Kind(signing_keys.ROWS, signing_keys.read_public_keys, ""),
    Kind(
        orders.ROWS,
        orders.read_encrypted_rows,
        "orders/([^/]+)",
        ignored=frozenset({"change_reason", *orders.Order.PERSONAL.tokens}),
        indexes=_make_indexes(orders.Order),
    ),
    Kind(
        fulfillments.ROWS,
        fulfillments.read_encrypted_rows,
        "orders/[^/]+/fulfillments/([^/]+)",
        indexes=BlindIndexes(("tracking_number",), fulfillments.compute_tokens),
    ),
    Kind(
        notes.ROWS,
        notes.read_encrypted_rows,
        "orders/[^/]+/notes/([^/]+)",
        indexes=_make_indexes(notes.OrderNote),
    ),
    Kind(
        reservations.ROWS,
        reservations.read_encrypted_rows,
        "reservations/([^/]+)",
        ignored=frozenset(reservations.Reservation.PERSONAL.tokens),
        indexes=_make_indexes(reservations.Reservation),
    ),
    Kind(
        stock_levels.LEVELS,
        lambda tx, rows: [stock_levels.StockLevel(*row) for row in rows],
        "locations/([^/]+)/stockLevels/([^/]+)",
        only=frozenset({"backorder_limit", "safety_threshold", "low_stock_threshold"}),  # movements record the rest
        logged=False,
    ),
)


def check_rows(db: Store, chain: AuditChain | None = None) -> Iterator[str]:
    """Yield a text for each row that does not match the audit log, has no entry, or is missing.

    Args:
        chain: has the server's secret, to decrypt private keys; None skips private keys.
    """
    for kind in KINDS:
        yield from check_kind(db, kind)
    for (table,) in db.read(auth_store.EMPTY_IDS.all):
        yield f"{table}, row with an empty id: the audit log has no entry for it"
    yield from check_pages(db, "api_keys", auth_store.NEXT_API_KEY, _compare_key_hashes)
    yield from check_sessions(db)
    yield from _check_signing_keys(db, chain)
    yield from check_webhook_secrets(db, chain)
    yield from check_user_secrets(db, chain)
    yield from check_password_links(db)
    yield from _check_missing(db)


def check_kind(db: Store, kind: Kind) -> Iterator[str]:
    """Yield a text for each row of one kind that does not match the audit log; see `check_rows`."""
    after: Sequence[Any] | None = None
    key_indexes = [kind.rows.columns.index(column) for column in kind.rows.key]
    while True:
        try:
            rows, texts = db.snapshot(lambda tx: _compare_page(tx, kind, after, PAGE_ROWS))  # noqa: B023 - read at once
        except UNREADABLE:
            rows, texts = _compare_next_row(db, kind, after)
        yield from texts
        if not rows:
            return
        after = [rows[-1][index] for index in key_indexes]


def _compare_next_row(db: Store, kind: Kind, after: Sequence[Any] | None) -> tuple[list[Row], list[str]]:
    """Compare one row of a page that has an unreadable row. Report an unreadable row by its key, and skip it."""
    name = kind.rows.table._meta.table_name
    try:
        key = db.snapshot(lambda tx: _find_next_key(tx, kind, after))
    except UNREADABLE as error:
        return [], [f"{name}: a key cannot be read ({error}); the rows from it on are not compared"]
    if key is None:
        return [], []
    try:
        return db.snapshot(lambda tx: _compare_page(tx, kind, after, 1))
    except UNREADABLE as error:
        row = [None] * len(kind.rows.columns)
        for column, value in zip(kind.rows.key, key, strict=True):
            row[kind.rows.columns.index(column)] = value
        key_text = "/".join(str(part) for part in key)
        return [tuple(row)], [f"{name}, row {key_text}: it holds data that Storekeep never writes ({error})"]


def _find_next_key(tx: Transaction, kind: Kind, after: Sequence[Any] | None) -> Row | None:
    fields = [getattr(kind.rows.table, column) for column in kind.rows.key]
    query = _limit_to_page(kind.rows.table.select(*fields), fields, after, 1)
    row: Row | None = tx.run(query).fetchone()
    return row


def _limit_to_page(query: Any, fields: list[Any], after: Sequence[Any] | None, rows_max: int) -> Any:
    if after is not None:
        query = query.where(peewee.Tuple(*fields) > peewee.Tuple(*after))
    return query.order_by(*fields).limit(rows_max)


def _compare_page(
    tx: Transaction, kind: Kind, after: Sequence[Any] | None, rows_max: int
) -> tuple[list[Row], list[str]]:
    """Return a page of rows, and a text for each problem with them."""
    fields = [getattr(kind.rows.table, column) for column in kind.rows.key]
    rows = tx.run(_limit_to_page(kind.rows.table.select(*kind.rows.fields), fields, after, rows_max)).fetchall()
    if not rows:
        return [], []
    resources = kind.read(tx, rows)
    names = msgspec.json.encode([resource.name for resource in resources]).decode()
    last = {name: (after_json, sequence) for name, after_json, sequence in store.LAST_STATES.all(tx, resources=names)}
    problems = [_compare(kind, resource, *last[resource.name]) for resource in resources]
    texts = [f"{resource.name}: {text}" for resource, text in zip(resources, problems, strict=True) if text]
    if kind.indexes is not None:
        places = [(column, kind.rows.columns.index(column)) for column in kind.indexes.columns]
        stored = [{column: row[index] for column, index in places} for row in rows]
        texts += check_personal_values(tx, resources, stored, kind.indexes)
    return rows, texts


def _compare(kind: Kind, resource: Any, recorded_json: Any, sequence: int | None) -> str:
    """Return how a row differs from its last entry; empty if it does not."""
    if sequence is None:
        current = msgspec.json.decode(msgspec.json.encode(resource))
        if not kind.logged or (resource.name == FIRST_LOCATION and FIRST_LOCATION_IS.items() <= current.items()):
            return ""
        return "the audit log has no entry for it"
    if recorded_json is None:
        return f"its row exists, but auditEntries/{sequence} records its deletion"
    try:
        fields = _find_differences(kind, resource, recorded_json)
    except UNREADABLE:
        return f"auditEntries/{sequence} cannot be read"
    return f"{', '.join(fields)} not as recorded in auditEntries/{sequence}" if fields else ""


def _find_differences(kind: Kind, resource: Any, recorded_json: bytes) -> list[str]:
    """Return the fields of a row that differ from its last entry.

    Raises: one of `UNREADABLE`.
    """
    try:
        recorded = msgspec.json.decode(recorded_json, type=type(resource))
    except msgspec.ValidationError:
        return _find_differences_to_older(kind, resource, recorded_json)
    if kind.rows is orders.ROWS and not recorded.number:
        return _find_differences_to_older(kind, resource, recorded_json)
    compared = kind.only or set(resource.__struct_fields__) - kind.ignored
    return sorted(name for name in compared if getattr(recorded, name) != getattr(resource, name))


def _find_differences_to_older(kind: Kind, resource: Any, recorded_json: bytes) -> list[str]:
    """Return the fields of a row that differ from an entry of an older release. Fields that it lacks are not compared.

    Raises: one of `UNREADABLE`.
    """
    recorded = msgspec.json.decode(recorded_json, type=dict)
    current = msgspec.json.decode(msgspec.json.encode(resource))
    compared = recorded.keys() & current.keys() - kind.ignored
    if kind.only:
        compared &= kind.only
    if kind.rows is orders.ROWS:
        compared -= CHANGED_BY_MIGRATION
    return sorted(name for name in compared if not _is_subset(recorded[name], current[name]))


def _is_subset(recorded: Any, current: Any) -> bool:
    """Return whether a value equals the recorded one, except for fields that a later release added."""
    if isinstance(recorded, dict) and isinstance(current, dict):
        names = (name for name, value in recorded.items() if name in current or value is not None)
        return all(_is_subset(recorded[name], current.get(name)) for name in names)
    if isinstance(recorded, list) and isinstance(current, list):
        return len(recorded) == len(current) and all(map(_is_subset, recorded, current))
    return operator.eq(recorded, current) and isinstance(recorded, bool) == isinstance(current, bool)


def _compare_key_hashes(tx: Transaction, after: str, rows_max: int) -> PageResult:
    rows = auth_store.KEY_HASHES_AFTER.all(tx, after=after, rows_max=rows_max)
    problems = []
    for _, account_id, key_id, digest, key_hash in rows:
        name = f"serviceAccounts/{account_id}/apiKeys/{key_id}"
        if not isinstance(key_hash, bytes | memoryview):
            problems.append(f"{name}: the hash of the key is missing or invalid")
        elif digest and digest != digest_key_hash(bytes(key_hash)):
            problems.append(f"{name}: the hash of the key does not match the audit log")
    return (rows[-1][0] if rows else ""), problems


def _check_signing_keys(db: Store, chain: AuditChain | None) -> Iterator[str]:
    """Yield a text for each signing key that is missing before its end, or whose private key is not its own."""
    for names in list_logged_names(db, "signingKeys/"):
        yield from db.snapshot(lambda tx: _check_missing_keys(tx, names))  # noqa: B023 - read at once
    if chain is None:
        return
    try:
        yield from db.snapshot(lambda tx: _check_private_keys(tx, chain))
    except UNREADABLE as error:
        yield f"signing_keys: a row holds data that Storekeep never writes ({error})"


def _check_missing_keys(tx: Transaction, names: list[str]) -> list[str]:
    keys = signing_keys.ROWS.find_many(tx, [(name.rpartition("/")[2],) for name in names])
    existing = {f"signingKeys/{row[0]}" for row in keys}
    missing = msgspec.json.encode([name for name in names if name not in existing]).decode()
    problems = []
    for name, after_json, sequence in store.LAST_STATES.all(tx, resources=missing):
        try:
            expire_us = msgspec.json.decode(after_json, type=signing_keys.SigningKey).expire_time_us
        except UNREADABLE:
            problems.append(f"{name}: auditEntries/{sequence} cannot be read")
            continue
        if expire_us is None or expire_us > tx.now_us - MIN_RETENTION_US:
            problems.append(f"{name}: its row is missing, but it exists in auditEntries/{sequence}")
    return problems


def _check_private_keys(tx: Transaction, chain: AuditChain) -> list[str]:
    try:
        keyring = Keyring.from_secret(chain.keyring.read_current(tx).secret)
    except SecretUnknown:
        return []  # the check of the audit chain reports it
    rows = auth_store.SIGNING_KEYS.all(tx, now_us=tx.now_us)
    return [
        f"signingKeys/{row[0]}: its private key cannot be decrypted, or belongs to another public key"
        for row in rows
        if not signing_keys.matches_private_key(row, keyring)
    ]


def _check_missing(db: Store) -> Iterator[str]:
    """Yield a text for each resource that exists according to its last entry, but has no row."""
    patterns = [(kind, re.compile(kind.pattern)) for kind in KINDS if kind.pattern]
    after = ""
    while True:
        try:
            last, texts = db.snapshot(lambda tx: _check_missing_page(tx, patterns, after))  # noqa: B023 - read at once
        except UNREADABLE:
            yield "audit_entries: a resource name cannot be read; see audit-chain"
            return
        yield from texts
        if not last:
            return
        after = last


def _check_missing_page(
    tx: Transaction, patterns: list[tuple[Kind, re.Pattern[str]]], after: str
) -> tuple[str, list[str]]:
    """Return the last resource name of a page (empty after the last page), and a text for each missing row."""
    page = store.RESOURCES_AFTER.all(tx, after=after, rows_max=PAGE_ROWS)
    expected: dict[int, list[tuple[tuple[str, ...], str, int]]] = {}
    for name, sequence, exists in page:
        for index, (_, pattern) in enumerate(patterns):
            match = pattern.fullmatch(name) if exists else None
            if match:
                expected.setdefault(index, []).append((match.groups(), name, sequence))
    texts = []
    for index, entries in expected.items():
        rows = patterns[index][0].rows
        key_indexes = [rows.columns.index(column) for column in rows.key]
        existing = {tuple(row[i] for i in key_indexes) for row in rows.find_many(tx, [key for key, _, _ in entries])}
        texts += [
            f"{name}: its row is missing, but it exists in auditEntries/{sequence}"
            for key, name, sequence in entries
            if key not in existing
        ]
    return (page[-1][0] if page else ""), texts
