"""Prepared events: ranges of the ledger as bytes of the wire, read once and shared by all watchers of a process.

A block covers a fixed range of sequences and only grows until it is full. Invariant: whatever continues after a
position is of the same history of the ledger, by the hashes of its entries. Used by one thread, that of the feed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from storekeep.server.domain.events.cursors import Position, make_check
from storekeep.server.domain.events.reading import PERSONAL_NOUNS, Event
from storekeep.server.domain.events.watching import Entries, EventFilter, list_resources
from storekeep.server.transport.personal_data import mask_message
from storekeep.server.transport.wire import LENGTH, make_tag, write_bytes
from storekeep.v1 import events_pb2 as pb

BLOCK_ENTRIES = 256
"""Entries of the ledger in one block. Reading them takes a millisecond or two."""
BATCH_BYTES_MAX = 64 * 1024
"""Size from which a response gets no further event: as much as a client's HTTP/2 window takes at once by default."""
EVENT_BYTES = 1_000
"""Size that each event counts with, beside its content: its texts, the objects and the index."""
HASH_BYTES = 200
"""Size that the hash of each entry counts with, in its place in the index."""
FORM_BYTES = 100
"""Size that each form of an event counts with, beside its bytes."""
ELEMENT = make_tag(pb.WatchEventsResponse.EVENTS_FIELD_NUMBER, LENGTH)
"""Starts an element of the repeated field of a response."""

ReadEntries = Callable[[int, int], Entries]
"""Returns the entries after one sequence up to another."""
EncodeEvents = Callable[[Sequence[Event], bool], list[bytes]]
"""Returns events on the wire, given whether to omit their content."""


class LedgerChanged(Exception):
    """The ledger no longer has an entry after which it was to be read."""


class Batch(NamedTuple):
    """The events of one response.

    Attributes:
        body: the repeated field of the response on the wire; empty if no event matches.
        events: the number of events.
        personal: how many of them have personal data in the clear.
        until: the position after them.
    """

    body: bytes
    events: int
    personal: int
    until: Position


Form = tuple[bool, bool]
"""See `EventFilter.form`."""


class Block:
    """The events of a range of the ledger.

    It has few objects for each event: a replay makes tens of thousands a second, and the garbage collector visits them.

    Attributes:
        until: the last sequence that was read.
        hashes: the hashes of the entries up to it, and of the one before the block, by sequence.
        events, sequences: the events up to it.
        has_personal_data: whether each event is of a noun with personal data.
        size_bytes: about how much memory it takes.
    """

    __slots__ = (
        "_by_resource",
        "_by_type",
        "_forms",
        "_indexed",
        "events",
        "has_personal_data",
        "hashes",
        "sequences",
        "size_bytes",
        "until",
    )

    def __init__(self, until: int) -> None:
        self.until = until
        self.hashes: dict[int, bytes] = {}
        self.events: list[Event] = []
        self.has_personal_data: list[bool] = []
        self.sequences: list[int] = []
        self.size_bytes = 0
        self._by_type: dict[str, list[int]] = {}
        self._by_resource: dict[str, list[int]] = {}
        self._indexed = 0
        self._forms: dict[Form, list[bytes]] = {}

    def extend(self, entries: Entries, *, until: int) -> None:
        """Add the entries up to a sequence.

        Raises: LedgerChanged if they do not continue the block.
        """
        events, hashes = entries
        if until not in hashes or (self.hashes and hashes.get(self.until) != self.hashes[self.until]):
            raise LedgerChanged
        self.hashes |= hashes
        for index, event in enumerate(events, start=len(self.events)):
            self._by_type.setdefault(event.type, []).append(index)
        self.events += events
        self.sequences += [event.sequence for event in events]
        self.has_personal_data += [event.noun in PERSONAL_NOUNS for event in events]
        self.until = until
        self.size_bytes += sum([len(event.content) for event in events]) + EVENT_BYTES * len(events)
        self.size_bytes += HASH_BYTES * len(hashes)

    def find_position(self, sequence: int) -> Position:
        """Return the position after an entry of the block."""
        return Position(sequence, make_check(self.hashes.get(sequence, b"")))

    def get_elements(self, form: Form) -> list[bytes]:
        """Return the events as elements of the repeated field of a response; empty ones are not made yet."""
        elements = self._forms.setdefault(form, [])
        elements += [b""] * (len(self.events) - len(elements))
        return elements

    def select(self, selected: EventFilter, *, after: int) -> Sequence[int]:
        """Return the indexes of the events after a sequence that a filter selects.

        Events of other types and resources cost nothing, so that thousands of different filters cost little.
        """
        first = bisect_right(self.sequences, after)
        matching = [name for name in self._by_type if selected.matches_type(name)]
        if not selected.resources and len(matching) == len(self._by_type):
            return range(first, len(self.events))
        indexes = {index for name in matching for index in self._by_type[name] if index >= first}
        if selected.resources:
            by_resource = self._index_resources()
            indexes &= {index for name in selected.resources for index in by_resource.get(name, ())}
        return sorted(indexes)

    def _index_resources(self) -> dict[str, list[int]]:
        """Return the indexes of the events by resource. Most watchers do not need them."""
        for index in range(self._indexed, len(self.events)):
            for resource in list_resources(self.events[index].resource):
                self._by_resource.setdefault(resource, []).append(index)
        self._indexed = len(self.events)
        return self._by_resource


