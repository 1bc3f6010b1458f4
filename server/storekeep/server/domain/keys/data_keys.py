"""Data keys: one AES-256 key for each person, which encrypts all that is stored about them, wherever it stands.

Destroying the key makes every copy unreadable: in the ledger, stored replies, search documents and backups.
Invariant: a key that was destroyed in a committed transaction decrypts nothing in any later transaction of any process.
"""

from __future__ import annotations

import base64
import os
import struct
import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storekeep.server.domain.errors import PersonalDataErased
from storekeep.server.domain.keys.encryption import DecryptionFailed, Mac
from storekeep.server.runtime.key_derivation import NONCE_BYTES, derive_key
from storekeep.server.runtime.key_encryption import KeyEncryption, UnwrapFailed
from storekeep.server.store.sql.statements import Row
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import data_keys as store

FORMAT = b"\x01"
"""The version of the format: this byte, the number of the key in 8 bytes, the nonce, the ciphertext and its tag."""
NUMBER_BYTES = 8
NUMBER_MAX = 2**63 - 1
HEADER_BYTES = len(FORMAT) + NUMBER_BYTES
CIPHERTEXT_START = HEADER_BYTES + NONCE_BYTES
read_header = struct.Struct(">cQ").unpack_from
KEY_BYTES = 32
WRAPPED_CHARACTERS = 80
"""Length of an encrypted data key in base64: 12 bytes of nonce, 32 of key, 16 of tag."""
CACHE_MAX = 10_000
SYSTEM = "system/"
"""Prefix of the subjects of keys that belong to no person, such as that of the blind indexes."""
CURRENT_ID = "key_encryption_key"
GENERATION = "data_key_generation"
NEW_KEY = "data_key:"
"""Keys of the batch cache: the id of the current KEK, the generation of the data keys, and keys that the batch made."""

encode = msgspec.json.Encoder().encode


class DataKey:
    """The decrypted key of one person.

    Attributes:
        number: identifies it; part of everything that it encrypts.
        subject: resource name of the person.
    """

    __slots__ = ("_cipher", "_header", "_key", "_nonce_mac", "number", "subject")

    def __init__(self, number: int, subject: str, key: bytes) -> None:
        self.number = number
        self.subject = subject
        self._key = key
        self._cipher = AESGCM(key)
        self._nonce_mac = Mac(self.derive("nonce"))
        self._header = FORMAT + number.to_bytes(NUMBER_BYTES)

    def encrypt(self, plaintext: bytes, *, aad: bytes) -> bytes:
        """Encrypt data so that it decrypts at the same place only; see `build_aad`.

        The nonce is a keyed hash of the data and its place: equal data gives an equal result, so that a row can be
        compared with its copy in the ledger without the key.
        """
        nonce = self._nonce_mac.compute(b"%d:%b%b" % (len(aad), aad, plaintext))[:NONCE_BYTES]
        return self._header + nonce + self._cipher.encrypt(nonce, plaintext, aad)

    def decrypt(self, encrypted: bytes, *, aad: bytes) -> bytes:
        """Return the plaintext.

        Raises: DecryptionFailed.
        """
        if not encrypted.startswith(self._header):
            raise DecryptionFailed
        try:
            nonce = encrypted[HEADER_BYTES:CIPHERTEXT_START]
            return self._cipher.decrypt(nonce, encrypted[CIPHERTEXT_START:], aad)
        except (InvalidTag, ValueError):
            raise DecryptionFailed from None

    def derive(self, purpose: str) -> bytes:
        """Return a 32-byte key of a purpose, such as that of a blind index."""
        return derive_key(self._key, purpose)


class _Cache(NamedTuple):
    """Keys that were valid in one generation. A transaction of another generation does not use them."""

    generation: str
    by_number: dict[int, DataKey]
    by_subject: dict[str, DataKey]


