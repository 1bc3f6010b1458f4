"""Runs of an import: rows in chunks, a few concurrent calls, outcomes in the order of the file.

Memory holds one chunk of rows, and about 24 bytes per row to detect repeated keys. A failed row is reported and the run
continues. An unreachable server or a rejected caller ends the run.
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

from storekeep.cli.imports.columns import Columns, InvalidCell
from storekeep.cli.imports.columns import Values as RowValues
from storekeep.cli.imports.rows import BadRow, Row
from storekeep.client import NotAllowed, NotAuthenticated, Refused, ServerError

CHUNK_ROWS = 200
"""Rows per chunk, whose resources are looked up together."""

CALLS_IN_FLIGHT = 16
"""Concurrent calls. More would only fill the queue of the server's single writer."""

FAILURES_KEPT_MAX = 1000
"""Failures listed in the summary. Every failure is also reported when it happens."""


class Outcome(StrEnum):
    """Outcome of a row."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REPEATED = "repeated"
    FAILED = "failed"


ItemT = TypeVar("ItemT")


class Importer(Protocol[ItemT]):
    """Converts rows of one kind to resources and writes them."""

    def parse(self, values: RowValues) -> ItemT:
        """Parse a row. Raises: InvalidCell."""

    def key(self, item: ItemT) -> str:
        """Return the key of an item, which must be unique in a file."""

    def look_up(self, items: Sequence[ItemT]) -> Callable[[ItemT], Outcome]:
        """Look up the existing resources of a chunk. Return a thread-safe function that writes one item's changes."""


@dataclass(frozen=True)
class Failure:
    """A row that was not imported."""

    line: int
    reason: str


@dataclass
class Summary:
    """Number of rows by outcome, and the first failures."""

    counts: Counter[Outcome] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    """The first `FAILURES_KEPT_MAX` failures, by line."""

    @property
    def rows(self) -> int:
        """Number of rows done."""
        return self.counts.total()

    @property
    def failed(self) -> bool:
        """Whether any row failed."""
        return self.counts[Outcome.FAILED] > 0

    def add(self, result: Outcome | Failure) -> None:
        """Count the result of a row."""
        if isinstance(result, Outcome):
            self.counts[result] += 1
            return
        self.counts[Outcome.FAILED] += 1
        if len(self.failures) < FAILURES_KEPT_MAX:
            self.failures.append(result)


class Run(Generic[ItemT]):
    """One run of an import.

    Args:
        distinct: whether a row with a repeated key is skipped; otherwise it is a failure.
    """

    def __init__(self, importer: Importer[ItemT], *, columns: Columns, distinct: bool = False) -> None:
        self._importer = importer
        self._columns = columns
        self._distinct = distinct
        self._lines_by_key: dict[bytes, int] = {}

    def import_rows(self, rows: Iterable[Row | BadRow]) -> Iterator[Outcome | Failure]:
        """Import the rows and yield the result of each, in their order.

        Raises: StorekeepError if a failure affects more than one row.
        """
        with ThreadPoolExecutor(CALLS_IN_FLIGHT, thread_name_prefix="import") as pool:
            source = iter(rows)
            while chunk := list(islice(source, CHUNK_ROWS)):
                yield from self._import_chunk(chunk, pool)

    def _import_chunk(self, chunk: Sequence[Row | BadRow], pool: ThreadPoolExecutor) -> list[Outcome | Failure]:
        items = [self._parse(row) for row in chunk]
        valid_items = [item for item in items if not isinstance(item, (Failure, Outcome))]
        write = self._importer.look_up(valid_items) if valid_items else None

        def apply(row: Row | BadRow, item: ItemT | Failure | Outcome) -> Outcome | Failure:
            if isinstance(item, (Failure, Outcome)):
                return item
            return Failure(row.line, "not looked up") if write is None else _apply_write(write, item, line=row.line)

        return list(pool.map(apply, chunk, items))

    def _parse(self, row: Row | BadRow) -> ItemT | Failure | Outcome:
        if isinstance(row, BadRow):
            return Failure(row.line, row.reason)
        try:
            item = self._importer.parse(self._columns.map_row(row))
        except InvalidCell as error:
            return Failure(row.line, str(error))
        return self._check_repeated(item, line=row.line)

    def _check_repeated(self, item: ItemT, *, line: int) -> ItemT | Failure | Outcome:
        key = self._importer.key(item)
        digest = hashlib.blake2b(key.encode(), digest_size=12).digest()
        first_line = self._lines_by_key.setdefault(digest, line)
        if first_line == line:
            return item
        return Outcome.REPEATED if self._distinct else Failure(line, f"{key} is already on line {first_line}")


def _apply_write(write: Callable[[ItemT], Outcome], item: ItemT, *, line: int) -> Outcome | Failure:
    try:
        return write(item)
    except (NotAuthenticated, NotAllowed, ServerError):
        raise
    except (Refused, InvalidCell) as error:
        return Failure(line, str(error))
