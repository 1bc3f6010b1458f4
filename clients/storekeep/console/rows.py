"""Rows of a form, each with a code and its units. A row that is half filled in is refused, never dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from storekeep.console.requests import BadRequest, Faults, Request


@dataclass(frozen=True)
class Rows:
    """The rows of a form.

    Attributes:
        code: name of the inputs that have a SKU or a barcode, without the number of the row.
        label: label of these inputs, without the number.
        numbers: the numbers of the rows.
        units: name of the inputs that have the units, without the number.
        usual_units: the units in a row that nobody has filled in.
    """

    code: str
    label: str
    numbers: range
    units: str = "units"
    usual_units: str = ""

    @property
    def labels(self) -> Mapping[str, str]:
        """Label of each input by its name. People count rows from 1."""
        names = ((self.code, self.label), (self.units, "Units"))
        first = self.numbers.start
        return {f"{name}.{row}": f"{label} {row - first + 1}" for name, label in names for row in self.numbers}

    def list_filled(self, request: Request) -> list[int]:
        """Return the numbers of the rows with a code."""
        return [row for row in self.numbers if request.field(f"{self.code}.{row}")]

    def read(self, request: Request, faults: Faults, *, required: bool = True) -> list[tuple[int, str, int]]:
        """Return (row, code, units) of each row with a code; keep what is wrong with rows in `faults`.

        Args:
            required: whether a form without a row is wrong.
        """
        found: list[tuple[int, str, int]] = []
        with faults.collect():
            self._refuse_other_rows(request)
        for row in self.numbers:
            code, units = f"{self.code}.{row}", f"{self.units}.{row}"
            if not request.field(code):
                with faults.collect():
                    self._refuse_units_alone(request, row)
                continue
            with faults.collect():
                found.append((row, request.field(code), request.number(units, label=self.labels[units])))
        with faults.collect():
            if required and not self.list_filled(request):
                first = f"{self.code}.{self.numbers.start}"
                raise BadRequest(f"{self.labels[first]}: enter at least one.", field=first)
        return found

    def _refuse_units_alone(self, request: Request, row: int) -> None:
        if request.field(f"{self.units}.{row}") not in ("", self.usual_units):
            code = f"{self.code}.{row}"
            raise BadRequest(f"{self.labels[code]}: enter what the units are of, or remove the units.", field=code)

    def _refuse_other_rows(self, request: Request) -> None:
        """Refuse rows beyond the last one. Raises: BadRequest."""
        for name in request.form:
            column, _, _ = name.rpartition(".")
            if column in (self.code, self.units) and name not in self.labels and request.field(name):
                raise BadRequest(
                    f"There are at most {len(self.numbers)} rows.", field=f"{self.code}.{self.numbers[-1]}"
                )