class DataKeys:
    """The data keys in the database, decrypted on demand. Every method runs in the given transaction.

    Args:
        encryption: the key-encryption keys.
        cache_max: maximum number of decrypted keys to hold in memory.
    """

    def __init__(self, encryption: KeyEncryption, *, cache_max: int = CACHE_MAX) -> None:
        self.encryption = encryption
        self._cache_max = cache_max
        self._cache = _Cache("", {}, {})
        self._lock = threading.Lock()

    def ensure_key(self, tx: Transaction, subject: str) -> DataKey:
        """Return the key of a person. Create it if there is none yet.

        Raises: PersonalDataErased, KeyUnknown, UnwrapFailed.
        """
        return self._get_cache(tx).by_subject.get(subject) or self.ensure_keys(tx, (subject,))[subject]

    def ensure_keys(self, tx: Transaction, subjects: Sequence[str]) -> dict[str, DataKey]:
        """Return the keys of several persons by subject. Create those that are missing, with one statement.

        Raises: PersonalDataErased, KeyUnknown, UnwrapFailed.
        """
        cache = self._get_cache(tx)
        keys: dict[str, DataKey] = {}
        for subject in subjects:
            key = cache.by_subject.get(subject) or tx.batch_cache.get(NEW_KEY + subject)
            if key is None:
                break
            keys[subject] = key
        else:
            return keys
        requested = list(dict.fromkeys(subjects))
        existing = self._find(tx, cache, requested)
        missing = [subject for subject in requested if subject not in existing]
        return {**existing, **self._create(tx, missing)} if missing else existing

    def find_key(self, tx: Transaction, subject: str) -> DataKey | None:
        """Return the key of a person; None if there is none or it is destroyed.

        Raises: KeyUnknown, UnwrapFailed.
        """
        cache = self._get_cache(tx)
        key: DataKey | None = cache.by_subject.get(subject) or tx.batch_cache.get(NEW_KEY + subject)
        if key is None:
            rows = store.FIND_BY_SUBJECTS.all(tx, subjects=_encode([subject]))
            key = next(iter(self._open(tx, cache, rows)), None)
        return key

    def find_keys(self, tx: Transaction, numbers: Iterable[int]) -> dict[int, DataKey]:
        """Return the keys with these numbers, without those that are destroyed, with at most one statement.

        Raises: KeyUnknown, UnwrapFailed.
        """
        cache = self._get_cache(tx)
        keys: dict[int, DataKey] = {}
        missing = []
        for number in dict.fromkeys(numbers):
            key = cache.by_number.get(number)
            if key is None:
                missing.append((number,))
            else:
                keys[number] = key
        if missing:
            rows = store.FIND_BY_NUMBERS.all(tx, numbers=_encode(missing))
            keys.update((key.number, key) for key in self._open(tx, cache, rows))
        return keys

    def cache_keys(self, tx: Transaction, subjects: Iterable[str]) -> None:
        """Read the existing keys of persons with one statement, for work that then needs them one by one.

        Raises: KeyUnknown, UnwrapFailed.
        """
        self._open(tx, self._get_cache(tx), store.FIND_BY_SUBJECTS.all(tx, subjects=_encode(list(subjects))))

    def encrypt(self, tx: Transaction, subject: str, plaintext: bytes, *, aad: bytes) -> bytes:
        """Encrypt data with the key of a person, which is created if there is none yet.

        Raises: PersonalDataErased, KeyUnknown, UnwrapFailed.
        """
        return self.ensure_key(tx, subject).encrypt(plaintext, aad=aad)

    def decrypt(self, tx: Transaction, encrypted: bytes, *, aad: bytes) -> bytes | None:
        """Return the plaintext; None if its key is destroyed.

        Raises: DecryptionFailed, KeyUnknown, UnwrapFailed.
        """
        number = parse_key_number(encrypted)
        key = self._get_cache(tx).by_number.get(number) or self.find_keys(tx, (number,)).get(number)
        return None if key is None else key.decrypt(encrypted, aad=aad)

    def destroy(self, tx: Transaction, subjects: Sequence[str]) -> int:
        """Destroy the keys of persons, and return the number of those that existed. It cannot be undone.

        A person without a key gets none later.

        Raises: KeyUnknown.
        """
        zeros, names = "0" * WRAPPED_CHARACTERS, _encode(subjects)
        destroyed = store.DESTROY.change(tx, subjects=names, zeros=zeros, now_us=tx.now_us)
        store.INSERT_DESTROYED.run(tx, subjects=names, zeros=zeros, key_id=self.install(tx), now_us=tx.now_us)
        self.drop_caches(tx)
        for subject in subjects:
            tx.batch_cache.pop(NEW_KEY + subject, None)
        return destroyed

    def drop_caches(self, tx: Transaction) -> None:
        """Have every process read the keys anew that it uses in later transactions."""
        generation = os.urandom(16).hex()
        store.SET_GENERATION.run(tx, generation=generation)
        tx.batch_cache[GENERATION] = generation

    def read_generation(self, tx: Transaction) -> str:
        """Return a value that changes whenever keys are destroyed."""
        row = store.GENERATION.one(tx)
        return "" if row is None else str(row[0])

    def check(self, tx: Transaction) -> None:
        """Check that this server has every KEK that data keys in the database need.

        Raises: KeyUnknown.
        """
        row = store.LATEST_KEY_ID.one(tx)
        if row is None:
            return
        for (key_id,) in (row[:1], *store.OTHER_KEY_IDS.all(tx, key_id=row[0])):
            self.encryption.require(key_id)

    def install(self, tx: Transaction) -> str:
        """Return the id of the KEK for new data keys. Record that of a new database. It is read once per batch.

        Raises: KeyUnknown if this server does not have it.
        """
        current: str | None = tx.batch_cache.get(CURRENT_ID)
        if current is None:
            row = store.LATEST_KEY_ID.one(tx)
            if row is None:
                current = self.encryption.list_key_ids()[0]
                store.INSERT_KEY_ID.run(tx, number=1, key_id=current, now_us=tx.now_us)
            else:
                current = str(row[0])
            tx.batch_cache[CURRENT_ID] = current
        self.encryption.require(current)
        return current

    def needs_former_keks(self, tx: Transaction) -> bool:
        """Return whether data keys need a former KEK."""
        row = store.LATEST_KEY_ID.one(tx)
        return row is not None and store.OTHER_KEY_IDS.one(tx, key_id=row[0]) is not None

    def make_current(self, tx: Transaction, key_id: str) -> int:
        """Encrypt new data keys with another KEK from now on. Return its number; 0 if it is the current one.

        Raises: KeyUnknown if this server does not have the current or the new one.
        """
        current = self.install(tx)
        self.encryption.require(key_id)
        if current == key_id:
            return 0
        number = int(store.LATEST_KEY_ID.one(tx)[1]) + 1  # type: ignore[index]  # `install` made one
        store.INSERT_KEY_ID.run(tx, number=number, key_id=key_id, now_us=tx.now_us)
        tx.batch_cache[CURRENT_ID] = key_id
        return number

    def rewrap(self, tx: Transaction, *, rows_max: int) -> int:
        """Encrypt data keys that need a former KEK with the current one. Return their number; 0 if there are none left.

        Raises: KeyUnknown, UnwrapFailed.
        """
        current = self.install(tx)
        other = store.OTHER_KEY_IDS.one(tx, key_id=current)
        if other is None:
            return 0
        rows = []
        for number, subject, wrapped, destroy_time_us in store.OTHER_KEYS.all(tx, key_id=other[0], rows_max=rows_max):
            if destroy_time_us == store.NEVER_US:
                data_key = unwrap(self.encryption, wrapped, key_id=other[0], owner=subject)
                wrapped = _wrap(self.encryption, data_key, key_id=current, owner=subject)
            rows.append((number, wrapped))
        store.REWRAP.run(tx, rows=_encode(rows), key_id=current)
        return len(rows)

    def _get_cache(self, tx: Transaction) -> _Cache:
        """Return the cache of the generation that the transaction sees. It is read once per batch."""
        generation = tx.batch_cache.get(GENERATION)
        if generation is None:
            tx.batch_cache[GENERATION] = generation = self.read_generation(tx)
        cache = self._cache
        if cache.generation != generation:
            self._cache = cache = _Cache(generation, {}, {})
        return cache

    def _find(self, tx: Transaction, cache: _Cache, subjects: Sequence[str]) -> dict[str, DataKey]:
        """Return the existing keys of persons.

        Raises: PersonalDataErased, KeyUnknown, UnwrapFailed.
        """
        rows = store.FIND_BY_SUBJECTS.all(tx, subjects=_encode(subjects))
        for _, subject, _, _, destroy_time_us in rows:
            if destroy_time_us != store.NEVER_US:
                raise PersonalDataErased(subject)
        return {key.subject: key for key in self._open(tx, cache, rows)}

    def _open(self, tx: Transaction, cache: _Cache, rows: Sequence[Row]) -> list[DataKey]:
        """Decrypt the keys in rows that are not destroyed, and cache those that earlier transactions committed."""
        keys = []
        for number, subject, key_id, wrapped, destroy_time_us in rows:
            if destroy_time_us != store.NEVER_US:
                continue
            key = cache.by_number.get(number)
            if key is None:
                data = unwrap(self.encryption, wrapped, key_id=key_id, owner=subject)
                key = DataKey(number, subject, data)
                if NEW_KEY + subject not in tx.batch_cache:
                    self._remember(cache, key)
            keys.append(key)
        return keys

    def _remember(self, cache: _Cache, key: DataKey) -> None:
        with self._lock:
            if len(cache.by_number) >= self._cache_max:
                oldest = cache.by_number.pop(next(iter(cache.by_number)))
                cache.by_subject.pop(oldest.subject, None)
            cache.by_number[key.number] = cache.by_subject[key.subject] = key

    def _create(self, tx: Transaction, subjects: Sequence[str]) -> dict[str, DataKey]:
        """Create keys. They are cached for their batch only: a rollback would give their numbers to others."""
        key_id = self.install(tx)
        rows = []
        for subject in subjects:
            rows.append((subject, _wrap(self.encryption, os.urandom(KEY_BYTES), key_id=key_id, owner=subject)))
        store.INSERT.run_deferred(tx, rows=_encode(rows), key_id=key_id, now_us=tx.now_us)
        tx.batch_cache.update(dict.fromkeys(NEW_KEY + subject for subject in subjects))
        keys = self._find(tx, self._get_cache(tx), subjects)
        tx.batch_cache.update((NEW_KEY + subject, key) for subject, key in keys.items())
        return keys


