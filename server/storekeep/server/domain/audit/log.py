"""The audit log: every change with its caller, time and values before and after, in a keyed hash chain.

Invariant: entries are only appended, by `Mutation.record`. The chain reveals changed entries. A checkpoint stored
outside the database reveals a log that was truncated or rebuilt together with its checkpoints.
"""

from __future__ import annotations

import bisect
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from storekeep.server.domain.audit.checkpoints import (
    CHECKPOINT_SIGNED,
    KEY_CREATED,
    AuditKey,
    Checkpoint,
    SignedHead,
    derive_public_key,
    find_public_keys,
    make_checkpoint,
)
from storekeep.server.domain.errors import AuditEntryNotFound, AuditEntryUnreadable
from storekeep.server.domain.keys.audit_chain import FIRST_HASH, AuditChain, AuditedChange, AuditEpoch
from storekeep.server.domain.keys.encryption import DecryptionFailed
from storekeep.server.domain.keys.keyrings import Keyring, SecretUnknown
from storekeep.server.domain.keys.personal_fields import decrypt_copies
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing, ListRequest
from storekeep.server.domain.standard.pages import Page, PageTokens
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.statements import Row
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import audit as store
from storekeep.server.store.tables.ledger import LAST_AUDIT_ENTRY
from storekeep.server.store.tables.ledger import AuditEntry as AuditEntryTable

CHUNK_ROWS = 1_000
"""Entries that verification reads at once; bounds its memory."""
SEQUENCE_MAX = 2**63 - 1
ENCRYPTED_REASON = "the personal data in all earlier entries was encrypted"
"""The reason of an epoch before which the content of entries has changed, so that their hashes do not cover it."""
Recorded = TypeVar("Recorded", AuditEpoch, AuditKey, SignedHead)


class AuditEntry(msgspec.Struct, frozen=True):
    """An audit entry; see `AuditEntry` in the contract. `before` and `after` are JSON."""

    sequence: int
    create_time_us: int
    type: str
    actor: str
    method: str
    resource: str
    request_id: str
    previous_hash: bytes
    entry_hash: bytes
    before: bytes | None
    after: bytes | None
    api_key: str = ""
    session_id: str = ""

    @property
    def name(self) -> str:
        """The resource name."""
        return f"auditEntries/{self.sequence}"

    @property
    def change(self) -> AuditedChange:
        """The content that its hash covers, without before and after."""
        return AuditedChange(
            self.sequence,
            self.create_time_us,
            self.type,
            self.actor,
            self.method,
            self.resource,
            self.request_id,
            self.api_key,
            self.session_id,
        )


class ChainReport(msgspec.Struct, frozen=True):
    """The result of verifying the chain.

    Attributes:
        entries_checked: the number of entries read, including the first broken one.
        first_broken_entry: the resource name of the first broken or missing entry; empty for a valid chain.
        problem: what is wrong with it; empty for a valid chain.
        head_hash: the hash of the last valid entry, 32 bytes; zeros if there is none.
    """

    entries_checked: int
    first_broken_entry: str
    problem: str
    head_hash: bytes

    @property
    def valid(self) -> bool:
        """Whether the whole chain is valid."""
        return not self.problem


def read_entries(tx: Transaction, rows: Sequence[Row]) -> list[AuditEntry]:
    """Convert rows to entries, with the personal data of the resources in them.

    Raises: DecryptionFailed.
    """
    entries = [AuditEntry(*row) for row in rows]
    copies = [(entry.resource, copy) for entry in entries for copy in (entry.before, entry.after)]
    decrypted = decrypt_copies(tx, copies)
    pairs = zip(decrypted[::2], decrypted[1::2], strict=True)
    return [
        msgspec.structs.replace(entry, before=before, after=after)
        for entry, (before, after) in zip(entries, pairs, strict=True)
    ]


