"""The keys of the audit chain: random ones, each for an epoch of the log, encrypted under the server's secret.

An epoch begins with an entry of its own, hashed with its key, and the key opens for its number and its first entry
only: so nobody moves the boundary, and who holds an older key or secret cannot continue a newer epoch.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

import msgspec

from storekeep.server.domain.keys.encryption import SealBroken
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import audit as store

KEY_BYTES = 32
PURPOSE = "audit-chain"
FIRST_HASH = bytes(32)
"""What the first audit entry has for the hash before it."""
encode = msgspec.json.Encoder().encode


class AuditEpoch(msgspec.Struct, frozen=True):
    """The start of an epoch, as its first entry shows it.

    Attributes:
        reason: why it was begun.
        history_digest: over all entries before that can no longer be recomputed, as their keys are lost or they had
            none; so that they cannot be changed from here on.
        secret_number: which of the server's secrets the database is under; 0 in entries of older releases.
    """

    number: int
    first_sequence: int
    reason: str
    history_digest: str
    create_time_us: int
    secret_number: int = 0

    @property
    def name(self) -> str:
        """As the audit log calls it; the contract has no resource for it."""
        return f"auditEpochs/{self.number}"


class ChainKeyMissing(Exception):
    """An entry is to be written without the key of the chain."""

    def __init__(self) -> None:
        super().__init__("the audit chain has a key, and this process was not given the server's secret")


class ChainKeysRemoved(SealBroken):
    """Keys of the chain that were in the database are gone: nothing is written to a log that anybody can forge."""

    def __init__(self) -> None:
        Exception.__init__(
            self,
            "the keys of the audit log were removed from the database: compare it with a checkpoint (storekeep-server "
            "verify --since FILE) and restore a backup; to go on with this one all the same: storekeep-server "
            "bootstrap-admin --force --new-secret",
        )


class AuditChain:
    """The keys of the chain as this process knows them.

    Args:
        keyring: opens them.
    """

    def __init__(self, keyring: Keyring) -> None:
        self.keyring = keyring
        self._keys: dict[int, hmac.HMAC] = {}
        self._newest = 0

    def newest_key(self, tx: Transaction, number: int | None) -> hmac.HMAC | None:
        """The key of the epoch that the database names as its newest; None where it has not had any.

        Raises: ChainKeysRemoved, where it had a newer one before; SealBroken.
        """
        if (number or 0) < self._newest:
            raise ChainKeysRemoved
        if number is None:
            return None
        key = self.key(tx, number)
        self._newest = number
        return key

    def key(self, tx: Transaction, number: int) -> hmac.HMAC:
        """The key of an epoch.

        Raises: SealBroken.
        """
        known = self._keys.get(number)
        if known is None:
            row = store.FIND_EPOCH.one(tx, number=number)
            if row is None:
                raise SealBroken
            known = self._keys[number] = self.open(number, row[0], row[1])
        return known

    def open(self, number: int, first_sequence: int, sealed: object) -> hmac.HMAC:
        """The key of an epoch, of what its row says.

        Raises: SealBroken.
        """
        if not isinstance(sealed, bytes | memoryview):
            raise SealBroken
        key = self.keyring.open(bytes(sealed), purpose=PURPOSE, owner=owner(number, first_sequence))
        return prepare_key(key)


def prepare_key(key: bytes) -> hmac.HMAC:
    """A key with its share of the HMAC done: a copy of it costs a third of a new one."""
    return hmac.new(key, digestmod=hashlib.sha256)


def new_key() -> bytes:
    """A key for a new epoch."""
    return secrets.token_bytes(KEY_BYTES)


def owner(number: object, first_sequence: object) -> str:
    """What the key of an epoch is bound to."""
    return f"{number}:{first_sequence}"


class LegacyChange(msgspec.Struct, frozen=True):
    """What an audit entry says beside before and after, as it was hashed before the chain had keys."""

    create_time_us: int
    type: str
    actor: str
    method: str
    resource: str
    request_id: str

    def chain(self, previous_hash: bytes, before: bytes | None, after: bytes | None) -> bytes:
        """SHA-256 over the hash before and the JSON of all the entry says; each part's length is hashed too."""
        digest = hashlib.sha256(previous_hash)
        for part in (encode(self), before, after):
            digest.update(b"-" if part is None else b"%d:" % len(part))
            digest.update(part or b"")
        return digest.digest()


class AuditedChange(msgspec.Struct, frozen=True, array_like=True):
    """What an audit entry says beside before and after, and how its hash is made."""

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
        """HMAC-SHA256 over the hash before and the JSON array of all the entry says, each part with its length.

        Args:
            key: as `prepare_key` gives it; None hashes as before the chain had keys.
        """
        if key is None:
            old = LegacyChange(self.create_time_us, self.type, self.actor, self.method, self.resource, self.request_id)
            return old.chain(previous_hash, before, after)
        said = encode(self)
        message = b"%b%d:%b%b%b%b%b" % (
            previous_hash,
            len(said),
            said,
            b"-" if before is None else b"%d:" % len(before),
            before or b"",
            b"-" if after is None else b"%d:" % len(after),
            after or b"",
        )
        mac = key.copy()
        mac.update(message)
        return mac.digest()
