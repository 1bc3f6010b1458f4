"""SKUs of other systems that are not SKUs here, such as `TEE/S`, mapped to SKUs by a file that the import keeps.

The file has the columns `theirs` and `ours`. A new SKU is made from the text alone, so a lost file is made again; pairs
in the file take precedence, so that you can choose your own. Names of resources and URLs have only our SKUs.
"""

from __future__ import annotations

import csv
from pathlib import Path

from storekeep.imports.columns import InvalidCell, check_code
from storekeep.imports.ids import SKU, make_sku, parse_sku
from storekeep.imports.records import FileUnreadable
from storekeep.imports.reports import escape_formula
from storekeep.imports.rows import BadRow, Layout, RowReader

COLUMNS = ("theirs", "ours")
THEIRS_CHARS_MAX = 200


class SkuMap:
    """The SKUs of one import. Not thread-safe.

    Args:
        path: the file; None if only valid SKUs are accepted.
        dry_run: whether new pairs are not written.
    """

    def __init__(self, path: Path | None, *, dry_run: bool) -> None:
        """Read the file if it exists.

        Raises: FileUnreadable.
        """
        self._path = path
        self._dry_run = dry_run
        self._ours: dict[str, str] = {}
        self._theirs: dict[str, str] = {}
        if path is not None and path.exists():
            self._read(path)

    def find_or_make(self, text: str) -> str:
        """Return the SKU of a cell. Keep the pair if it is new.

        Raises: InvalidCell.
        """
        if self._path is None or (SKU.fullmatch(text) and text not in self._ours and text not in self._theirs):
            return parse_sku(text)
        sku = self._ours.get(text)
        if sku is None:
            sku = self._make(text)
        return sku

    def _make(self, text: str) -> str:
        check_code(text, target="sku")
        if len(text) > THEIRS_CHARS_MAX:
            raise InvalidCell(f"sku: more than {THEIRS_CHARS_MAX} characters")
        sku = make_sku(text)
        if (taken := self._theirs.get(sku)) is not None:
            raise InvalidCell(f"sku: {text!r} would be {sku}, which {self._path} gives {taken!r}")
        self._add(text, sku)
        if not self._dry_run:
            self._append(text, sku)
        return sku

    def _add(self, theirs: str, ours: str) -> None:
        self._ours[theirs] = ours
        self._theirs[ours] = theirs

    def _read(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                for row in RowReader(file, layout=Layout(delimiter=",", absent=frozenset()), needed=COLUMNS):
                    if isinstance(row, BadRow) or row.cells.keys() != set(COLUMNS):
                        raise FileUnreadable(f"{path} line {row.line}: it must have the cells theirs and ours")
                    theirs, ours = row.cells["theirs"], row.cells["ours"]
                    if not SKU.fullmatch(ours) or theirs in self._ours or ours in self._theirs:
                        raise FileUnreadable(f"{path} line {row.line}: {ours!r} is not a SKU, or a cell is repeated")
                    self._add(theirs, ours)
        except OSError as error:
            raise FileUnreadable(f"{path}: {error.strerror}") from None

    def _append(self, theirs: str, ours: str) -> None:
        assert self._path is not None  # noqa: S101 - set whenever a SKU is made
        try:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                if file.tell() == 0:
                    writer.writerow(COLUMNS)
                writer.writerow([escape_formula(theirs), ours])
        except OSError as error:
            raise FileUnreadable(f"{self._path}: {error.strerror}") from None
