"""Checkpoints: the head of the audit chain at one time, signed with Ed25519, for keeping elsewhere.

A copy outside the database shows what no check inside it can: that the chain was cut or built anew as a whole.
Invariant: each is written together with an entry of the log that tells of it, so that none can be removed unseen.
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
"""What is signed begins with this, so that a signature is good for nothing else."""
MICROS = 1_000_000
CALL = Call(Caller("system/audit"), "system/audit/SignHead")
SIGNED = "audit_checkpoint.signed"
"""The type of the entry that tells of a checkpoint."""
KEY_CREATED = "audit_key.created"
"""The type of the entry that tells of a key."""


class AuditKey(msgspec.Struct, frozen=True):
    """The public half of a key that signs checkpoints, in hexadecimal digits."""

    id: str
    public_key: str
    create_time_us: int

    @property
    def name(self) -> str:
        """As the audit log calls it; the contract has no resource for it."""
        return f"auditKeys/{self.id}"


class Checkpoint(msgspec.Struct, frozen=True):
    """The head of the chain at one time.

    Attributes:
        chain: which chain it is of: the hash of the first entry that a key covers, in hexadecimal digits.
        sequence, head_hash: the last entry there was, and its hash.
        key_id, public_key: what the signature is checked with: an Ed25519 key, 32 bytes.
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

    def is_signed(self) -> bool:
        """Whether the signature is that of its key over all that it says."""
        said = signed_bytes(self.chain, self.sequence, self.head_hash, self.create_time_us, self.key_id)
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(self.signature, said)
        except (InvalidSignature, ValueError):
            return False
        return True


def signed_bytes(chain: str, sequence: int, head_hash: bytes, create_time_us: int, key_id: str) -> bytes:
    """What a checkpoint's signature is over: a JSON array without spaces."""
    return msgspec.json.encode([FORMAT, chain, sequence, head_hash.hex(), create_time_us, key_id])


def install_key(mutation: Mutation, keyring: Keyring) -> None:
    """Make the first key that signs checkpoints, where there is none."""
    if store.AUDIT_KEYS.one(mutation.tx) is None:
        add_key(mutation, keyring)


def add_key(mutation: Mutation, keyring: Keyring) -> None:
    """Make a key that signs checkpoints from here on."""
    tx = mutation.tx
    private_key = Ed25519PrivateKey.generate()
    public_key = private_key.public_key().public_bytes_raw()
    key = AuditKey(new_id(), public_key.hex(), tx.now_us)
    sealed = keyring.seal(tx, private_key.private_bytes_raw(), purpose=PURPOSE, owner=key.id)
    store.INSERT_AUDIT_KEY.run(tx, id=key.id, public_key=public_key, sealed_private_key=sealed, now_us=tx.now_us)
    mutation.record(KEY_CREATED, before=None, after=key)


def reseal_keys(tx: Transaction, keyring: Keyring) -> None:
    """Encrypt the keys under the current secret; one that no known secret opens stays as it is."""
    for key_id, _, sealed, _ in store.AUDIT_KEYS.all(tx):
        opened = keyring.try_open(sealed, purpose=PURPOSE, owner=key_id)
        if opened is not None:
            again = keyring.seal(tx, opened, purpose=PURPOSE, owner=key_id)
            store.RESEAL_AUDIT_KEY.run(tx, id=key_id, sealed_private_key=again)


def public_keys(tx: Transaction, keyring: Keyring | None) -> dict[str, bytes]:
    """Key id -> public key: made of the private one where that opens, so that nobody can put another in its place."""
    keys = {}
    for row in store.AUDIT_KEYS.all(tx):
        public = derive_public_key(row, keyring) or row[1]
        if isinstance(public, bytes | memoryview):
            keys[row[0]] = bytes(public)
    return keys


def derive_public_key(row: Row, keyring: Keyring | None) -> bytes | None:
    """The public key that belongs to the private one in a row; None where that does not open."""
    key_id, _, sealed, _ = row
    opened = None if keyring is None else keyring.try_open(sealed, purpose=PURPOSE, owner=key_id)
    if opened is None:
        return None
    return Ed25519PrivateKey.from_private_bytes(opened).public_key().public_bytes_raw()


