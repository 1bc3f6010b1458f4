"""Runs of an import: rows in chunks, a few concurrent calls, outcomes in the order of the file.

Memory holds one chunk of rows; the keys that detect repeats are on disk. A failed row is reported and the run
continues. An unreachable server or a rejected caller ends the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, Protocol, TypeVar

from storekeep.client import CountBelowCommitted, NotAllowed, NotAuthenticated, Refused, ServerError
from storekeep.imports.columns import Columns, InvalidCell
from storekeep.imports.columns import Values as RowValues
from storekeep.imports.field_names import name_options
from storekeep.imports.row_keys import RowKeys
from storekeep.imports.rows import AnyRow, BadRow, SkippedRow
from storekeep.imports.writes import Outcome

CHUNK_ROWS = 200
"""Rows per chunk, whose resources are looked up together."""

CALLS_IN_FLIGHT = 16
"""Concurrent calls. More would only fill the queue of the server's single writer."""

FAILURES_KEPT_MAX = 1000
"""Failures listed in the summary. Every failure is also reported when it happens."""


ItemT = TypeVar("ItemT")


class Importer(Protocol[ItemT]):
    """Converts rows of one kind to resources and writes them."""

    def parse(self, values: RowValues) -> ItemT:
        """Parse a row. Raises: InvalidCell."""

    def key(self, item: ItemT) -> str:
        """Return the key of an item, which must be unique in a file."""

    def list_shared_cells(self, item: ItemT) -> tuple[str, Mapping[str, str]]:
        """Return the resource of an item, and the cells that all rows of the resource must share."""

    def look_up(self, items: Sequence[ItemT]) -> Callable[[ItemT], Outcome]:
        """Look up the existing resources of a chunk and write what batches can write of it.

        Return a thread-safe function that writes one item, unless that is done, and returns its outcome.
        """


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
        self._keys = RowKeys()

    def import_rows(self, rows: Iterable[AnyRow]) -> Iterator[Outcome | Failure]:
        """Import the rows and yield the result of each, in their order.

        Raises: StorekeepError if a failure affects more than one row.
        """
        try:
            with ThreadPoolExecutor(CALLS_IN_FLIGHT, thread_name_prefix="import") as pool:
                source = iter(rows)
                while chunk := list(islice(source, CHUNK_ROWS)):
                    yield from self._import_chunk(chunk, pool)
        finally:
            self._keys.close()

    def _import_chunk(self, chunk: Sequence[AnyRow], pool: ThreadPoolExecutor) -> list[Outcome | Failure]:
        items = [self._parse(row) for row in chunk]
        valid_items = [item for item in items if not isinstance(item, (Failure, Outcome))]
        write = self._importer.look_up(valid_items) if valid_items else None

        def apply(row: AnyRow, item: ItemT | Failure | Outcome) -> Outcome | Failure:
            if isinstance(item, (Failure, Outcome)):
                return item
            return (
                Failure(row.line, "not looked up") if write is None else self._apply_write(write, item, line=row.line)
            )

        return list(pool.map(apply, chunk, items))

    def _parse(self, row: AnyRow) -> ItemT | Failure | Outcome:
        if isinstance(row, SkippedRow):
            return Outcome.SKIPPED
        if isinstance(row, BadRow):
            return Failure(row.line, row.reason)
        try:
            item = self._importer.parse(self._columns.map_row(row))
        except InvalidCell as error:
            return Failure(row.line, str(error))
        return self._check_repeated(item, line=row.line)

    def _check_repeated(self, item: ItemT, *, line: int) -> ItemT | Failure | Outcome:
        key = self._importer.key(item)
        first_line = self._keys.find_first_line(key, line=line)
        if first_line != line:
            return Outcome.REPEATED if self._distinct else Failure(line, f"{key} is already on line {first_line}")
        owner, cells = self._importer.list_shared_cells(item)
        contradiction = self._keys.find_contradiction(owner, cells, line=line)
        return item if contradiction is None else Failure(line, contradiction)

    def _apply_write(self, write: Callable[[ItemT], Outcome], item: ItemT, *, line: int) -> Outcome | Failure:
        try:
            return write(item)
        except (NotAuthenticated, NotAllowed, ServerError):
            raise
        except CountBelowCommitted as error:
            problem = f"quantity: less than the {error.committed} units that are reserved and allocated"
            return Failure(line, f"{problem}; release or cancel some, or set this stock level by itself")
        except (Refused, InvalidCell) as error:
            return Failure(line, name_options(str(error), self._columns.targets))
