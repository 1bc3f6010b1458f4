"""Checks of the data keys and of the key-encryption keys (KEK) that they are encrypted with.

A restore puts the newest keys under older data. So a KEK or a destroyed key needs no entry in the audit log, but each
rotation in the log needs its KEK. Without the KEK, the encrypted keys are not decrypted.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from storekeep.server.domain.integrity.audited_sessions import PAGE_ROWS, UNREADABLE, list_logged_names
from storekeep.server.domain.keys.data_keys import WRAPPED_CHARACTERS, unwrap
from storekeep.server.domain.keys.encryption import DecryptionFailed
from storekeep.server.domain.keys.personal_fields import INDEX_SUBJECT, has_index_key
from storekeep.server.domain.personal_data.kek_rotations import SUBJECT, KeyEncryptionKey
from storekeep.server.runtime.key_encryption import KeyEncryption, KeyUnknown, UnwrapFailed
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.statements import Row
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import audit as audit_store
from storekeep.server.store.tables import data_keys as store

UNDECRYPTABLE = (*UNREADABLE, AttributeError, DecryptionFailed, KeyUnknown, UnwrapFailed)
"""The errors of reading personal data whose key, ciphertext or content was changed."""
BEFORE_ALL = -(2**63)
DESTROYED = "0" * WRAPPED_CHARACTERS
ERASED_MAX = 20
"""The most erased customers with a data key that are reported."""


def check_data_keys(db: Store) -> Iterator[str]:
    """Yield a text for each data key that cannot be used, is missing, or should be destroyed, and for each wrong KEK.

    Without the KEK of this database, encrypted keys are not decrypted.
    """
    if db.read(store.STATE_IDS.all) != [(1,)]:
        yield "data_key_state: it has not exactly one row, with the id 1, so caches outlive a destroyed key"
    yield from _check_rotations(db)
    rows = db.read(store.KEY_ENCRYPTION_KEYS.all)
    if [number for number, _ in rows] != list(range(1, len(rows) + 1)):
        yield "key_encryption_keys: the numbers are not 1, 2, 3 and so on"
    encryption = None if db.data_keys is None else db.data_keys.encryption
    unknown: set[str] = set()
    if encryption is not None and rows:
        yield from _require(encryption, rows[-1][1], unknown)
    yield from _check_keys(db, encryption, unknown)
    yield from db.snapshot(_check_index_key)
    for (customer_id,) in db.read(lambda tx: store.ERASED_WITH_KEY.all(tx, rows_max=ERASED_MAX)):
        yield f"customers/{customer_id}: erased, but its data key is not destroyed"
    for (customer_id,) in db.read(lambda tx: store.FIND_UNERASED.all(tx, rows_max=ERASED_MAX)):
        yield f"customers/{customer_id}: its data key is destroyed, but it is not erased; the next start erases it"
    if db.read(store.HAS_INDEXED_RESERVATIONS.one) is not None:
        yield "reservations: some have a blind index, but a destroyed data key; the next start empties it"


def can_compare_indexes(tx: Transaction) -> bool:
    """Return whether the key of blind indexes can be used; `check_data_keys` reports why not."""
    try:
        return has_index_key(tx)
    except UNDECRYPTABLE:
        return False


def _require(encryption: KeyEncryption, key_id: str, unknown: set[str]) -> Iterator[str]:
    """Yield a text if this process does not have a KEK, once. Add its id to the unknown ones."""
    if key_id not in unknown:
        try:
            encryption.require(key_id)
        except KeyUnknown as error:
            unknown.add(key_id)
            yield f"key_encryption_keys, row {key_id}: {error}"


def _check_rotations(db: Store) -> Iterator[str]:
    """Yield a text for each rotation in the audit log whose KEK has no row with its number and id.

    Nothing is compared after keys were given up, because the KEKs of before were given up with them.
    """
    if db.read(store.WERE_GIVEN_UP.one) is not None:
        return
    for names in list_logged_names(db, f"{SUBJECT}/"):
        yield from db.snapshot(lambda tx: _compare_rotations(tx, names))  # noqa: B023 - read at once


def _compare_rotations(tx: Transaction, names: list[str]) -> list[str]:
    existing = set(store.KEY_ENCRYPTION_KEYS.all(tx))
    texts = []
    for _, after_json, sequence in audit_store.LAST_STATES.all(tx, resources=_encode(names)):
        try:
            recorded = msgspec.json.decode(after_json, type=KeyEncryptionKey)
        except UNREADABLE:
            texts.append(f"key_encryption_keys: auditEntries/{sequence} cannot be read")
            continue
        if (recorded.number, recorded.key_id) not in existing:
            texts.append(f"key_encryption_keys, row {recorded.number}: not as recorded in auditEntries/{sequence}")
    return texts


def _check_keys(db: Store, encryption: KeyEncryption | None, unknown: set[str]) -> Iterator[str]:
    """Yield a text for each wrong row of `data_keys`, and for each KEK that one needs and this process does not have.

    Args:
        unknown: the ids of the KEKs that are reported already.
    """
    after = BEFORE_ALL
    while True:
        try:
            rows, key_ids = db.snapshot(lambda tx: _read_page(tx, after, PAGE_ROWS))  # noqa: B023 - read at once
        except UNREADABLE:
            number = db.read(lambda tx: store.NEXT_NUMBER.one(tx, after=after))[0]  # type: ignore[index]  # noqa: B023
            try:
                rows, key_ids = db.snapshot(lambda tx: _read_page(tx, after, 1))  # noqa: B023 - read at once
            except UNREADABLE as error:
                yield f"data_keys, row {number}: it holds data that Storekeep never writes ({error})"
                after = number
                continue
        for row in rows:
            text = _find_problem(row, key_ids)
            if not text and encryption is not None and row[3] != DESTROYED:
                yield from _require(encryption, row[2], unknown)
                text = "" if row[2] in unknown else _find_damage(row, encryption)
            if text:
                yield f"data_keys, row {row[0]} ({row[1]}): {text}"
        if not rows:
            return
        after = rows[-1][0]


def _read_page(tx: Transaction, after: int, rows_max: int) -> tuple[list[Row], set[str]]:
    """Return a page of data keys, and the ids of all KEKs at that time."""
    key_ids = {key_id for _, key_id in store.KEY_ENCRYPTION_KEYS.all(tx)}
    return store.KEYS_AFTER.all(tx, after=after, rows_max=rows_max), key_ids


def _find_problem(row: Row, key_ids: set[str]) -> str:
    """Return what is wrong with the row of a data key; empty if nothing is."""
    number, _, key_id, wrapped, destroy_time_us = row
    if number < 1:
        return "its number is not positive"
    if key_id not in key_ids and wrapped != DESTROYED:
        return f"its key-encryption key {key_id} is not in key_encryption_keys"
    if (wrapped == DESTROYED) != (destroy_time_us != store.NEVER_US):
        return "it is marked as destroyed, but is not overwritten" if wrapped != DESTROYED else "it is overwritten"
    return ""


def _find_damage(row: Row, encryption: KeyEncryption) -> str:
    """Return what is wrong with an encrypted data key; empty if it can be decrypted."""
    _, subject, key_id, wrapped, _ = row
    try:
        unwrap(encryption, wrapped, key_id=key_id, owner=subject)
    except UNDECRYPTABLE:
        return "it was changed, and cannot be decrypted"
    return ""


def _check_index_key(tx: Transaction) -> list[str]:
    """Return a text if the key of blind indexes is missing, although other keys can be used."""
    usable = store.COUNT_USABLE.one(tx, subject=INDEX_SUBJECT)
    if store.FIND_BY_SUBJECTS.all(tx, subjects=_encode([INDEX_SUBJECT])) or usable == (0,):
        return []
    return [f"data_keys: the key of {INDEX_SUBJECT} is missing, so filters and searches find nothing"]


def _encode(names: list[str]) -> str:
    return msgspec.json.encode(names).decode()