class EventBlocks:
    """The blocks that were used last.

    Args:
        read: reads entries.
        encode: encodes events.
        size_max_bytes: how much memory they may take. The block in use may exceed it.
    """

    def __init__(self, read: ReadEntries, encode: EncodeEvents, *, size_max_bytes: int) -> None:
        self._read = read
        self._encode = encode
        self._size_max_bytes = size_max_bytes
        self._blocks: OrderedDict[int, Block] = OrderedDict()
        self._size_bytes = 0

    def clear(self) -> None:
        """Forget everything, because the ledger is no longer what was read."""
        self._blocks.clear()
        self._size_bytes = 0

    def get_batch(self, selected: EventFilter, *, after: Position, head: int) -> Batch:
        """Return the next events after a position, of one block at most.

        Args:
            head: sequence of the last entry.

        Raises: LedgerChanged, StorageUnavailable, ShuttingDown; UnicodeDecodeError if an entry is damaged.
        """
        block = self._find(after.sequence, head)
        if after.check and block.find_position(after.sequence).check != after.check:
            raise LedgerChanged
        size_bytes = block.size_bytes
        try:
            return self._select(block, selected, after=after.sequence)
        finally:
            self._resize(block.size_bytes - size_bytes)

    def _select(self, block: Block, selected: EventFilter, *, after: int) -> Batch:
        """Return the next events of a block."""
        parts: list[bytes] = []
        size = personal = 0
        elements, has_personal_data, until = block.get_elements(selected.form), block.has_personal_data, block.until
        indexes = block.select(selected, after=after)
        for number, index in enumerate(indexes):
            element = elements[index]
            if not element:
                self._make_elements(block, indexes[number:], selected)
                element = elements[index]
            parts.append(element)
            size += len(element)
            personal += has_personal_data[index]
            if size >= BATCH_BYTES_MAX:
                until = block.sequences[index]
                break
        if not selected.shows_personal_data:
            personal = 0
        return Batch(b"".join(parts), len(parts), personal, block.find_position(until))

    def _make_elements(self, block: Block, indexes: Sequence[int], selected: EventFilter) -> None:
        """Make the first events of some that are not made yet, about as many as fit into a response.

        Each is an element of the repeated field of a response, as a watcher may read it.
        """
        elements, events, chosen, size = block.get_elements(selected.form), block.events, [], 0
        for index in indexes:
            if not elements[index]:
                chosen.append(index)
                size += len(events[index].content)
                if size >= BATCH_BYTES_MAX:
                    break
        made = self._encode([events[index] for index in chosen], selected.omit_content)
        if selected.masks_personal_data and not selected.omit_content:
            has_personal_data = [block.has_personal_data[index] for index in chosen]
            made = [_mask_event(one) if masks else one for one, masks in zip(made, has_personal_data, strict=True)]
        for index, encoded in zip(chosen, made, strict=True):
            elements[index] = write_bytes(ELEMENT, encoded)
        block.size_bytes += sum([len(elements[index]) for index in chosen]) + FORM_BYTES * len(chosen)

    def _find(self, after: int, head: int) -> Block:
        """Return the block of the entry after a position, read up to its end or the last entry."""
        index = after // BLOCK_ENTRIES
        block = self._blocks.get(index)
        if block is None:
            block = self._blocks[index] = Block(index * BLOCK_ENTRIES)
        self._blocks.move_to_end(index)
        until = min(head, (index + 1) * BLOCK_ENTRIES)
        if block.until < until:
            size_bytes = block.size_bytes
            block.extend(self._read(block.until, until), until=until)
            self._resize(block.size_bytes - size_bytes)
        return block

    def _resize(self, more_bytes: int) -> None:
        """Count what the newest block grew by, and drop old blocks."""
        self._size_bytes += more_bytes
        while self._size_bytes > self._size_max_bytes and len(self._blocks) > 1:
            _, oldest = self._blocks.popitem(last=False)
            self._size_bytes -= oldest.size_bytes


def _mask_event(encoded: bytes) -> bytes:
    """Return an event on the wire without personal data."""
    message = pb.Event.FromString(encoded)
    mask_message(message)
    return message.SerializeToString()