LISTING = Listing(
    method="ListAuditEntries",
    query=lambda: AuditEntryTable.select(*store.FIELDS),
    columns={
        "sequence": Column(AuditEntryTable.sequence, FilterField(Kind.INTEGER), sortable=True),
        "actor": Column(AuditEntryTable.actor, FilterField(Kind.TEXT)),
        "method": Column(AuditEntryTable.method, FilterField(Kind.TEXT)),
        "resource": Column(AuditEntryTable.resource, FilterField(Kind.TEXT)),
        "request_id": Column(AuditEntryTable.request_id, FilterField(Kind.TEXT)),
        "api_key": Column(AuditEntryTable.api_key, FilterField(Kind.TEXT)),
        "session_id": Column(AuditEntryTable.session_id, FilterField(Kind.TEXT)),
        "create_time": Column(AuditEntryTable.create_time_us, FilterField(Kind.TIME)),
    },
    unique=(),
    read_rows=read_entries,
    default_order="sequence desc",
)


def list_entries(database: Store, request: ListRequest, *, tokens: PageTokens) -> Page[AuditEntry]:
    """Return one page of the log, newest entries first by default.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken, AuditEntryUnreadable.
    """
    try:
        return database.snapshot(lambda tx: LISTING.page(tx, request, tokens=tokens))
    except UnicodeDecodeError:
        raise AuditEntryUnreadable("auditEntries/-") from None


def get_entry(database: Store, sequence: int) -> AuditEntry:
    """Return one entry.

    Raises: AuditEntryNotFound, AuditEntryUnreadable.
    """
    entries: list[AuditEntry] = []
    try:
        if sequence <= SEQUENCE_MAX:
            entries = database.read(lambda tx: read_entries(tx, store.FIND_ENTRY.all(tx, sequence=sequence)))
    except UnicodeDecodeError:
        raise AuditEntryUnreadable(f"auditEntries/{sequence}") from None
    if not entries:
        raise AuditEntryNotFound(f"auditEntries/{sequence}")
    return entries[0]


def verify_chain(database: Store, chain: AuditChain | None, *, since: Checkpoint | None = None) -> ChainReport:
    """Verify the chain from its first entry, or from a checkpoint, up to the first broken entry or the end.

    It reads the entries in chunks, each in its own transaction, and blocks no writer. Entries that are written after
    the start are not verified.

    Args:
        chain: decrypts the keys of the chain. None without the server's secret; then only a chain without keys can be
            verified.
        since: a checkpoint stored outside the database, which the chain must contain.
    """
    if since is not None and not since.has_valid_signature():
        return ChainReport(0, since.name, "the signature of the given checkpoint is invalid", FIRST_HASH)
    try:
        references = database.snapshot(lambda tx: _read_references(tx, chain))
    except (UnicodeDecodeError, TypeError, ValueError) as error:
        return ChainReport(0, "auditEpochs/1", f"the keys of the chain cannot be read: {error}", FIRST_HASH)
    verifier = _Verifier(references, since)
    sequence = verifier.start(database)
    while not verifier.problem:
        rows = [row for row in _read_chunk(database, sequence) if row[0] <= references.head]
        if not rows:
            verifier.finish()
            break
        for row in rows:
            if not verifier.check_next(row):
                break
            sequence = row[0]
    return ChainReport(verifier.checked, verifier.broken, verifier.problem, verifier.head_hash)


def _read_chunk(database: Store, sequence: int) -> list[Row]:
    """Return at most `CHUNK_ROWS` entries after a sequence. The row of an unreadable entry holds its sequence only."""

    def read(rows_max: int) -> list[Row]:
        return database.read(lambda tx: store.ENTRIES_AFTER.all(tx, sequence=sequence, rows_max=rows_max))

    try:
        return read(CHUNK_ROWS)
    except UnicodeDecodeError:
        pass
    rows: list[Row] = []
    while len(rows) < CHUNK_ROWS:
        try:
            next_rows = read(1)
        except UnicodeDecodeError:
            return [*rows, (sequence + 1,)]
        rows += next_rows
        if not next_rows:
            return rows
        sequence = next_rows[0][0]
    return rows


