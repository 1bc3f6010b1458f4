"""Checkpoints: signed heads of the audit chain (Ed25519), to be stored outside the database.

A copy outside the database detects what no check inside it can: that the chain was truncated or rebuilt as a whole.
Invariant: an audit entry records each checkpoint in the same transaction, so that a removed checkpoint is detected.
"""

from __future__ import annotations

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.keys.audit_chain import AuditChain, ChainKeysRemoved
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.mutations import Mutation
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing, ListRequest
from storekeep.server.domain.standard.pages import Page, PageTokens
from storekeep.server.domain.standard.resources import new_id
from storekeep.server.runtime import base64url
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.statements import Row
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import audit as store
from storekeep.server.store.tables.ledger import LAST_AUDIT_ENTRY

PURPOSE = "audit-checkpoint-key"
FORMAT = "storekeep-audit-checkpoint-1"
"""The first part of the signed payload, so that the signature is valid for nothing else."""
US_PER_SECOND = 1_000_000
CALL = Call(Caller("system/audit"), "system/audit/SignHead")
CHECKPOINT_SIGNED = "audit_checkpoint.signed"
"""The type of the audit entry that records a checkpoint."""
KEY_CREATED = "audit_key.created"
"""The type of the audit entry that records a key."""


class AuditKey(msgspec.Struct, frozen=True):
    """The public half of a key that signs checkpoints, in hexadecimal digits."""

    id: str
    public_key: str
    create_time_us: int

    @property
    def name(self) -> str:
        """The resource name in the audit log; the contract has no such resource."""
        return f"auditKeys/{self.id}"


class Checkpoint(msgspec.Struct, frozen=True):
    """The head of the chain at one time.

    Attributes:
        chain: the id of the chain: the hash of its first entry with a key, in hexadecimal digits.
        sequence, head_hash: the last entry at that time, and its hash, 32 bytes.
        create_time_us: microseconds since 1970.
        key_id, public_key: the Ed25519 key that verifies the signature, 32 bytes; empty if it is unknown.
        signature: 64 bytes.
    """

    chain: str
    sequence: int
    head_hash: bytes
    create_time_us: int
    key_id: str
    public_key: bytes
    signature: bytes

    @property
    def name(self) -> str:
        """The resource name."""
        return f"auditCheckpoints/{self.sequence}"

    def has_valid_signature(self) -> bool:
        """Return whether the signature of the checkpoint's key is valid."""
        payload = make_signed_payload(self.chain, self.sequence, self.head_hash, self.create_time_us, self.key_id)
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(self.signature, payload)
        except (InvalidSignature, ValueError):
            return False
        return True


def make_signed_payload(chain: str, sequence: int, head_hash: bytes, create_time_us: int, key_id: str) -> bytes:
    """Return the bytes that a checkpoint's signature covers: a JSON array without spaces."""
    return msgspec.json.encode([FORMAT, chain, sequence, head_hash.hex(), create_time_us, key_id])


def install_key(mutation: Mutation, keyring: Keyring) -> None:
    """Create the first key that signs checkpoints, unless there is one."""
    if store.AUDIT_KEYS.one(mutation.tx) is None:
        add_key(mutation, keyring)


def add_key(mutation: Mutation, keyring: Keyring) -> None:
    """Create the key that signs checkpoints from now on."""
    tx = mutation.tx
    private_key = Ed25519PrivateKey.generate()
    public_key = private_key.public_key().public_bytes_raw()
    key = AuditKey(new_id(), public_key.hex(), tx.now_us)
    encrypted = keyring.encrypt(tx, private_key.private_bytes_raw(), purpose=PURPOSE, owner=key.id)
    store.INSERT_AUDIT_KEY.run(tx, id=key.id, public_key=public_key, sealed_private_key=encrypted, now_us=tx.now_us)
    mutation.record(KEY_CREATED, before=None, after=key)


def reencrypt_keys(tx: Transaction, keyring: Keyring) -> None:
    """Re-encrypt the private keys with the server's current secret. Skip keys that cannot be decrypted."""
    for key_id, _, encrypted, _ in store.AUDIT_KEYS.all(tx):
        private_key = keyring.try_decrypt(encrypted, purpose=PURPOSE, owner=key_id)
        if private_key is not None:
            reencrypted = keyring.encrypt(tx, private_key, purpose=PURPOSE, owner=key_id)
            store.REENCRYPT_AUDIT_KEY.run(tx, id=key_id, sealed_private_key=reencrypted)


