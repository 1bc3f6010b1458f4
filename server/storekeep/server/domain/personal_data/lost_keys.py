"""What a lost key-encryption key (KEK) leaves: the data keys that it encrypts are given up, and others replace them.

Orders, totals and the audit log stay. What the given up keys encrypt is lost, and what is stored from now on gets new
keys. Invariant: the numbers of lost keys are never used again, and an erased person gets no new key.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.keys.data_keys import WRAPPED_CHARACTERS, DataKeys
from storekeep.server.domain.keys.personal_fields import INDEX_SUBJECT, install_index_key
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.personal_data.kek_rotations import SUBJECT, KeyEncryptionKey
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import data_keys as store

ROWS_MAX = 5_000
"""Maximum number of data keys in one transaction, which takes some 0.1 s."""
ZEROS = "0" * WRAPPED_CHARACTERS


class LostKeys(msgspec.Struct, frozen=True):
    """The data keys that cannot be used.

    Attributes:
        key_ids: the KEKs that they need, and that this server does not have.
        persons: collection of a resource name -> number of persons, or of what has a key of its own.
        missing: whether rows of the table are missing: it was restored without its data.
        given_up: whether keys were given up already.
    """

    key_ids: tuple[str, ...]
    persons: dict[str, int]
    missing: bool
    given_up: bool


def find_lost_keys(database: Store, known: Sequence[str]) -> LostKeys:
    """Return the data keys that cannot be used.

    Args:
        known: the ids of the KEKs that this server has.

    Raises: the store's errors.
    """

    def work(tx: Transaction) -> LostKeys:
        key_ids, persons = set(), dict[str, int]()
        for key_id, collection, count in store.COUNT_LOST.all(tx, known=_encode(known), index=INDEX_SUBJECT):
            key_ids.add(str(key_id))
            if collection:
                persons[collection] = persons.get(collection, 0) + int(count)
        latest = store.LATEST_KEY_ID.one(tx)
        if latest is not None and latest[0] not in known:
            key_ids.add(latest[0])
        given_up = store.WERE_GIVEN_UP.one(tx) is not None
        return LostKeys(tuple(sorted(key_ids)), persons, missing=_has_missing(tx), given_up=given_up)

    return database.snapshot(work)


def give_up_keys(database: Store) -> None:
    """Give up the data keys that need a KEK which this server does not have. Nothing else may serve meanwhile.

    It can be repeated after a crash at any step. Search documents are to be rebuilt afterwards.

    Raises: the store's errors.
    """
    call = Call(Caller(SUBJECT, display_name="Key-encryption keys"), f"{SUBJECT}/GiveUpKeys")
    mutate(database, call, _replace_kek, type(None))
    while database.write(_give_up_batch):
        pass
    database.write(install_index_key)


def _has_missing(tx: Transaction) -> bool:
    return store.FIND_MISSING.one(tx) is not None


def _fill_numbers(tx: Transaction) -> None:
    """Mark the numbers as used whose rows are missing, and the keys of erased customers as destroyed."""
    keys: DataKeys = tx.data_keys
    if _has_missing(tx):
        values = {"key_id": keys.encryption.list_key_ids()[0], "zeros": ZEROS, "now_us": tx.now_us}
        store.FILL_MISSING.run(tx, **values)
        store.INSERT_ERASED.run(tx, **values)


def _replace_kek(mutation: Mutation) -> None:
    """Make the newest known KEK the current one, and record that, unless the current one is known.

    Missing numbers are filled in the same transaction: a crash between the two would look as if nothing was lost.
    """
    tx = mutation.tx
    _fill_numbers(tx)
    keys: DataKeys = tx.data_keys
    latest, known = store.LATEST_KEY_ID.one(tx), keys.encryption.list_key_ids()
    if latest is not None and latest[0] in known:
        return
    number = 1 if latest is None else int(latest[1]) + 1
    store.INSERT_KEY_ID.run(tx, number=number, key_id=known[0], now_us=tx.now_us)
    mutation.record("key_encryption_key.replaced", before=None, after=KeyEncryptionKey(number, known[0]))


def _give_up_batch(tx: Transaction) -> int:
    """Give up some keys. Return their number."""
    keys: DataKeys = tx.data_keys
    known = _encode(keys.encryption.list_key_ids())
    count = store.GIVE_UP.change(tx, known=known, zeros=ZEROS, now_us=tx.now_us, rows_max=ROWS_MAX)
    if count:
        keys.drop_caches(tx)
    return count


def _encode(values: Sequence[str]) -> str:
    return msgspec.json.encode(values).decode()
