"""The audit log: who changed what, when, before and after, in a keyed chain of hashes that shows tampering.

Invariant: entries are only ever added, by `Mutation.record`; nothing here changes one. A log that was cut or built anew
together with its checkpoints shows against a checkpoint that was kept elsewhere.
"""

from __future__ import annotations

import bisect
import hashlib
import hmac
from typing import Any, TypeVar

import msgspec

from storekeep.server.domain.audit.checkpoints import (
    KEY_CREATED,
    SIGNED,
    AuditKey,
    Checkpoint,
    SignedHead,
    derive_public_key,
    public_keys,
    read_row,
)
from storekeep.server.domain.errors import AuditEntryNotFound, AuditEntryUnreadable
from storekeep.server.domain.keys.audit_chain import FIRST_HASH, AuditChain, AuditedChange, AuditEpoch
from storekeep.server.domain.keys.encryption import SealBroken
from storekeep.server.domain.keys.keyrings import Keyring, SecretUnknown
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
"""Entries that are read at once to verify the chain: bounds the memory, not the length, of the walk."""
SEQUENCE_MAX = 2**63 - 1
Told = TypeVar("Told", AuditEpoch, AuditKey, SignedHead)


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
        """All that its hash is made of, beside before, after and the hash before it."""
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
    """What walking the chain found.

    Attributes:
        entries_checked: how many entries were read, the broken one included.
        first_broken_entry: resource name of the first that does not hold, or is missing; empty when all hold.
        problem: what is wrong with it; empty when all hold.
        head_hash: of the last entry that holds; zeros where there is none.
    """

    entries_checked: int
    first_broken_entry: str
    problem: str
    head_hash: bytes

    @property
    def valid(self) -> bool:
        """Whether all hold."""
        return not self.problem


def _read_rows(_tx: Transaction, rows: list[Row]) -> list[AuditEntry]:
    return [AuditEntry(*row) for row in rows]


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
    read_rows=_read_rows,
    default_order="sequence desc",
)


def list_entries(database: Store, request: ListRequest, *, tokens: PageTokens) -> Page[AuditEntry]:
    """One page of the log, the newest entries first unless asked otherwise.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken, AuditEntryUnreadable.
    """
    try:
        return database.snapshot(lambda tx: LISTING.page(tx, request, tokens=tokens))
    except UnicodeDecodeError:
        raise AuditEntryUnreadable("auditEntries/-") from None


def get_entry(database: Store, sequence: int) -> AuditEntry:
    """One entry.

    Raises: AuditEntryNotFound, AuditEntryUnreadable.
    """
    row = None
    try:
        if sequence <= SEQUENCE_MAX:
            row = database.read(lambda tx: store.FIND_ENTRY.one(tx, sequence=sequence))
    except UnicodeDecodeError:
        raise AuditEntryUnreadable(f"auditEntries/{sequence}") from None
    if row is None:
        raise AuditEntryNotFound(f"auditEntries/{sequence}")
    return AuditEntry(*row)


def verify_chain(database: Store, chain: AuditChain | None, *, since: Checkpoint | None = None) -> ChainReport:
    """Walk the chain from its first entry, or from a checkpoint, to the first that does not hold, or to its end.

    It reads all entries, in chunks, each by itself: entries are only ever added, so nobody has to wait. What is written
    after the walk has begun is left to the next.

    Args:
        chain: opens the keys of the chain; None without the server's secret: then only what has no key can be checked.
        since: a checkpoint that was kept elsewhere; the chain has to have it.
    """
    if since is not None and not since.is_signed():
        return ChainReport(0, since.name, "the signature of the given checkpoint does not fit what it says", FIRST_HASH)
    try:
        marks = database.snapshot(lambda tx: _read_marks(tx, chain))
    except (UnicodeDecodeError, TypeError, ValueError) as error:
        return ChainReport(0, "auditEpochs/1", f"the keys of the chain cannot be read: {error}", FIRST_HASH)
    walk = _Walk(marks, since)
    sequence = walk.begin(database)
    while not walk.problem:
        rows = [row for row in _read_chunk(database, sequence) if row[0] <= marks.head]
        if not rows:
            walk.end()
            break
        for row in rows:
            if walk.fails(row):
                break
            sequence = row[0]
    return ChainReport(walk.checked, walk.broken, walk.problem, walk.head_hash)