class _Epoch(msgspec.Struct, frozen=True):
    """The row of an epoch. `key` is None if it cannot be decrypted."""

    number: int
    first_sequence: int
    create_time_us: int
    key: hmac.HMAC | None


class _References(msgspec.Struct, frozen=True):
    """The data outside the entries that the chain is verified against.

    Attributes:
        problem: what is wrong with the epochs; empty if nothing is.
        keyless: whether this process has no secret to decrypt keys with.
        epochs: first sequence -> epoch.
        checkpoints: sequence -> checkpoint, in order.
        keys: id of a checkpoint key -> the public key in its row, the public key derived from its private key (None
            if that cannot be decrypted), and its creation time in microseconds since 1970.
        digest_until: the first sequence of the last epoch with a history digest, which covers all entries before it; 0
            without one.
        head: the sequence of the last entry at the time of reading.
        encrypted_until: the first sequence of the epoch with `ENCRYPTED_REASON`; 0 without one.
    """

    problem: str
    keyless: bool
    epochs: dict[int, _Epoch]
    checkpoints: dict[int, Checkpoint]
    keys: dict[str, tuple[object, bytes | None, object]]
    digest_until: int
    head: int
    encrypted_until: int


def _read_references(tx: Transaction, chain: AuditChain | None) -> _References:
    """Return the data to verify the chain against.

    Raises: UnicodeDecodeError, TypeError, ValueError if a row holds data that Storekeep never writes.
    """
    keyring = _make_current_keyring(tx, chain)
    epochs: dict[int, _Epoch] = {}
    problem, digest_until, encrypted_until, recorded = "", 0, 0, None
    for expected, (number, first_sequence, encrypted, create_time_us) in enumerate(store.EPOCHS.all(tx), start=1):
        if number != expected or not isinstance(first_sequence, int) or first_sequence in epochs:
            problem = problem or f"auditEpochs/{expected} is missing"
            continue
        key = None if keyring is None else _decrypt_key(keyring, number, first_sequence, encrypted)
        epochs[first_sequence] = _Epoch(number, first_sequence, create_time_us, key)
        row = store.FIND_ENTRY.one(tx, sequence=first_sequence)
        recorded = None if row is None else _read_epoch(row[10])
        if recorded is not None and recorded.history_digest:
            digest_until = first_sequence
            if recorded.reason == ENCRYPTED_REASON:
                encrypted_until = first_sequence
    problem = problem or _check_secrets(tx, recorded, has_epochs=bool(epochs))
    stray = store.STRAY_CHECKPOINT.one(tx)
    if stray is not None and stray[0] is not None:
        problem = problem or f"auditCheckpoints/{stray[0]} signs no entry: sequences start at 1"
    checkpoints, after = {}, 0
    public = find_public_keys(tx, keyring)
    while rows := store.CHECKPOINTS_AFTER.all(tx, sequence=after, rows_max=CHUNK_ROWS):
        checkpoints.update({row[0]: make_checkpoint(row, public) for row in rows})
        after = rows[-1][0]
    keys = {row[0]: (row[1], derive_public_key(row, keyring), row[3]) for row in store.AUDIT_KEYS.all(tx)}
    last = LAST_AUDIT_ENTRY.one(tx)
    head = 0 if last is None else last[0]
    return _References(problem, chain is None, epochs, checkpoints, keys, digest_until, head, encrypted_until)


def _make_current_keyring(tx: Transaction, chain: AuditChain | None) -> Keyring | None:
    """Return a keyring with the current secret only: the holder of an older one must not be able to forge entries."""
    if chain is None:
        return None
    try:
        return Keyring.from_secret(chain.keyring.read_current(tx).secret)
    except SecretUnknown:
        return None


