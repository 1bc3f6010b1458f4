"""Order numbers: what people call an order by: read out over the phone, printed on a delivery note.

Invariant: no two orders have the same number, as each is made of its own place in the ledger. Refuses numbers of that
form for orders that come from elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

PLACE = re.compile(r"\{sequence[^}]*\}")


@dataclass(frozen=True)
class OrderNumbers:
    """How the numbers of one installation look.

    Attributes:
        format: of `str.format`, with one place for the whole number `sequence`.
    """

    format: str

    def make(self, sequence: int) -> str:
        """The number of the order that has this place in the ledger."""
        return self.format.format(sequence=sequence)

    def could_make(self, number: str) -> bool:
        """Whether a number looks as if it had been made here; then no order of elsewhere may have it."""
        return self._made.fullmatch(number) is not None

    @cached_property
    def _made(self) -> re.Pattern[str]:
        before, after = PLACE.split(self.format)
        return re.compile(f"{re.escape(before)}[0-9]+{re.escape(after)}")
