"""Runs: an import from beginning to end: rows in chunks, a few calls in flight, outcomes in the order of the lines.

Memory is bounded: one chunk of rows, and 24 bytes or so per row to know a key that came before. A row that fails
is reported and the rest goes on; a server that cannot be reached, or refuses the caller, ends the run.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Generic, Protocol, TypeVar

from storekeep.cli.imports.columns import CellRefused, Columns
from storekeep.cli.imports.columns import Values as RowValues
from storekeep.cli.imports.rows import BadRow, Row
from storekeep.client import NotAllowed, NotAuthenticated, Refused, ServerTrouble

CHUNK_ROWS = 200
"""Rows that are looked up together."""

CALLS_IN_FLIGHT = 16
"""More do not make the server's single writer faster; they only fill its queue."""

FAILURES_KEPT_MAX = 1000
"""Failures that the summary lists; every one is reported when it happens."""


class Outcome(StrEnum):
    """What became of a row."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REPEATED = "repeated"
    FAILED = "failed"


DraftT = TypeVar("DraftT")


class Importer(Protocol[DraftT]):
    """Knows how rows of one kind become resources."""

    def draft(self, values: RowValues) -> DraftT:
        """Read a row. Raises: CellRefused."""

    def key(self, draft: DraftT) -> str:
        """Return what must not occur twice in a file."""

    def look_up(self, drafts: Sequence[DraftT]) -> Callable[[DraftT], Outcome]:
        """Look up what is there of a chunk; return what writes the difference of one draft, from any thread."""


@dataclass(frozen=True)
class Failure:
    """A row that was not imported."""

    line: int
    reason: str


@dataclass
class Summary:
    """How many rows became what."""

    counts: Counter[Outcome] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    """The first `FAILURES_KEPT_MAX`, in the order of their lines."""

    @property
    def rows(self) -> int:
        """How many rows are done."""
        return self.counts.total()

    @property
    def failed(self) -> bool:
        """Whether any row failed."""
        return self.counts[Outcome.FAILED] > 0

    def add(self, result: Outcome | Failure) -> None:
        """Count what became of a row."""
        if isinstance(result, Outcome):
            self.counts[result] += 1
            return
        self.counts[Outcome.FAILED] += 1
        if len(self.failures) < FAILURES_KEPT_MAX:
            self.failures.append(result)


class Run(Generic[DraftT]):
    """One import.

    Args:
        distinct: whether a row whose key came before is passed over, rather than a failure.
    """

    def __init__(self, importer: Importer[DraftT], *, columns: Columns, distinct: bool = False) -> None:
        self._importer = importer
        self._columns = columns
        self._distinct = distinct
        self._lines_by_key: dict[bytes, int] = {}

    def results(self, rows: Iterable[Row | BadRow]) -> Iterator[Outcome | Failure]:
        """Import the rows; yield what became of each, in their order.

        Raises: the client's errors that concern more than one row.
        """
        with ThreadPoolExecutor(CALLS_IN_FLIGHT, thread_name_prefix="import") as pool:
            source = iter(rows)
            while chunk := list(islice(source, CHUNK_ROWS)):
                yield from self._import_chunk(chunk, pool)

    def _import_chunk(self, chunk: Sequence[Row | BadRow], pool: ThreadPoolExecutor) -> list[Outcome | Failure]:
        drafts = [self._draft(row) for row in chunk]
        good = [draft for draft in drafts if not isinstance(draft, (Failure, Outcome))]
        write = self._importer.look_up(good) if good else None

        def apply(row: Row | BadRow, draft: DraftT | Failure | Outcome) -> Outcome | Failure:
            if isinstance(draft, (Failure, Outcome)):
                return draft
            return Failure(row.line, "not looked up") if write is None else _written(write, draft, line=row.line)

        return list(pool.map(apply, chunk, drafts))

    def _draft(self, row: Row | BadRow) -> DraftT | Failure | Outcome:
        if isinstance(row, BadRow):
            return Failure(row.line, row.reason)
        try:
            draft = self._importer.draft(self._columns.values(row))
        except CellRefused as error:
            return Failure(row.line, str(error))
        return self._unless_repeated(draft, line=row.line)

    def _unless_repeated(self, draft: DraftT, *, line: int) -> DraftT | Failure | Outcome:
        key = self._importer.key(draft)
        digest = hashlib.blake2b(key.encode(), digest_size=12).digest()
        first = self._lines_by_key.setdefault(digest, line)
        if first == line:
            return draft
        return Outcome.REPEATED if self._distinct else Failure(line, f"{key} was on line {first} already")


def _written(write: Callable[[DraftT], Outcome], draft: DraftT, *, line: int) -> Outcome | Failure:
    try:
        return write(draft)
    except (NotAuthenticated, NotAllowed, ServerTrouble):
        raise
    except (Refused, CellRefused) as error:
        return Failure(line, str(error))