class SignedHead(msgspec.Struct, frozen=True):
    """A checkpoint as the log itself tells of it; hashes and signatures in hexadecimal digits.

    Attributes:
        count: how many checkpoints there are, this one included: it covers those of older releases.
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

    def is_of(self, checkpoint: Checkpoint) -> bool:
        """Return whether a row is the checkpoint that this tells of."""
        return (self.chain, self.head_hash, self.key_id, self.signature, self.create_time_us) == (
            checkpoint.chain,
            checkpoint.head_hash.hex(),
            checkpoint.key_id,
            checkpoint.signature.hex(),
            checkpoint.create_time_us,
        )


def sign_head(db: Store, chain: AuditChain, *, entries: int = 1, interval_s: float = 0.0) -> int:
    """Sign the head of the log, if it has that many new entries, or any and the last checkpoint is older than that.

    The entry that tells of the last checkpoint does not count as new: an idle log stays as it is.

    Returns: how many checkpoints were made: 0 or 1.

    Raises: ChainKeysRemoved, SealBroken, and the store's errors.
    """

    def is_due(tx: Transaction) -> bool:
        head, last = LAST_AUDIT_ENTRY.one(tx), store.SIGNED_LAST.one(tx)
        if head is None or head[2] is None:
            return False
        if last is None:
            return True
        sequence, create_time_us, own_entries = last
        new, age_us = head[0] - sequence - own_entries, tx.now_us - create_time_us
        return bool(new >= entries or (new > 0 and age_us >= interval_s * MICROS))

    def work(tx: Transaction) -> int:
        return _sign(Mutation(tx, CALL), chain.keyring) if is_due(tx) else 0  # another process may have been first

    return db.write(work) if db.snapshot(is_due) else 0


def _sign(mutation: Mutation, keyring: Keyring) -> int:
    """Sign what is the head by now.

    Returns: how many checkpoints were made.

    Raises: ChainKeysRemoved, SealBroken.
    """
    tx = mutation.tx
    sequence, head_hash = mutation.head
    signer, first = store.AUDIT_KEYS.one(tx), store.EPOCHS.one(tx)
    if signer is None or first is None:
        raise ChainKeysRemoved
    start = store.FIND_ENTRY.one(tx, sequence=first[1])
    if start is None:
        return 0  # the entry was cut off, which `verify` finds
    key_id, _, sealed, _ = signer
    private_key = Ed25519PrivateKey.from_private_bytes(keyring.open(bytes(sealed), purpose=PURPOSE, owner=key_id))
    chain_id = bytes(start[8]).hex()
    signature = private_key.sign(signed_bytes(chain_id, sequence, head_hash, tx.now_us, key_id))
    made = store.INSERT_CHECKPOINT.change(
        tx,
        sequence=sequence,
        chain=chain_id,
        head_hash=head_hash,
        key_id=key_id,
        signature=signature,
        now_us=tx.now_us,
    )
    if made:
        row = store.COUNT_CHECKPOINTS.one(tx)
        count = 0 if row is None else row[0]
        told = SignedHead(sequence, chain_id, head_hash.hex(), key_id, signature.hex(), tx.now_us, count)
        mutation.record(SIGNED, before=None, after=told)
    return made


def latest(db: Store) -> Checkpoint | None:
    """The newest checkpoint; None where there is none yet."""

    def work(tx: Transaction) -> Checkpoint | None:
        row = store.LAST_CHECKPOINT.one(tx)
        return None if row is None else read_row(row, public_keys(tx, None))

    return db.snapshot(work)


def _read_rows(tx: Transaction, rows: list[Row]) -> list[Checkpoint]:
    keys = public_keys(tx, None)
    return [read_row(row, keys) for row in rows]


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
    """One page of checkpoints, the newest first unless asked otherwise.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
    """
    return db.snapshot(lambda tx: LISTING.page(tx, request, tokens=tokens))


def read_row(row: Row, keys: dict[str, bytes]) -> Checkpoint:
    """A row as a checkpoint."""
    sequence, chain, head_hash, key_id, signature, create_time_us = row
    return Checkpoint(
        chain, sequence, bytes(head_hash), create_time_us, key_id, keys.get(key_id, b""), bytes(signature)
    )


# -- files


class _File(msgspec.Struct, frozen=True):
    """A checkpoint as a file has it."""

    format: str
    chain: str
    sequence: int
    head_hash: str
    create_time_us: int
    key: dict[str, str]
    signature: str


class InvalidCheckpoint(Exception):
    """A file is no checkpoint, or its signature is not the one of its key."""


def write_text(checkpoint: Checkpoint) -> str:
    """A checkpoint as the text of a file; its key as a JWK (RFC 8037)."""
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


def read_text(text: bytes) -> Checkpoint:
    """The checkpoint in a file.

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
        raise InvalidCheckpoint("it is no checkpoint of an audit log") from None
    if file.format != FORMAT or not checkpoint.is_signed():
        raise InvalidCheckpoint("its signature does not fit what it says")
    return checkpoint
