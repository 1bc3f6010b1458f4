"""Turns the database of a stopped server into one of a release that stored personal data in clear.

It writes the rows, the search words, the stored replies and the ledger as that release did, with the hashes that its
ledger had, and the steps that migrations would have listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from storekeep.server.config import Settings
from storekeep.server.domain.access.users import USERS, User
from storekeep.server.domain.audit.log import AuditEntry
from storekeep.server.domain.customers import CUSTOMERS, Customer, build_customer_words
from storekeep.server.domain.keys.audit_chain import FIRST_HASH, AuditChain
from storekeep.server.domain.keys.personal_fields import (
    compute_tokens,
    decrypt_copies,
    decrypt_reply,
    decrypt_texts,
    encode_stored,
    encrypt_resource,
)
from storekeep.server.domain.orders import fulfillments, notes, orders
from storekeep.server.domain.orders.pricing import OrderPricing, hide_pricing
from storekeep.server.domain.orders.quotes import QUOTES, Quote
from storekeep.server.domain.personal_data.existing_data import REPLY_TYPES, find_kind, read_reasons
from storekeep.server.domain.standard.batches import ItemResult
from storekeep.server.domain.stock import reservations
from storekeep.server.domain.webhooks.deliveries import format_name
from storekeep.server.store import opening
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import audit
from storekeep.server.wiring.data_keys import make_data_keys
from storekeep.server.wiring.keyrings import read_keyring
from tests.support.databases import Database

STEPS = (
    "customers",
    "orders",
    "order_notes",
    "fulfillments",
    "reservations",
    "quotes",
    "users",
    "webhook_deliveries",
    "replies",
    "stock_movements",
    "audit_entries",
    "files",
)
NEWER_STEPS = ("customers", "orders", "quotes", "users", "replies", "audit_entries", "files")
READERS: dict[str, tuple[Any, Any]] = {
    "customers": (CUSTOMERS.rows, CUSTOMERS.read_stored_rows),
    "orders": (orders.ROWS, orders.read_stored_rows),
    "order_notes": (notes.ROWS, notes.read_notes),
    "fulfillments": (fulfillments.ROWS, fulfillments.read_fulfillments),
    "reservations": (reservations.ROWS, reservations.read_stored_rows),
    "quotes": (QUOTES.rows, QUOTES.read_stored_rows),
    "users": (USERS.rows, USERS.read_stored_rows),
}
"""Table -> its rows, and the function that reads them."""
NULLS = {
    "customers": ("exemption",),
    "orders": ("shipping_address",),
    "quotes": ("shipping_address", "billing_address", "shipping", "tax_address", "exemption"),
}
"""Table -> the columns that have the JSON `null` for no value."""
OTHER_NAMES = {"customer": "customer_id", "order": "order_id", "location": "location_id"}


def store_in_clear(database: Database, data_dir: Path) -> None:
    """Write everything as an older release did."""
    settings = Settings(data_dir=data_dir, database_url=database.url)
    changes: list[tuple[str, tuple[Any, ...]]] = []
    with closing(opening.open_store(database.url)) as store:
        store.chain, store.data_keys = AuditChain(read_keyring(settings)), make_data_keys(settings)
        store.snapshot(lambda tx: _collect(tx, changes, store.chain, store.data_keys))
    with database.unguarded() as session:
        for sql, values in changes:
            session.run(sql, *values)
        session.run("DELETE FROM data_keys")
        for number, step in enumerate(STEPS, start=1):
            session.run("INSERT INTO encryption_steps (number, name, position) VALUES (?, ?, '')", number, step)


@contextmanager
def former_rules() -> Iterator[None]:
    """Encrypt as the release before `0033_encrypted_quotes`: no quotes, no users, and no exemptions of customers."""
    fields = [kind.PERSONAL.hidden for kind in (Customer, orders.Order, Quote, User)]
    present = [dict(each) for each in fields]
    try:
        del fields[0]["exemption"]
        fields[1]["pricing"] = _hide_former_pricing
        fields[2].clear()
        fields[3].clear()
        yield
    finally:
        for each, former in zip(fields, present, strict=True):
            each.clear()
            each.update(former)


def _hide_former_pricing(pricing: OrderPricing) -> OrderPricing:
    hidden = hide_pricing(pricing)
    assert hidden is not None
    return msgspec.structs.replace(hidden, customer=pricing.customer)


def store_without_quotes(database: Database, data_dir: Path) -> None:
    """Write customers, orders, quotes and users as the release before `0033_encrypted_quotes` did."""
    settings = Settings(data_dir=data_dir, database_url=database.url)
    changes: list[tuple[str, tuple[Any, ...]]] = []
    with closing(opening.open_store(database.url)) as store:
        store.chain, store.data_keys = AuditChain(read_keyring(settings)), make_data_keys(settings)
        store.snapshot(lambda tx: _collect_former(tx, changes, store.chain, store.data_keys))
    with database.unguarded() as session:
        for sql, values in changes:
            session.run(sql, *values)
        for number, step in enumerate(NEWER_STEPS, start=1):
            session.run("INSERT INTO encryption_steps (number, name, position) VALUES (?, ?, '')", number, step)


def _collect_former(
    tx: Transaction, changes: list[tuple[str, tuple[Any, ...]]], chain: AuditChain, data_keys: Any
) -> None:
    """Collect the statements."""
    tx.data_keys = data_keys
    for table in ("customers", "orders", "quotes", "users"):
        rows, read = READERS[table]
        reasons: dict[str, str] = {}
        resources = read(tx, tx.run(rows.table.select(*rows.fields)).fetchall())
        if table == "orders":
            reasons = read_reasons(tx, [one.name for one in resources])
        for resource in resources:
            known = msgspec.structs.replace(resource, change_reason=reasons[resource.name]) if reasons else resource
            with former_rules():
                stored = encrypt_resource(tx, known)
            tokens = compute_tokens(tx, resource) if table in ("customers", "orders") else {}
            changes.append(_write_row(table, rows, msgspec.structs.replace(stored, **tokens)))

    def encrypt(resource: str, data: bytes | None) -> bytes | None:
        kind = find_kind(resource)
        if data is None or kind is None:
            return data
        with former_rules():
            return encode_stored(tx, msgspec.json.decode(data, type=kind))

    _collect_entries(tx, changes, chain, convert=encrypt)


def _collect(tx: Transaction, changes: list[tuple[str, tuple[Any, ...]]], chain: AuditChain, data_keys: Any) -> None:
    """Collect the statements."""
    tx.data_keys = data_keys
    for table, (rows, read) in READERS.items():
        for resource in read(tx, tx.run(rows.table.select(*rows.fields)).fetchall()):
            changes.append(_write_row(table, rows, resource))
            if table == "customers":
                words = build_customer_words(resource)
                sql = "UPDATE customer_documents SET title = ?, details = ? WHERE customer_id = ?"
                changes.append((sql, (words.title, words.details, resource.id)))
    for endpoint_id, sequence, text in tx.connection.execute(
        "SELECT endpoint_id, sequence, last_reply FROM webhook_deliveries WHERE last_reply <> ''"
    ).fetchall():
        (reply,) = decrypt_texts(tx, [(text, format_name(endpoint_id, sequence))])
        sql = "UPDATE webhook_deliveries SET last_reply = ? WHERE endpoint_id = ? AND sequence = ?"
        changes.append((sql, (reply, endpoint_id, sequence)))
    for reply_id, method, data in tx.connection.execute("SELECT id, method, reply FROM replies").fetchall():
        if data is not None and method in REPLY_TYPES:
            changes.append(("UPDATE replies SET reply = ? WHERE id = ?", (_decrypt(tx, method, bytes(data)), reply_id)))
    _collect_entries(tx, changes, chain)


def _write_row(table: str, rows: Any, resource: Any) -> tuple[str, tuple[Any, ...]]:
    values: dict[str, Any] = {}
    for column in rows.columns:
        value = getattr(resource, OTHER_NAMES.get(column, column))
        if isinstance(value, (dict, tuple, msgspec.Struct)):
            value = msgspec.json.encode(value).decode()
        elif value is None and column in NULLS.get(table, ()):
            value = "null"
        values[getattr(rows.table, column).column_name] = value
    if table == "orders":
        values |= {name: values[name] or None for name in ("external_reference",)}
    columns = ", ".join(f'"{name}" = ?' for name in values)
    return f"UPDATE {table} SET {columns} WHERE id = ?", (*values.values(), resource.id)


def _decrypt(tx: Transaction, method: str, data: bytes) -> bytes:
    kind: Any = REPLY_TYPES[method]
    try:
        reply: Any = msgspec.json.decode(data, type=tuple[kind, ...])
    except msgspec.ValidationError:
        reply = msgspec.json.decode(data, type=tuple[ItemResult[kind], ...])
    return msgspec.json.encode(decrypt_reply(tx, reply))


def _collect_entries(
    tx: Transaction,
    changes: list[tuple[str, tuple[Any, ...]]],
    chain: AuditChain,
    *,
    convert: Callable[[str, bytes | None], bytes | None] = lambda _resource, data: data,
) -> None:
    """Collect the entries, chained anew with the keys of their epochs.

    Args:
        convert: returns what is stored of a resource, given its name and its JSON in clear.
    """
    epochs = {first: number for number, first, _, _ in audit.EPOCHS.all(tx)}
    key, previous = None, FIRST_HASH
    for row in audit.ENTRIES_AFTER.all(tx, sequence=0, rows_max=100_000):
        entry = AuditEntry(*row)
        if entry.sequence in epochs:
            key = chain.get_key(tx, epochs[entry.sequence])
        before, after = decrypt_copies(
            tx, [(entry.resource, None if copy is None else bytes(copy)) for copy in (entry.before, entry.after)]
        )
        before, after = convert(entry.resource, before), convert(entry.resource, after)
        entry_hash = entry.change.chain(key, previous, before, after)
        sql = "UPDATE audit_entries SET before = ?, after = ?, previous_hash = ?, entry_hash = ? WHERE sequence = ?"
        changes.append((sql, (before, after, previous, entry_hash, entry.sequence)))
        previous = entry_hash
