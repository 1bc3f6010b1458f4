"""The keys of the audit chain: one random key per epoch of the log, encrypted with the server's secret.

Each epoch begins with an entry of its own, hashed with the epoch's key. The key decrypts for its number and first entry
only, so the boundary cannot be moved, and the holder of an older key or secret cannot continue a newer epoch.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

import msgspec

from storekeep.server.domain.keys.encryption import DecryptionFailed
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import audit as store

KEY_BYTES = 32
PURPOSE = "audit-chain"
FIRST_HASH = bytes(32)
"""The `previous_hash` of the first audit entry."""
encode = msgspec.json.Encoder().encode


class AuditEpoch(msgspec.Struct, frozen=True):
    """The start of an epoch, as its first entry records it.

    Attributes:
        reason: why the epoch was started.
        history_digest: a digest of all earlier entries, for entries whose keys are lost or that never had one. It
            protects them from later changes. Empty if their keys exist.
        create_time_us: microseconds since 1970.
        secret_number: the number of the server's secret that the database used; 0 in entries of older releases.
    """

    number: int
    first_sequence: int
    reason: str
    history_digest: str
    create_time_us: int
    secret_number: int = 0

    @property
    def name(self) -> str:
        """The resource name in the audit log; the contract has no such resource."""
        return f"auditEpochs/{self.number}"


class ChainKeyMissing(Exception):
    """An audit entry cannot be written without the key of the chain."""

    def __init__(self) -> None:
        super().__init__("the audit chain has a key, and this process does not have the server's secret")


class ChainKeysRemoved(DecryptionFailed):
    """Keys of the chain were removed from the database. A log without a key can be forged, so nothing is written."""

    def __init__(self) -> None:
        Exception.__init__(
            self,
            "the keys of the audit log were removed from the database: compare it with a checkpoint (storekeep-server "
            "verify --since FILE) and restore a backup; to continue with this database anyway, run: storekeep-server "
            "bootstrap-admin --force --new-secret",
        )


class AuditChain:
    """The keys of the chain, as this process knows them.

    Args:
        keyring: decrypts the keys.
    """

    def __init__(self, keyring: Keyring) -> None:
        self.keyring = keyring
        self._keys: dict[int, hmac.HMAC] = {}
        self._newest = 0

    def get_newest_key(self, tx: Transaction, number: int | None) -> hmac.HMAC | None:
        """Return the key of the newest epoch; None if the database has no epoch yet.

        Args:
            number: the newest epoch in the database; None if it has none.

        Raises: ChainKeysRemoved if the database had a newer epoch before; DecryptionFailed.
        """
        if (number or 0) < self._newest:
            raise ChainKeysRemoved
        if number is None:
            return None
        key = self.get_key(tx, number)
        self._newest = number
        return key

    def get_key(self, tx: Transaction, number: int) -> hmac.HMAC:
        """Return the key of an epoch.

        Raises: DecryptionFailed.
        """
        key = self._keys.get(number)
        if key is None:
            row = store.FIND_EPOCH.one(tx, number=number)
            if row is None:
                raise DecryptionFailed
            key = self._keys[number] = self.decrypt_key(number, row[0], row[1])
        return key

    def decrypt_key(self, number: int, first_sequence: int, encrypted: object) -> hmac.HMAC:
        """Decrypt the key in the row of an epoch.

        Raises: DecryptionFailed.
        """
        if not isinstance(encrypted, bytes | memoryview):
            raise DecryptionFailed
        key = self.keyring.decrypt(bytes(encrypted), purpose=PURPOSE, owner=format_owner(number, first_sequence))
        return prepare_key(key)


def prepare_key(key: bytes) -> hmac.HMAC:
    """Return an HMAC that has absorbed the key. Copying it costs a third of making a new one."""
    return hmac.new(key, digestmod=hashlib.sha256)


def generate_key() -> bytes:
    """Return a random key for a new epoch."""
    return secrets.token_bytes(KEY_BYTES)


def format_owner(number: object, first_sequence: object) -> str:
    """Return the owner that the key of an epoch is bound to."""
    return f"{number}:{first_sequence}"


class LegacyChange(msgspec.Struct, frozen=True):
    """The content of an audit entry without before and after, as releases without chain keys hashed it."""

    create_time_us: int
    type: str
    actor: str
    method: str
    resource: str
    request_id: str

    def chain(self, previous_hash: bytes, before: bytes | None, after: bytes | None) -> bytes:
        """Return the entry hash: SHA-256 of the previous hash and of the entry as JSON, each part with its length."""
        digest = hashlib.sha256(previous_hash)
        for part in (encode(self), before, after):
            digest.update(b"-" if part is None else b"%d:" % len(part))
            digest.update(part or b"")
        return digest.digest()


class AuditedChange(msgspec.Struct, frozen=True, array_like=True):
    """The content of an audit entry without before and after; computes the entry hash."""

    sequence: int
    create_time_us: int
    type: str
    actor: str
    method: str
    resource: str
    request_id: str
    api_key: str
    session_id: str

    def chain(self, key: hmac.HMAC | None, previous_hash: bytes, before: bytes | None, after: bytes | None) -> bytes:
        """Return the entry hash: HMAC-SHA256 of the previous hash and of the entry as JSON, each part with its length.

        Args:
            key: the result of `prepare_key`; None for a hash without a key, as in older releases.
            previous_hash: the entry hash of the entry before, 32 bytes.
            before, after: the resource as JSON; None if it did not exist.
        """
        if key is None:
            old = LegacyChange(self.create_time_us, self.type, self.actor, self.method, self.resource, self.request_id)
            return old.chain(previous_hash, before, after)
        content = encode(self)
        message = b"%b%d:%b%b%b%b%b" % (
            previous_hash,
            len(content),
            content,
            b"-" if before is None else b"%d:" % len(before),
            before or b"",
            b"-" if after is None else b"%d:" % len(after),
            after or b"",
        )
        mac = key.copy()
        mac.update(message)
        return mac.digest()