def _decrypt_key(keyring: Keyring, number: int, first_sequence: int, encrypted: object) -> hmac.HMAC | None:
    try:
        return AuditChain(keyring).decrypt_key(number, first_sequence, encrypted)
    except DecryptionFailed:
        return None


def _check_secrets(tx: Transaction, recorded: AuditEpoch | None, *, has_epochs: bool) -> str:
    """Return what is wrong with the list of the server's secrets; empty if nothing is.

    Args:
        recorded: the newest epoch, as its first entry records it; None if there is none.
    """
    secret, count = store.LATEST_SECRET.one(tx), store.COUNT_SECRETS.one(tx)
    if not has_epochs and secret is not None:
        return "the keys of the chain were removed from the database: the log may have been rebuilt"
    if recorded is None or not recorded.secret_number:
        return ""
    start_us = None if secret is None or recorded.reason == ENCRYPTED_REASON else secret[2]  # it keeps the secret
    newest = None if secret is None else (secret[0], start_us or recorded.create_time_us)
    if newest != (recorded.secret_number, recorded.create_time_us) or count != (recorded.secret_number,):
        return f"the last row of server_secrets is not the secret that auditEpochs/{recorded.number} records"
    return ""


def _read_epoch(after: Any) -> AuditEpoch:
    """Return the epoch that its first entry records; an empty one if the entry holds anything else."""
    return _decode(after, AuditEpoch) or AuditEpoch(0, 0, "", "", 0)


def _decode(after: Any, kind: type[Recorded]) -> Recorded | None:
    """Return the resource that an entry records; None if it is of another type."""
    try:
        return msgspec.json.decode(after, type=kind)
    except (msgspec.DecodeError, TypeError, UnicodeDecodeError):
        return None


