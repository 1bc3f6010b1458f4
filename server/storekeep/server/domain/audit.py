"""The audit log: who changed what, when, before and after, in a chain of hashes that shows tampering.

Invariant: entries are only ever added, by `Mutation.record`; nothing here changes one. What was cut off the end
shows only to who noted the head's hash elsewhere.
"""

from __future__ import annotations

import msgspec

from storekeep.server.domain.errors import AuditEntryNotFound
from storekeep.server.domain.filters import FilterField, Kind
from storekeep.server.domain.lists import Column, Listing, ListRequest
from storekeep.server.domain.mutations import FIRST_HASH, AuditedChange
from storekeep.server.domain.pages import Page, PageTokens
from storekeep.server.store import audit as store
from storekeep.server.store.database import Transaction
from storekeep.server.store.engine import Store
from storekeep.server.store.ledger import AuditEntry as AuditEntryTable
from storekeep.server.store.statements import Row

CHUNK_ROWS = 1_000
"""Entries that are read at once to verify the chain: bounds the memory, not the length, of the walk."""
SEQUENCE_MAX = 2**63 - 1


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

    @property
    def name(self) -> str:
        """The resource name."""
        return f"auditEntries/{self.sequence}"


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
        "create_time": Column(AuditEntryTable.create_time_us, FilterField(Kind.TIME)),
    },
    unique=(),
    read_rows=_read_rows,
    default_order="sequence desc",
)


def list_entries(database: Store, request: ListRequest, *, tokens: PageTokens) -> Page[AuditEntry]:
    """One page of the log, the newest entries first unless asked otherwise.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
    """
    return database.snapshot(lambda tx: LISTING.page(tx, request, tokens=tokens))


def get_entry(database: Store, sequence: int) -> AuditEntry:
    """One entry.

    Raises: AuditEntryNotFound.
    """
    row = None
    if sequence <= SEQUENCE_MAX:
        row = database.read(lambda tx: store.FIND_ENTRY.one(tx, sequence=sequence))
    if row is None:
        raise AuditEntryNotFound(f"auditEntries/{sequence}")
    return AuditEntry(*row)


def verify_chain(database: Store) -> ChainReport:
    """Walk the chain from its first entry to the first that does not hold, or to the end.

    It reads all entries, in chunks, each by itself: entries are only ever added, so nobody has to wait.
    """
    sequence, head_hash = 0, FIRST_HASH
    while chunk := database.read(lambda tx: store.ENTRIES_AFTER.all(tx, sequence=sequence, rows_max=CHUNK_ROWS)):  # noqa: B023 - read at once
        for row in chunk:
            entry = AuditEntry(*row)
            problem = _problem(entry, sequence=sequence + 1, previous_hash=head_hash)
            if problem:
                return ChainReport(sequence + 1, f"auditEntries/{sequence + 1}", problem, head_hash)
            sequence, head_hash = entry.sequence, bytes(entry.entry_hash)
    return ChainReport(sequence, "", "", head_hash)


def _problem(entry: AuditEntry, *, sequence: int, previous_hash: bytes) -> str:
    """What is wrong with an entry that should have this sequence and follow this hash; empty when nothing is."""
    if entry.sequence != sequence:
        missing = (
            "it is missing" if entry.sequence == sequence + 1 else f"it and all up to {entry.sequence - 1} are missing"
        )
        return f"{missing}; the next entry there is {entry.name}"
    if bytes(entry.previous_hash) != previous_hash:
        return "it does not follow the entry before it"
    change = AuditedChange(
        entry.create_time_us, entry.type, entry.actor, entry.method, entry.resource, entry.request_id
    )
    if change.chain(previous_hash, entry.before, entry.after) != bytes(entry.entry_hash):
        return "it was changed after it was written"
    return ""
