"""Taxes of other systems by name, as one cell: `GST 5%=1.05; QST 9.975%=2.09`. Refuses what it cannot read back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from storekeep.client.money import parse_amount, to_decimal
from storekeep.imports.columns import InvalidCell

NAME_CHARS_MAX = 100
TAXES_MAX = 20
"""The most taxes of a line or of a shipping."""
RATE_PPM_MAX = 10_000_000
PERCENT_PPM = 10_000
DEFAULT_NAME = "Tax"
"""The name of a tax of which the file has the rate only."""
_PERCENT = re.compile(r"[0-9]{1,4}(?:[.,][0-9]{1,6})?\Z")
_PERCENT_CHARS_MAX = len("1234.567890")


class NamedTax(NamedTuple):
    """A tax in major units. `rate_ppm` is 0 if the rate is not known."""

    name: str
    rate_ppm: int
    amount: Decimal


def split_rate(title: str) -> tuple[str, int]:
    """Return the name and the rate in a title such as `VAT 19%`. A title without a rate is a name."""
    title = " ".join(title.replace(";", " ").replace("=", " ").split())
    before, percent_sign, after = title.rpartition("%")
    before = before.removesuffix(" ")
    # Only the end is searched: the whole title may be as long as a cell, and each of its places would be tried.
    match = _PERCENT.search(before, max(len(before) - _PERCENT_CHARS_MAX, 0)) if after in ("", ")") else None
    if not percent_sign or match is None:
        return title[:NAME_CHARS_MAX] or DEFAULT_NAME, 0
    name = before[: match.start()].rstrip(" (")[:NAME_CHARS_MAX] or DEFAULT_NAME
    return name, read_percent(match[0])


def read_percent(text: str) -> int:
    """Return a rate in percent, such as `19` or `9,975`, in millionths; 0 if it is no rate."""
    if not _PERCENT.match(text):
        return 0
    return min(int(Decimal(text.replace(",", ".")) * PERCENT_PPM), RATE_PPM_MAX)


def format_taxes(taxes: Iterable[NamedTax]) -> str:
    """Return taxes as one cell."""
    return "; ".join([f"{tax.name}{_format_rate(tax.rate_ppm)}={tax.amount:f}" for tax in taxes])


def _format_rate(rate_ppm: int) -> str:
    return f" {(Decimal(rate_ppm) / PERCENT_PPM).normalize():f}%" if rate_ppm else ""


def parse_taxes(text: str, *, target: str) -> list[NamedTax]:
    """Return the taxes of a cell.

    Raises: InvalidCell.
    """
    taxes = [_parse_tax(part, target) for part in text.split(";") if part.strip()]
    if len(taxes) > TAXES_MAX:
        raise InvalidCell(f"{target}: more than {TAXES_MAX} taxes")
    return taxes


def _parse_tax(part: str, target: str) -> NamedTax:
    title, _, amount_text = part.rpartition("=")
    try:
        amount = parse_amount(amount_text.strip())
    except ValueError:
        amount = None
    if amount is None or amount.currency_code or not title.strip():
        raise InvalidCell(f"{target}: {part.strip()[:60]!r} is not a tax such as `VAT 19%=3.80`")
    return NamedTax(*split_rate(title), to_decimal(amount))