def _read_chunk(database: Store, sequence: int) -> list[Row]:
    """The entries behind one; one that cannot even be read is given as its number alone."""

    def read(rows_max: int) -> list[Row]:
        return database.read(lambda tx: store.ENTRIES_AFTER.all(tx, sequence=sequence, rows_max=rows_max))

    try:
        return read(CHUNK_ROWS)
    except UnicodeDecodeError:
        pass
    rows: list[Row] = []
    while len(rows) < CHUNK_ROWS:
        try:
            one = read(1)
        except UnicodeDecodeError:
            return [*rows, (sequence + 1,)]
        rows += one
        if not one:
            return rows
        sequence = one[0][0]
    return rows


class _Epoch(msgspec.Struct, frozen=True):
    """An epoch as its row has it; without a key where that does not open."""

    number: int
    first_sequence: int
    create_time_us: int
    key: hmac.HMAC | None


class _Marks(msgspec.Struct, frozen=True):
    """What the chain is held against, beside itself.

    Attributes:
        problem: what is wrong with the epochs already; empty when nothing is.
        keyless: whether this process has no secret to open anything with.
        epochs: by their first entries.
        checkpoints: by their entries, in order.
        keys: ids of the keys that sign checkpoints -> the public key in the row, the one of the private key in it (None
            where that does not open), and when it was made.
        digest_until: up to where a later epoch vouches for entries by their digest; 0 where none does.
        head: the last entry that there was when they were read.
    """

    problem: str
    keyless: bool
    epochs: dict[int, _Epoch]
    checkpoints: dict[int, Checkpoint]
    keys: dict[str, tuple[object, bytes | None, object]]
    digest_until: int
    head: int


def _read_marks(tx: Transaction, chain: AuditChain | None) -> _Marks:
    """Raises: UnicodeDecodeError, TypeError, ValueError, where the rows are no such thing."""
    keyring = _current_secret(tx, chain)
    epochs: dict[int, _Epoch] = {}
    problem, digest_until, told = "", 0, None
    for place, (number, first_sequence, sealed, create_time_us) in enumerate(store.EPOCHS.all(tx), start=1):
        if number != place or not isinstance(first_sequence, int) or first_sequence in epochs:
            problem = problem or f"auditEpochs/{place} is missing"
            continue
        key = None if keyring is None else _open(keyring, number, first_sequence, sealed)
        epochs[first_sequence] = _Epoch(number, first_sequence, create_time_us, key)
        row = store.FIND_ENTRY.one(tx, sequence=first_sequence)
        told = None if row is None else _epoch_of(row[10])
        if told is not None and told.history_digest:
            digest_until = first_sequence
    problem = problem or _check_secrets(tx, told, has_epochs=bool(epochs))
    checkpoints, after = {}, 0
    public = public_keys(tx, keyring)
    while rows := store.CHECKPOINTS_AFTER.all(tx, sequence=after, rows_max=CHUNK_ROWS):
        checkpoints.update({row[0]: read_row(row, public) for row in rows})
        after = rows[-1][0]
    keys = {row[0]: (row[1], derive_public_key(row, keyring), row[3]) for row in store.AUDIT_KEYS.all(tx)}
    last = LAST_AUDIT_ENTRY.one(tx)
    head = 0 if last is None else last[0]
    return _Marks(problem, chain is None, epochs, checkpoints, keys, digest_until, head)


def _current_secret(tx: Transaction, chain: AuditChain | None) -> Keyring | None:
    """The secret that the database is under, alone: who has an older one that is still known forges nothing with it."""
    if chain is None:
        return None
    try:
        return Keyring.of(chain.keyring.current(tx).secret)
    except SecretUnknown:
        return None


def _open(keyring: Keyring, number: int, first_sequence: int, sealed: object) -> hmac.HMAC | None:
    try:
        return AuditChain(keyring).open(number, first_sequence, sealed)
    except SealBroken:
        return None


def _check_secrets(tx: Transaction, told: AuditEpoch | None, *, has_epochs: bool) -> str:
    """What is wrong with the list of the server's secrets.

    Args:
        told: the newest epoch, as its first entry tells of it.
    """
    secret, count = store.LATEST_SECRET.one(tx), store.COUNT_SECRETS.one(tx)
    if not has_epochs and secret is not None:
        return "the chain has no key any more: whoever changed the database may have built it anew"
    if told is None or not told.secret_number:
        return ""
    newest = None if secret is None else (secret[0], secret[2])
    if newest != (told.secret_number, told.create_time_us) or count != (told.secret_number,):
        return f"server_secrets does not end with the secret that auditEpochs/{told.number} began with"
    return ""


def _epoch_of(after: Any) -> AuditEpoch:
    """The epoch that its first entry tells of; anything may stand there."""
    return _told(after, AuditEpoch) or AuditEpoch(0, 0, "", "", 0)