def find_public_keys(tx: Transaction, keyring: Keyring | None) -> dict[str, bytes]:
    """Return key id -> public key.

    A public key is derived from its private key if that can be decrypted, so that a replaced public key has no effect.
    """
    keys = {}
    for row in store.AUDIT_KEYS.all(tx):
        public = derive_public_key(row, keyring) or row[1]
        if isinstance(public, bytes | memoryview):
            keys[row[0]] = bytes(public)
    return keys


def derive_public_key(row: Row, keyring: Keyring | None) -> bytes | None:
    """Return the public key of the private key in a row; None if that cannot be decrypted."""
    key_id, _, encrypted, _ = row
    private_key = None if keyring is None else keyring.try_decrypt(encrypted, purpose=PURPOSE, owner=key_id)
    if private_key is None:
        return None
    return Ed25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


class SignedHead(msgspec.Struct, frozen=True):
    """A checkpoint as its audit entry records it; hashes and signatures in hexadecimal digits.

    Attributes:
        count: the number of checkpoints including this one; covers checkpoints of older releases, which have no entry.
    """

    sequence: int
    chain: str
    head_hash: str
    key_id: str
    signature: str
    create_time_us: int
    count: int

    @property
    def name(self) -> str:
        """The resource name."""
        return f"auditCheckpoints/{self.sequence}"

    def matches_checkpoint(self, checkpoint: Checkpoint) -> bool:
        """Return whether a checkpoint row has the recorded values."""
        return (self.chain, self.head_hash, self.key_id, self.signature, self.create_time_us) == (
            checkpoint.chain,
            checkpoint.head_hash.hex(),
            checkpoint.key_id,
            checkpoint.signature.hex(),
            checkpoint.create_time_us,
        )


def sign_head(db: Store, chain: AuditChain, *, entries: int = 1, interval_s: float = 0.0) -> int:
    """Sign the head of the log if a checkpoint is due.

    It is due after `entries` new entries, or after any new entry once the last checkpoint is older than `interval_s`.
    The entry that records the last checkpoint does not count, so an idle log gets no checkpoints.

    Args:
        entries: the number of new entries.
        interval_s: the age of the last checkpoint, in seconds.

    Returns: the number of new checkpoints, 0 or 1.

    Raises: ChainKeysRemoved, DecryptionFailed, and the store's errors.
    """

    def is_due(tx: Transaction) -> bool:
        head, last = LAST_AUDIT_ENTRY.one(tx), store.LAST_SIGNED_ENTRY.one(tx)
        if head is None or head[2] is None:
            return False
        if last is None:
            return True
        sequence, create_time_us, own_entries = last
        new, age_us = head[0] - sequence - own_entries, tx.now_us - create_time_us
        return bool(new >= entries or (new > 0 and age_us >= interval_s * US_PER_SECOND))

    def work(tx: Transaction) -> int:
        return _sign(Mutation(tx, CALL), chain.keyring) if is_due(tx) else 0  # another process may be faster

    return db.write(work) if db.snapshot(is_due) else 0


def _sign(mutation: Mutation, keyring: Keyring) -> int:
    """Sign the current head.

    Returns: the number of new checkpoints, 0 or 1.

    Raises: ChainKeysRemoved, DecryptionFailed.
    """
    tx = mutation.tx
    sequence, head_hash = mutation.head
    signer, first = store.AUDIT_KEYS.one(tx), store.EPOCHS.one(tx)
    if signer is None or first is None:
        raise ChainKeysRemoved
    start = store.FIND_ENTRY.one(tx, sequence=first[1])
    if start is None:
        return 0  # the entry was removed, which `verify` reports
    key_id, _, encrypted, _ = signer
    private_key = Ed25519PrivateKey.from_private_bytes(keyring.decrypt(bytes(encrypted), purpose=PURPOSE, owner=key_id))
    chain_id = bytes(start[8]).hex()
    signature = private_key.sign(make_signed_payload(chain_id, sequence, head_hash, tx.now_us, key_id))
    inserted = store.INSERT_CHECKPOINT.change(
        tx,
        sequence=sequence,
        chain=chain_id,
        head_hash=head_hash,
        key_id=key_id,
        signature=signature,
        now_us=tx.now_us,
    )
    if inserted:
        row = store.COUNT_CHECKPOINTS.one(tx)
        count = 0 if row is None else row[0]
        signed_head = SignedHead(sequence, chain_id, head_hash.hex(), key_id, signature.hex(), tx.now_us, count)
        mutation.record(CHECKPOINT_SIGNED, before=None, after=signed_head)
    return inserted


