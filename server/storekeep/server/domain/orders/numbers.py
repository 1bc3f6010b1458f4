"""Order numbers: short identifiers for people, read out over the phone or printed on a delivery note.

Invariant: no two orders have the same number, because each number contains the order's own ledger sequence. Imported
orders cannot have a number in this format.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

SEQUENCE_FIELD = re.compile(r"\{sequence[^}]*\}")


@dataclass(frozen=True)
class OrderNumbers:
    """The number format of one installation.

    Attributes:
        format: a `str.format` template with one integer field, `sequence`.
    """

    format: str

    def make(self, sequence: int) -> str:
        """Return the number of the order with this ledger sequence."""
        return self.format.format(sequence=sequence)

    def matches_format(self, number: str) -> bool:
        """Return whether a number is in this format, and so reserved for orders placed here."""
        return self._pattern.fullmatch(number) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        before, after = SEQUENCE_FIELD.split(self.format)
        return re.compile(f"{re.escape(before)}[0-9]+{re.escape(after)}")