def _told(after: Any, kind: type[Told]) -> Told | None:
    """What an entry tells of; None where it is something else."""
    try:
        return msgspec.json.decode(after, type=kind)
    except (msgspec.DecodeError, TypeError, UnicodeDecodeError):
        return None


class HistoryDigest:
    """A digest over whole entries, for those whose key is lost: what a later epoch vouches for."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, row: Row) -> None:
        """Add an entry."""
        values = [value.tobytes() if isinstance(value, memoryview) else value for value in row]
        said = msgspec.json.encode(values)
        self._hash.update(b"%d:" % len(said) + said)

    def text(self) -> str:
        """Over all that were added, in hexadecimal digits."""
        return self._hash.hexdigest()


def digest_history(tx: Transaction) -> str:
    """The digest over all entries that there are."""
    digest, sequence = HistoryDigest(), 0
    while rows := store.ENTRIES_AFTER.all(tx, sequence=sequence, rows_max=CHUNK_ROWS):
        for row in rows:
            digest.add(row)
        sequence = rows[-1][0]
    return digest.text()


class _Walk:
    """Goes along the entries, one after the other.

    Attributes:
        checked: number of the entry that was looked at last.
        broken, problem: the first that does not hold, and why; empty as long as all do.
        head_hash: of the last that holds.
    """

    def __init__(self, marks: _Marks, since: Checkpoint | None) -> None:
        self._marks = marks
        self._since = since
        self._sequences = list(marks.checkpoints)
        self._unlogged = set(marks.keys) if since is None else set()
        self._digest = HistoryDigest() if marks.digest_until else None
        self._epoch: _Epoch | None = None
        self._lost = ""
        self.checked = 0
        self.broken = ""
        self.problem = ""
        self.head_hash = FIRST_HASH
        if marks.problem:
            self._fail("auditEntries/1", marks.problem)
        elif marks.keyless and marks.epochs:
            self._fail("auditEntries/1", "the chain has a key, which takes the server's secret to open")

    def begin(self, database: Store) -> int:
        """Where to begin: behind the given checkpoint, where nothing before it is needed; gives that entry's number."""
        since = self._since
        if self.problem or since is None or self._digest is not None:
            return 0
        row = database.read(lambda tx: store.FIND_ENTRY.one(tx, sequence=since.sequence))
        if row is None:
            self._fail(
                f"auditEntries/{since.sequence}", "it is missing, and the given checkpoint has it: the log was cut"
            )
            return 0
        self._epoch = max(
            (epoch for first, epoch in self._marks.epochs.items() if first <= since.sequence),
            key=lambda epoch: epoch.first_sequence,
            default=None,
        )
        if row[8] != since.head_hash:
            self._fail(f"auditEntries/{since.sequence}", NOT_THE_CHECKPOINT)
            return 0
        self.checked, self.head_hash = since.sequence, since.head_hash
        return since.sequence

    def _fail(self, broken: str, problem: str) -> bool:
        self.broken, self.problem = broken, problem
        return True

    def fails(self, row: Row) -> bool:
        """Look at the next entry; whether it does not hold."""
        wanted = self.checked + 1
        self.checked = wanted
        name = f"auditEntries/{wanted}"
        if row[0] != wanted:
            return self._fail(name, _missing(wanted, row[0]))
        ill = _ill_typed(row)
        if ill:
            return self._fail(name, ill)
        entry = AuditEntry(*row)
        if entry.previous_hash != self.head_hash:
            return self._fail(name, "it does not follow the entry before it")
        problem = self._enter(entry) or self._check_hash(entry) or self._check_marks(entry) or self._check_told(entry)
        if problem:
            return self._fail(name, problem)
        if self._digest is not None and wanted < self._marks.digest_until:
            self._digest.add(row)
        self.head_hash = bytes(entry.entry_hash)
        return False

    def _enter(self, entry: AuditEntry) -> str:
        """Begin a new epoch where one begins; what is wrong with that."""
        epoch = self._marks.epochs.get(entry.sequence)
        if epoch is None:
            return ""
        self._epoch = epoch
        told = _epoch_of(entry.after)
        if (entry.type, told.number, told.first_sequence) != ("audit_epoch.started", epoch.number, entry.sequence):
            return f"it should begin auditEpochs/{epoch.number}"
        if told.create_time_us != epoch.create_time_us:
            return f"auditEpochs/{epoch.number} has another create_time_us"
        if epoch.key is not None and told.history_digest:
            if self._digest is None or self._digest.text() != told.history_digest:
                return "the entries before it are not those that it vouches for"
            self._lost = ""
        return ""

    def _check_hash(self, entry: AuditEntry) -> str:
        """What is wrong with the hash of an entry."""
        key = None if self._epoch is None else self._epoch.key
        if self._epoch is not None and key is None:
            return self._lose(entry)
        made = entry.change.chain(key, entry.previous_hash, entry.before, entry.after)
        holds = hmac.compare_digest(made, entry.entry_hash)
        if self._epoch is not None:
            return "" if holds else CHANGED
        if holds and not entry.api_key and not entry.session_id:
            return ""
        return self._lose(entry) if entry.sequence < self._marks.digest_until else CHANGED

    def _lose(self, entry: AuditEntry) -> str:
        """Leave an entry without a key to the next epoch that vouches for it; `end` tells where none does."""
        self._lost = self._lost or f"auditEntries/{entry.sequence}"
        return ""

    def _check_marks(self, entry: AuditEntry) -> str:
        """What of an entry is not as the checkpoints have it."""
        since = self._since
        if since is not None and since.sequence == entry.sequence and since.head_hash != entry.entry_hash:
            return NOT_THE_CHECKPOINT
        checkpoint = self._marks.checkpoints.get(entry.sequence)
        if checkpoint is None:
            return ""
        if not checkpoint.is_signed():
            return f"the signature of {checkpoint.name} does not fit what it says"
        return "" if checkpoint.head_hash == entry.entry_hash else f"{checkpoint.name} has another hash for it"

    def _check_told(self, entry: AuditEntry) -> str:
        """What is not there any more, or is another, of what the log itself says it is checked by."""
        if entry.type == SIGNED:
            told = _told(entry.after, SignedHead)
            return "" if told is None else self._check_signed(told)
        if entry.type == KEY_CREATED:
            key = _told(entry.after, AuditKey)
            return "" if key is None else self._check_key(key)
        return ""

    def _check_signed(self, told: SignedHead) -> str:
        checkpoint = self._marks.checkpoints.get(told.sequence)
        if checkpoint is None:
            return f"{told.name}, of which it tells, is missing"
        if not told.is_of(checkpoint):
            return f"{told.name} is not the one of which it tells"
        missing = told.count - bisect.bisect_right(self._sequences, told.sequence)
        return f"{missing} of the {told.count} checkpoints of which it tells are missing" if missing > 0 else ""

    def _check_key(self, told: AuditKey) -> str:
        self._unlogged.discard(told.id)
        public, private, create_time_us = self._marks.keys.get(told.id, (None, None, None))
        if not isinstance(public, bytes | memoryview):
            return f"{told.name}, of which it tells, is missing"
        if (bytes(public).hex(), create_time_us) != (told.public_key, told.create_time_us):
            return f"{told.name} is not the one of which it tells"
        opens = self._epoch is not None and self._epoch.key is not None
        if opens and (private is None or private.hex() != told.public_key):
            return f"the private half of {told.name} is not the one of which it tells"
        return ""

    def end(self) -> None:
        """All were looked at: nothing may be missing behind them."""
        after = max(self._marks.checkpoints, default=0)
        if self._since is not None:
            after = max(after, self._since.sequence)
        after = max(after, max(self._marks.epochs, default=0))
        if after > self.checked:
            self._fail(
                f"auditEntries/{self.checked + 1}", f"it and all up to {after} are missing: the log was cut off there"
            )
        elif self._unlogged:
            self._fail(f"auditKeys/{min(self._unlogged)}", "the audit log has no entry of it")
        elif self._lost:
            self._fail(self._lost, "the key of its epoch does not open, and no later epoch vouches for it")


CHANGED = "it was changed after it was written"
NOT_THE_CHECKPOINT = "it is not the entry that the given checkpoint has: the log was built anew"
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
"""What each column of an entry holds; SQLite itself would take anything."""


def _ill_typed(row: Row) -> str:
    """What column of an entry holds something that is never written there."""
    if len(row) != len(COLUMN_TYPES):
        return "it holds text that is not UTF-8"
    for value, (column, kinds) in zip(row, COLUMN_TYPES, strict=True):
        if not isinstance(value, kinds):
            return (
                f"{column} holds {'nothing' if value is None else type(value).__name__}, which is never written there"
            )
    return ""


def _missing(wanted: int, there: int) -> str:
    many = "it is missing" if there == wanted + 1 else f"it and all up to {there - 1} are missing"
    return f"{many}; the next entry there is auditEntries/{there}"