def find_latest_checkpoint(db: Store) -> Checkpoint | None:
    """Return the newest checkpoint; None if there is none."""

    def work(tx: Transaction) -> Checkpoint | None:
        row = store.LAST_CHECKPOINT.one(tx)
        return None if row is None else make_checkpoint(row, find_public_keys(tx, None))

    return db.snapshot(work)


def _read_rows(tx: Transaction, rows: list[Row]) -> list[Checkpoint]:
    keys = find_public_keys(tx, None)
    return [make_checkpoint(row, keys) for row in rows]


LISTING = Listing(
    method="ListAuditCheckpoints",
    query=lambda: store.AuditCheckpoint.select(*store.CHECKPOINT_FIELDS),
    columns={
        "sequence": Column(store.AuditCheckpoint.sequence, FilterField(Kind.INTEGER), sortable=True),
        "create_time": Column(store.AuditCheckpoint.create_time_us, FilterField(Kind.TIME)),
    },
    unique=(),
    read_rows=_read_rows,
    default_order="sequence desc",
)


def list_checkpoints(db: Store, request: ListRequest, *, tokens: PageTokens) -> Page[Checkpoint]:
    """Return one page of checkpoints, newest first by default.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
    """
    return db.snapshot(lambda tx: LISTING.page(tx, request, tokens=tokens))


def make_checkpoint(row: Row, keys: dict[str, bytes]) -> Checkpoint:
    """Convert a row to a checkpoint.

    Args:
        keys: key id -> public key.
    """
    sequence, chain, head_hash, key_id, signature, create_time_us = row
    return Checkpoint(
        chain, sequence, bytes(head_hash), create_time_us, key_id, keys.get(key_id, b""), bytes(signature)
    )


# -- files


class _File(msgspec.Struct, frozen=True):
    """The JSON document in a checkpoint file."""

    format: str
    chain: str
    sequence: int
    head_hash: str
    create_time_us: int
    key: dict[str, str]
    signature: str


class InvalidCheckpoint(Exception):
    """A file is not a checkpoint, or its signature is invalid."""


def format_checkpoint(checkpoint: Checkpoint) -> str:
    """Return the text of a checkpoint file. The key is a JWK (RFC 8037)."""
    key = {"kty": "OKP", "crv": "Ed25519", "kid": checkpoint.key_id, "x": base64url.encode(checkpoint.public_key)}
    file = _File(
        FORMAT,
        checkpoint.chain,
        checkpoint.sequence,
        checkpoint.head_hash.hex(),
        checkpoint.create_time_us,
        key,
        checkpoint.signature.hex(),
    )
    return msgspec.json.format(msgspec.json.encode(file), indent=2).decode() + "\n"


def parse_checkpoint(text: bytes) -> Checkpoint:
    """Return the checkpoint in the text of a file.

    Raises: InvalidCheckpoint.
    """
    try:
        file = msgspec.json.decode(text, type=_File)
        checkpoint = Checkpoint(
            file.chain,
            file.sequence,
            bytes.fromhex(file.head_hash),
            file.create_time_us,
            file.key["kid"],
            base64url.decode(file.key["x"]),
            bytes.fromhex(file.signature),
        )
    except (msgspec.DecodeError, KeyError, ValueError):
        raise InvalidCheckpoint("it is not a checkpoint of an audit log") from None
    if file.format != FORMAT or not checkpoint.has_valid_signature():
        raise InvalidCheckpoint("its signature is invalid")
    return checkpoint
