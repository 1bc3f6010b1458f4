"""Checks of amounts that must have one currency."""

from __future__ import annotations

from collections.abc import Iterable

from storekeep.server.domain.errors import CurrencyMismatch, InvalidField
from storekeep.server.domain.money import Money


def check_currency(amounts: Iterable[tuple[str, Money | None]], *, currency_code: str) -> None:
    """Check that all amounts have one currency.

    Args:
        amounts: (request field, amount); None for no amount.

    Raises: CurrencyMismatch for the first other currency.
    """
    for field, amount in amounts:
        if amount is not None and amount.currency_code != currency_code:
            raise CurrencyMismatch(
                field, f"must be in {currency_code}" if currency_code else "set `currency_code`, too"
            )


def check_ascending(thresholds: Iterable[tuple[int, ...]], *, field: str) -> None:
    """Check that thresholds ascend, so that no two apply to the same values.

    Args:
        field: the repeated request field.

    Raises: InvalidField for the first one that is not above the one before.
    """
    last: tuple[int, ...] | None = None
    for index, threshold in enumerate(thresholds):
        if last is not None and threshold <= last:
            raise InvalidField(f"{field}[{index}]", "must begin above the one before")
        last = threshold