class HistoryDigest:
    """A SHA-256 digest of whole entries. A later epoch records it for entries whose key is lost."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, row: Row) -> None:
        """Add an entry."""
        values = [value.tobytes() if isinstance(value, memoryview) else value for value in row]
        encoded = msgspec.json.encode(values)
        self._hash.update(b"%d:" % len(encoded) + encoded)

    def format(self) -> str:
        """Return the digest of all added entries, in hexadecimal digits."""
        return self._hash.hexdigest()


def digest_history(tx: Transaction) -> str:
    """Return the digest of all existing entries, in hexadecimal digits."""
    digest, sequence = HistoryDigest(), 0
    while rows := store.ENTRIES_AFTER.all(tx, sequence=sequence, rows_max=CHUNK_ROWS):
        for row in rows:
            digest.add(row)
        sequence = rows[-1][0]
    return digest.format()


class _Verifier:
    """Verifies the entries one by one, in order.

    Attributes:
        checked: the sequence of the last entry that was checked.
        broken, problem: the resource name of the first broken entry, and what is wrong; empty while all are valid.
        head_hash: the hash of the last valid entry, 32 bytes.
    """

    def __init__(self, references: _References, since: Checkpoint | None) -> None:
        self._references = references
        self._since = since
        self._sequences = list(references.checkpoints)
        self._unlogged = set(references.keys) if since is None else set()
        self._digest = HistoryDigest() if references.digest_until else None
        self._epoch: _Epoch | None = None
        self._first_unverified = ""
        self.checked = 0
        self.broken = ""
        self.problem = ""
        self.head_hash = FIRST_HASH
        if references.problem:
            self._fail("auditEntries/1", references.problem)
        elif references.keyless and references.epochs:
            self._fail("auditEntries/1", "the chain has a key, and the server's secret is needed to decrypt it")

    def start(self, database: Store) -> int:
        """Return the sequence to start after: the given checkpoint's, or 0 if the entries before it are needed."""
        since = self._since
        if self.problem or since is None or self._digest is not None:
            return 0
        row = database.read(lambda tx: store.FIND_ENTRY.one(tx, sequence=since.sequence))
        if row is None:
            problem = "it is missing, but the given checkpoint has it: the log was truncated"
            self._fail(f"auditEntries/{since.sequence}", problem)
            return 0
        self._epoch = max(
            (epoch for first, epoch in self._references.epochs.items() if first <= since.sequence),
            key=lambda epoch: epoch.first_sequence,
            default=None,
        )
        if row[8] != since.head_hash:
            self._fail(f"auditEntries/{since.sequence}", CHECKPOINT_MISMATCH)
            return 0
        self.checked, self.head_hash = since.sequence, since.head_hash
        return since.sequence

    def _fail(self, broken: str, problem: str) -> bool:
        """Set the problem of the broken entry; return False."""
        self.broken, self.problem = broken, problem
        return False

    def check_next(self, row: Row) -> bool:
        """Check the next entry. Return whether it is valid."""
        expected = self.checked + 1
        self.checked = expected
        name = f"auditEntries/{expected}"
        if row[0] != expected:
            return self._fail(name, _describe_gap(expected, row[0]))
        type_problem = _check_types(row)
        if type_problem:
            return self._fail(name, type_problem)
        entry = AuditEntry(*row)
        if entry.previous_hash != self.head_hash:
            return self._fail(name, "its previous_hash does not match")
        problem = (
            self._start_epoch(entry)
            or self._check_hash(entry)
            or self._check_checkpoints(entry)
            or self._check_recorded(entry)
        )
        if problem:
            return self._fail(name, problem)
        if self._digest is not None and expected < self._references.digest_until:
            self._digest.add(row)
        self.head_hash = bytes(entry.entry_hash)
        return True

    def _start_epoch(self, entry: AuditEntry) -> str:
        """Switch to a new epoch if the entry is its first. Return what is wrong with the epoch; empty if nothing is."""
        epoch = self._references.epochs.get(entry.sequence)
        if epoch is None:
            return ""
        self._epoch = epoch
        recorded = _read_epoch(entry.after)
        expected = ("audit_epoch.started", epoch.number, entry.sequence)
        if (entry.type, recorded.number, recorded.first_sequence) != expected:
            return f"it is not the first entry of auditEpochs/{epoch.number}"
        if recorded.create_time_us != epoch.create_time_us:
            return f"auditEpochs/{epoch.number} has another create_time_us"
        if epoch.key is not None and recorded.history_digest:
            if self._digest is not None and self._digest.format() == recorded.history_digest:
                self._first_unverified = ""
            elif entry.sequence < self._references.encrypted_until:
                return self._defer(entry)  # the digest covers what `migrate` has encrypted since
            else:
                return "the entries before it do not match its history_digest"
        return ""

    def _check_hash(self, entry: AuditEntry) -> str:
        """Return what is wrong with the hash of an entry; empty if nothing is."""
        key = None if self._epoch is None else self._epoch.key
        if self._epoch is not None and key is None:
            return self._defer(entry)
        computed = entry.change.chain(key, entry.previous_hash, entry.before, entry.after)
        matches = hmac.compare_digest(computed, entry.entry_hash)
        if not matches and entry.sequence < self._references.encrypted_until:
            return self._defer(entry)
        if self._epoch is not None:
            return "" if matches else CHANGED
        if matches and not entry.api_key and not entry.session_id:
            return ""
        return self._defer(entry) if entry.sequence < self._references.digest_until else CHANGED

    def _defer(self, entry: AuditEntry) -> str:
        """Leave an entry to the history digest of a later epoch; `finish` reports it without one."""
        self._first_unverified = self._first_unverified or f"auditEntries/{entry.sequence}"
        return ""

    def _check_checkpoints(self, entry: AuditEntry) -> str:
        """Return how an entry differs from its checkpoints; empty if it does not."""
        since = self._since
        if since is not None and since.sequence == entry.sequence and since.head_hash != entry.entry_hash:
            return CHECKPOINT_MISMATCH
        checkpoint = self._references.checkpoints.get(entry.sequence)
        if checkpoint is None:
            return ""
        if not checkpoint.has_valid_signature():
            return f"the signature of {checkpoint.name} is invalid"
        return "" if checkpoint.head_hash == entry.entry_hash else f"{checkpoint.name} has another hash for it"

    def _check_recorded(self, entry: AuditEntry) -> str:
        """Return what is wrong with a checkpoint or key that the entry records; empty if nothing is."""
        if entry.type == CHECKPOINT_SIGNED:
            signed_head = _decode(entry.after, SignedHead)
            return "" if signed_head is None else self._check_signed_head(signed_head)
        if entry.type == KEY_CREATED:
            key = _decode(entry.after, AuditKey)
            return "" if key is None else self._check_key(key)
        return ""

    def _check_signed_head(self, recorded: SignedHead) -> str:
        checkpoint = self._references.checkpoints.get(recorded.sequence)
        if checkpoint is None:
            return f"{recorded.name}, which it records, is missing"
        if not recorded.matches_checkpoint(checkpoint):
            return f"{recorded.name} differs from what it records"
        missing = recorded.count - bisect.bisect_right(self._sequences, recorded.sequence)
        return f"{missing} of the {recorded.count} checkpoints that it counts are missing" if missing > 0 else ""

    def _check_key(self, recorded: AuditKey) -> str:
        self._unlogged.discard(recorded.id)
        public, derived, create_time_us = self._references.keys.get(recorded.id, (None, None, None))
        if not isinstance(public, bytes | memoryview):
            return f"{recorded.name}, which it records, is missing"
        if (bytes(public).hex(), create_time_us) != (recorded.public_key, recorded.create_time_us):
            return f"{recorded.name} differs from what it records"
        has_secret = self._epoch is not None and self._epoch.key is not None
        if has_secret and (derived is None or derived.hex() != recorded.public_key):
            return f"the private key of {recorded.name} does not belong to the public key that it records"
        return ""

    def finish(self) -> None:
        """Check that no entry is missing after the last one."""
        after = max(self._references.checkpoints, default=0)
        if self._since is not None:
            after = max(after, self._since.sequence)
        after = max(after, max(self._references.epochs, default=0))
        if after > self.checked:
            self._fail(
                f"auditEntries/{self.checked + 1}", f"it and all up to {after} are missing: the log was truncated there"
            )
        elif self._unlogged:
            self._fail(f"auditKeys/{min(self._unlogged)}", "the audit log has no entry for it")
        elif self._first_unverified:
            problem = "the key of its epoch cannot be decrypted, and no later epoch has a history_digest for it"
            self._fail(self._first_unverified, problem)