def build_aad(table: str, row: str, field: str) -> bytes:
    """Return the associated data that binds encrypted data to its place."""
    return encode((table, row, field))


def parse_key_number(encrypted: bytes) -> int:
    """Return the number of the data key that encrypted the data.

    Raises: DecryptionFailed if the data has another format.
    """
    if len(encrypted) < CIPHERTEXT_START:
        raise DecryptionFailed
    version, number = read_header(encrypted)
    if version != FORMAT or number > NUMBER_MAX:  # no database can look up a greater one
        raise DecryptionFailed
    return int(number)


def unwrap(encryption: KeyEncryption, wrapped: str, *, key_id: str, owner: str) -> bytes:
    """Return a data key, which a row has encrypted and in base64.

    Raises: KeyUnknown, UnwrapFailed.
    """
    try:
        data = base64.b64decode(wrapped, validate=True)
    except (TypeError, ValueError):
        raise UnwrapFailed from None
    return encryption.unwrap(data, key_id=key_id, owner=owner)


def _wrap(encryption: KeyEncryption, data_key: bytes, *, key_id: str, owner: str) -> str:
    return base64.b64encode(encryption.wrap(data_key, key_id=key_id, owner=owner)).decode()


def _encode(value: object) -> str:
    return encode(value).decode()
