"""What a watcher of events gets: where it starts, which events its filter selects, and the reads of the shared feed."""

from __future__ import annotations

import functools
import sys
from collections.abc import Collection, Sequence
from typing import NamedTuple

from storekeep.server.domain.calls import READ_PERSONAL_DATA
from storekeep.server.domain.errors import InvalidField
from storekeep.server.domain.events.cursors import START, Position, find_position, make_check
from storekeep.server.domain.events.reading import PERMISSIONS, Event, get_noun, list_visible_nouns, read_rows
from storekeep.server.domain.events.retention import Retention, find_first_since
from storekeep.server.domain.keys.personal_fields import require_keys
from storekeep.server.store.engine import Store
from storekeep.server.store.replicas import FIND_LEDGER_END
from storekeep.server.store.sql.statements import Row
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import audit as store

EVERY = "*"
NOUNS_CACHED = 256
"""Sets of nouns that filters share; callers with the same permissions have the same one."""


class EventFilter(NamedTuple):
    """Which events a watcher gets.

    Attributes:
        nouns: nouns of the events that the caller may see.
        types: requested types, such as `order.placed` or `order.*`; empty for all.
        resources: names of the requested resources; empty for all.
        omit_content: whether events are sent without their content.
        masks_personal_data: whether their content is sent without personal data, which the caller may not read.
    """

    nouns: frozenset[str]
    types: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    omit_content: bool = False
    masks_personal_data: bool = False

    @property
    def form(self) -> tuple[bool, bool]:
        """What decides on the bytes of an event, beside the event."""
        return self.omit_content, self.masks_personal_data

    @property
    def shows_personal_data(self) -> bool:
        """Whether events are sent with personal data in the clear."""
        return not (self.omit_content or self.masks_personal_data)

    def matches_type(self, event_type: str) -> bool:
        """Return whether the watcher gets events of a type, if their resource matches."""
        noun = get_noun(event_type)
        if noun not in self.nouns:
            return False
        types = self.types
        return not types or event_type in types or f"{noun}.*" in types or EVERY in types

    def measure_bytes(self) -> int:
        """Return about how much memory it takes beyond what all filters share."""
        texts = (*self.types, *self.resources)
        return sum(map(sys.getsizeof, texts)) + sum(map(sys.getsizeof, (self.types, self.resources))) if texts else 0

    def replace_permissions(self, permissions: Collection[str]) -> EventFilter:
        """Return the filter with what these permissions allow to read."""
        nouns = _share_nouns(frozenset(list_visible_nouns(permissions)))
        return self._replace(nouns=nouns, masks_personal_data=READ_PERSONAL_DATA not in permissions)


def list_resources(resource: str) -> list[str]:
    """Return a resource name and those that contain it: `orders/x/notes/y` -> `orders/x`, `orders/x/notes/y`."""
    if resource.count("/") == 1:
        return [resource]
    parts = resource.split("/")
    return ["/".join(parts[:count]) for count in range(2, len(parts) + 1, 2)]


@functools.lru_cache(NOUNS_CACHED)
def _share_nouns(nouns: frozenset[str]) -> frozenset[str]:
    """Return an equal set that many filters share, which spares each of them 2 KiB."""
    return nouns


class Entries(NamedTuple):
    """A range of the ledger.

    Attributes:
        events: the events in it.
        hashes: the hash of each entry by its sequence, and of the entry before the range.
    """

    events: list[Event]
    hashes: dict[int, bytes]


class LedgerEnd(NamedTuple):
    """The end of the ledger.

    Attributes:
        sequence: sequence of the last entry; 0 for an empty ledger.
        entry_hash: its hash.
        continues: whether the ledger still has the end that was known before.
        generation: that of the data keys; another one if persons were erased since.
    """

    sequence: int
    entry_hash: bytes
    continues: bool = True
    generation: str = ""

    @property
    def position(self) -> Position:
        """The position after the last entry."""
        return Position(self.sequence, make_check(self.entry_hash))


def make_filter(
    permissions: Collection[str], *, types: Sequence[str], resources: Sequence[str], omit_content: bool
) -> EventFilter:
    """Return the filter of a request.

    Raises: InvalidField if a type selects no event of any kind.
    """
    for index, text in enumerate(types):
        if text != EVERY and text.partition(".")[0] not in PERMISSIONS:
            raise InvalidField(f"event_types[{index}]", f"no event has the type {text}")
    everything = EventFilter(frozenset(), frozenset(types), frozenset(resources), omit_content)
    return everything.replace_permissions(permissions)


def find_start(
    database: Store, *, cursor: Position | None, start_time_us: int | None, retention: Retention
) -> Position:
    """Return the position after which a watcher starts: that of its cursor, before a time, or that of the newest entry.

    Raises: InvalidField, EventsExpired, HistoryChanged; StorageUnavailable, ShuttingDown.
    """
    if cursor is not None:
        if start_time_us is not None:
            raise InvalidField("start_time", "excludes `cursor`")
        retention.check(cursor)
        return cursor
    if start_time_us is None:
        return read_end(database, LedgerEnd(0, b"")).position
    oldest = max(retention.find_oldest(), 1)
    return (
        database.snapshot(lambda tx: find_position(tx, max(find_first_since(tx, start_time_us), oldest) - 1)) or START
    )


def read_end(database: Store, known: LedgerEnd) -> LedgerEnd:
    """Return the end of the ledger.

    Args:
        known: the end that was read before.

    Raises: StorageUnavailable, ShuttingDown.
    """

    def work(tx: Transaction) -> tuple[Sequence[Row], str]:
        return FIND_LEDGER_END.all(tx, sequence=known.sequence), require_keys(tx).read_generation(tx)

    rows, generation = database.read(work)
    hashes = {sequence: bytes(entry_hash) for sequence, entry_hash in rows}
    last = max(hashes, default=0)
    continues = not known.sequence or hashes.get(known.sequence) == known.entry_hash
    return LedgerEnd(last, hashes.get(last, b""), continues, generation)


def read_entries(database: Store, *, after: int, until: int) -> Entries:
    """Return the entries after one up to another, with one read.

    Raises: StorageUnavailable, ShuttingDown; UnicodeDecodeError if an entry is damaged.
    """

    def work(tx: Transaction) -> Entries:
        rows = store.ENTRIES_BETWEEN.all(tx, first=after, last=until)
        hashes = {row[0]: bytes(row[6]) for row in rows}
        events = [row for row in rows if row[0] > after and row[7] is not None and get_noun(row[2]) in PERMISSIONS]
        return Entries(read_rows(tx, events), hashes)

    return database.read(work)
