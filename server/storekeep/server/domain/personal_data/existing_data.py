"""Encryption of the personal data in a database of an older release: table by table, in batches, before it is served.

Each batch is one transaction with its position, so that an interrupted run continues. Invariant: the audit chain stays
valid. Hashes of before cover the old content, so a new epoch records a digest of all encrypted entries at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import msgspec

from storekeep.server.domain.access.users import USERS, User
from storekeep.server.domain.audit.log import ENCRYPTED_REASON, digest_history
from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.catalog.documents import build_product_words
from storekeep.server.domain.customers import CUSTOMERS, Customer, build_document
from storekeep.server.domain.errors import PersonalDataErased
from storekeep.server.domain.keys.personal_fields import (
    decrypt_copies,
    decrypt_reply,
    decrypt_resources,
    encrypt_copy,
    encrypt_reply,
    encrypt_text,
    find_subject,
    has_clear_values,
    hide_erased,
    protect_fingerprint,
    require_keys,
)
from storekeep.server.domain.mutations import Mutation
from storekeep.server.domain.orders import fulfillments, notes, orders
from storekeep.server.domain.orders.quotes import QUOTES, Quote
from storekeep.server.domain.standard.batches import ItemResult
from storekeep.server.domain.standard.collections import Collection
from storekeep.server.domain.standard.resources import Deletable
from storekeep.server.domain.stock import reservations
from storekeep.server.domain.webhooks.deliveries import SUBJECT, format_name
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import audit
from storekeep.server.store.tables import encryption_steps as store
from storekeep.server.store.tables.search import CUSTOMER_INDEX, PRODUCT_INDEX

R = TypeVar("R")
C = TypeVar("C", bound=Deletable)
BATCH_ROWS = 500
FILES = "files"
"""The last step of every upgrade: rewrite the files, so that no freed page has old content. The caller does that."""
CALL = Call(Caller("system/personal-data"), "system/personal-data/EncryptExistingData")
REPLY_TYPES: dict[str, type[Any]] = {
    f"storekeep.v1.CustomerService/{method}": Customer for method in ("BatchCreateCustomers", "BatchUpdateCustomers")
}
"""The methods whose stored replies have personal data -> the resources in them."""


def encrypt_existing_data(database: Store, *, rewrite_files: Callable[[], None]) -> int:
    """Encrypt the personal data that is not encrypted yet. Nothing else may write meanwhile.

    Args:
        rewrite_files: removes the old content of freed pages.

    Returns: the number of rows that were read.

    Raises: the errors of `Store.write`, KeyUnknown, ChainKeyMissing.
    """
    count = 0
    while (step := database.read(store.NEXT_STEP.one)) is not None:
        number, name, position = step
        if name == FILES:
            database.write(CUSTOMER_INDEX.rebuild)
            rewrite_files()
            database.write(lambda tx: store.END_STEP.run(tx, number=number))  # noqa: B023 - runs at once
        else:
            count += database.write(lambda tx: _run_batch(tx, number, name, position))  # noqa: B023 - runs at once
    return count


def _run_batch(tx: Transaction, number: int, name: str, position: str) -> int:
    """Encrypt the next rows of a step, and end it after the last one. Return the number of rows."""
    count, last = STEPS[name](tx, position)
    if last is None:
        store.END_STEP.run(tx, number=number)
    else:
        store.SET_POSITION.run(tx, number=number, position=last)
    return count


def _encrypt_customers(tx: Transaction, after: str) -> tuple[int, str | None]:
    ids = _list_ids(tx, "customers", after)
    stored = CUSTOMERS.read_encrypted_rows(tx, CUSTOMERS.rows.find_many(tx, [(one,) for one in ids]))
    _encrypt_rows(tx, CUSTOMERS, stored)
    for customer in stored:
        if not customer.encrypted:
            CUSTOMER_INDEX.put(tx, customer.id, build_document(tx, customer))
    return len(ids), _get_last(ids)


def _write_customer_documents(tx: Transaction, after: str) -> tuple[int, str | None]:
    ids = _list_ids(tx, "customers", after)
    for customer in CUSTOMERS.read_rows(tx, CUSTOMERS.rows.find_many(tx, [(one,) for one in ids])):
        CUSTOMER_INDEX.put(tx, customer.id, build_document(tx, customer))
    return len(ids), _get_last(ids)


def _write_product_documents(tx: Transaction, after: str) -> tuple[int, str | None]:
    ids = _list_ids(tx, "products", after)
    for product_id in ids:
        PRODUCT_INDEX.put(tx, product_id, build_product_words(tx, product_id))
    return len(ids), _get_last(ids)


def _encrypt_quotes(tx: Transaction, after: str) -> tuple[int, str | None]:
    ids = _list_ids(tx, "quotes", after)
    _encrypt_rows(tx, QUOTES, QUOTES.read_encrypted_rows(tx, QUOTES.rows.find_many(tx, [(one,) for one in ids])))
    return len(ids), _get_last(ids)


def _encrypt_users(tx: Transaction, after: str) -> tuple[int, str | None]:
    ids = _list_ids(tx, "users", after)
    _encrypt_rows(tx, USERS, USERS.read_encrypted_rows(tx, USERS.rows.find_many(tx, [(one,) for one in ids])))
    return len(ids), _get_last(ids)


def _encrypt_rows(tx: Transaction, collection: Collection[C], stored: Sequence[C]) -> None:
    """Write the rows anew that have personal values in clear, with these encrypted."""
    for resource in _decrypt_clear(tx, stored):
        collection.write_row(tx, resource)


def _decrypt_clear(tx: Transaction, stored: Sequence[R]) -> list[R]:
    """Return those resources that have personal values in clear, with all their values. Create the keys for these.

    Those of erased persons have no values: newer keys may have restored an older backup.
    """
    resources = decrypt_resources(tx, [one for one in stored if has_clear_values(one)])
    subjects = {find_subject(tx, one) for one in resources}
    with suppress(PersonalDataErased):  # then each is created alone, but for those that are destroyed
        require_keys(tx).ensure_keys(tx, sorted(subjects))
    return [hide_erased(tx, one) for one in resources]


def _encrypt_orders(tx: Transaction, after: str) -> tuple[int, str | None]:
    ids = _list_ids(tx, "orders", after)
    stored = orders.read_encrypted_rows(tx, orders.ROWS.find_many(tx, [(one,) for one in ids]))
    rows = _decrypt_clear(tx, stored)
    reasons = read_reasons(tx, [order.name for order in rows])
    for order in rows:
        known = msgspec.structs.replace(order, change_reason=reasons.get(order.name, ""))
        orders.ROWS.update(tx, orders.build_row_values(tx, known))
    return len(ids), _get_last(ids)


def read_reasons(tx: Transaction, names: Sequence[str]) -> dict[str, str]:
    """Return the reason for the last change of each order, which its entry has and its row has not had."""
    last = audit.LAST_STATES.all(tx, resources=msgspec.json.encode(names).decode())
    states = decrypt_copies(tx, [(name, None if after is None else bytes(after)) for name, after, _ in last])
    members = [msgspec.json.decode(state or b"{}", type=dict[str, Any]) for state in states]
    return {name: each.get("change_reason", "") for (name, *_), each in zip(last, members, strict=True)}


def _encrypt_fulfillments(tx: Transaction, after: str) -> tuple[int, str | None]:
    ids = _list_ids(tx, "fulfillments", after)
    for one in fulfillments.read_fulfillments(tx, fulfillments.ROWS.find_many(tx, [(one,) for one in ids])):
        fulfillments.ROWS.update(tx, fulfillments.build_row_values(tx, hide_erased(tx, one)))
    return len(ids), _get_last(ids)


def _encrypt_notes(tx: Transaction, after: str) -> tuple[int, str | None]:
    ids = _list_ids(tx, "order_notes", after)
    for note in notes.read_notes(tx, notes.ROWS.find_many(tx, [(one,) for one in ids])):
        notes.ROWS.update(tx, notes.build_row_values(tx, hide_erased(tx, note)))
    return len(ids), _get_last(ids)


def _encrypt_reservations(tx: Transaction, after: str) -> tuple[int, str | None]:
    ids = _list_ids(tx, "reservations", after)
    rows = reservations.read_stored_rows(tx, reservations.ROWS.find_many(tx, [(one,) for one in ids]))
    with suppress(PersonalDataErased):  # see `_decrypt_clear`
        require_keys(tx).ensure_keys(tx, [one.name for one in rows if one.reference])
    for reservation in rows:
        stored = hide_erased(tx, reservation) if reservation.reference else reservation
        reservations.ROWS.update(tx, reservations.build_row_values(tx, stored))
    return len(ids), _get_last(ids)


def _list_ids(tx: Transaction, table: str, after: str) -> list[str]:
    return [key for (key,) in store.IDS_AFTER[table].all(tx, after=after, rows_max=BATCH_ROWS)]


def _get_last(ids: Sequence[str]) -> str | None:
    return ids[-1] if len(ids) == BATCH_ROWS else None


def _encrypt_deliveries(tx: Transaction, after: str) -> tuple[int, str | None]:
    start = int(after or 0)
    rows = store.DELIVERIES_AFTER.all(tx, after=start, rows_max=BATCH_ROWS)
    for endpoint_id, sequence, resource, reply in rows:
        subject = orders.find_subject(tx, resource) or SUBJECT
        text = encrypt_text(tx, reply, subject=subject, owner=format_name(endpoint_id, sequence))
        store.SET_LAST_REPLY.run(tx, endpoint_id=endpoint_id, sequence=sequence, reply=text)
    end = start + BATCH_ROWS
    return len(rows), str(end) if end < store.LAST_DELIVERY.all(tx)[0][0] else None


def _encrypt_replies(tx: Transaction, after: str) -> tuple[int, str | None]:
    rows = store.REPLIES_AFTER.all(tx, after=int(after or 0), rows_max=BATCH_ROWS)
    for reply_id, method, reply in rows:
        kind = REPLY_TYPES.get(method)
        if kind is None:
            continue
        decoded = _decode_reply(bytes(reply), kind)
        if decoded is None:
            store.DELETE_REPLY.run(tx, id=reply_id)
        else:
            encrypted = encrypt_reply(tx, decrypt_reply(tx, decoded), convert=hide_erased)
            store.SET_REPLY.run(tx, id=reply_id, reply=msgspec.json.encode(encrypted))
    return len(rows), str(rows[-1][0]) if len(rows) == BATCH_ROWS else None


def _decode_reply(reply: bytes, kind: Any) -> Any:
    """Return the reply of a batch, in either of its forms; None if it has another one."""
    for form in (tuple[kind, ...], tuple[ItemResult[kind], ...]):
        try:
            return msgspec.json.decode(reply, type=form)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return None


def _protect_fingerprints(tx: Transaction, after: str) -> tuple[int, str | None]:
    rows = store.FINGERPRINTS_AFTER.all(tx, after=int(after or 0), rows_max=BATCH_ROWS)
    for reply_id, fingerprint in rows:
        store.SET_FINGERPRINT.run(tx, id=reply_id, fingerprint=protect_fingerprint(tx, bytes(fingerprint)))
    return len(rows), str(rows[-1][0]) if len(rows) == BATCH_ROWS else None


def _clear_movements(tx: Transaction, _after: str) -> tuple[int, str | None]:
    """Clear the reasons of restocks, which the history of the order has."""
    with _unguard(tx, "stock_movements"):
        return store.CLEAR_RETURN_REASONS.change(tx), None


def _encrypt_entries(tx: Transaction, after: str) -> tuple[int, str | None]:
    """Encrypt entries, and after the last one start an epoch with a digest of all."""
    rows = store.ENTRIES_AFTER.all(tx, after=int(after or 0), rows_max=BATCH_ROWS)
    kinds = {resource: kind for _, resource, *_ in rows if (kind := find_kind(resource)) is not None}
    subjects = {resource: orders.find_subject(tx, resource) for resource in kinds}
    require_keys(tx).cache_keys(tx, set(subjects.values()))
    with _unguard(tx, "audit_entries"):
        for sequence, resource, *copies in rows:
            kind, subject = kinds.get(resource), subjects.get(resource, "")
            if kind is None:
                continue
            stored = [None if one is None else bytes(one) for one in copies]
            changed = [encrypt_copy(tx, one, kind=kind, subject=subject, owner=resource) for one in stored]
            if changed != stored:
                store.SET_ENTRY.run(tx, sequence=sequence, before=changed[0], after=changed[1])
    if len(rows) == BATCH_ROWS:
        return len(rows), str(rows[-1][0])
    Mutation(tx, CALL).start_epoch(reason=ENCRYPTED_REASON, history_digest=digest_history(tx))
    return len(rows), None


def find_kind(resource: str) -> type[Any] | None:
    """Return the type of the resource with personal data that has this name; None for any other."""
    parts = resource.split("/")
    return COPIES.get("/".join(parts[::2])) if len(parts) % 2 == 0 else None


@contextmanager
def _unguard(tx: Transaction, table: str) -> Iterator[None]:
    """Allow changes of an append-only table in this transaction."""
    is_sqlite = tx.dialect.name == "sqlite"
    for statement in store.DROP_GUARDS[table] if is_sqlite else [store.DISABLE_GUARDS[table]]:
        statement.run(tx)
    yield
    for statement in store.CREATE_GUARDS[table] if is_sqlite else [store.ENABLE_GUARDS[table]]:
        statement.run(tx)


STEPS: Mapping[str, Callable[[Transaction, str], tuple[int, str | None]]] = {
    "fingerprints": _protect_fingerprints,
    "customers": _encrypt_customers,
    "orders": _encrypt_orders,
    "order_notes": _encrypt_notes,
    "fulfillments": _encrypt_fulfillments,
    "reservations": _encrypt_reservations,
    "quotes": _encrypt_quotes,
    "users": _encrypt_users,
    "webhook_deliveries": _encrypt_deliveries,
    "replies": _encrypt_replies,
    "stock_movements": _clear_movements,
    "audit_entries": _encrypt_entries,
    "customer_documents": _write_customer_documents,
    "product_documents": _write_product_documents,
}
"""The steps that migrations list, in the order of an upgrade across all of them; `FILES` comes after them. Each changes
the rows after a position, and returns their number and the next position, or None at the end."""
COPIES: dict[str, type[Any]] = {
    "customers": Customer,
    "orders": orders.Order,
    "orders/notes": notes.OrderNote,
    "orders/fulfillments": fulfillments.Fulfillment,
    "reservations": reservations.Reservation,
    "quotes": Quote,
    "users": User,
}
"""The collections of a resource name -> the type of its resource."""