CHANGED = "it was changed after it was written"
CHECKPOINT_MISMATCH = "its hash is not the one in the given checkpoint: the log was rebuilt"
COLUMN_TYPES: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("sequence", (int,)),
    ("create_time_us", (int,)),
    ("type", (str,)),
    ("actor", (str,)),
    ("method", (str,)),
    ("resource", (str,)),
    ("request_id", (str,)),
    ("previous_hash", (bytes, memoryview)),
    ("entry_hash", (bytes, memoryview)),
    ("before", (bytes, memoryview, type(None))),
    ("after", (bytes, memoryview, type(None))),
    ("api_key", (str,)),
    ("session_id", (str,)),
)
"""The types of each column of an entry; SQLite itself accepts any type."""


def _check_types(row: Row) -> str:
    """Return which column of an entry has a wrong type; empty if none has."""
    if len(row) != len(COLUMN_TYPES):
        return "it holds text that is not UTF-8"
    for value, (column, kinds) in zip(row, COLUMN_TYPES, strict=True):
        if not isinstance(value, kinds):
            kind = "NULL" if value is None else type(value).__name__
            return f"{column} holds {kind}, which Storekeep never writes there"
    return ""


def _describe_gap(expected: int, existing: int) -> str:
    missing = "it is missing" if existing == expected + 1 else f"it and all up to {existing - 1} are missing"
    return f"{missing}; the next existing entry is auditEntries/{existing}"
