"""Quantity rules: limits on the units of a SKU in one order or reservation.

They apply to the sum of all lines with the SKU. Rules that no number of units keeps are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from storekeep.server.domain.errors import InvalidField, QuantityNotAllowed

NO_RULES = "null"
"""The stored form of a variant without rules."""


class QuantityRules(msgspec.Struct, frozen=True):
    """The rules of one variant; 0 means that there is no such rule.

    Attributes:
        minimum: the least units.
        maximum: the most units.
        multiple: the units must be a multiple of it.
    """

    minimum: int = 0
    maximum: int = 0
    multiple: int = 0

    def find_broken(self, quantity: int) -> tuple[str, int] | None:
        """Return the first rule that a number of units breaks, and its limit; None if there is none."""
        if quantity < self.minimum:
            return "minimum", self.minimum
        if self.maximum and quantity > self.maximum:
            return "maximum", self.maximum
        if self.multiple and quantity % self.multiple:
            return "multiple", self.multiple
        return None

    def check(self, *, field: str) -> None:
        """Raise unless some number of units keeps all rules.

        Raises: InvalidField.
        """
        if not self.maximum:
            return
        if self.minimum > self.maximum:
            raise InvalidField(f"{field}.maximum", f"it is less than the minimum, {self.minimum}")
        step = self.multiple or 1
        if -(-max(self.minimum, 1) // step) * step > self.maximum:
            raise InvalidField(f"{field}.multiple", "there is no multiple of it from the minimum to the maximum")


_decode = msgspec.json.Decoder(QuantityRules | None).decode


def check_quantities(quantities: Mapping[str, int], rules: Iterable[tuple[str, object]]) -> None:
    """Raise for the first SKU, in alphabetical order, whose units break one of its rules.

    Args:
        quantities: units by SKU.
        rules: (SKU, its stored rules).

    Raises: QuantityNotAllowed.
    """
    for sku, text in sorted((sku, str(text)) for sku, text in rules if text != NO_RULES):
        decoded = _decode(text)
        broken = decoded and decoded.find_broken(quantities[sku])
        if broken:
            raise QuantityNotAllowed(sku, rule=broken[0], limit=broken[1], quantity=quantities[sku])
