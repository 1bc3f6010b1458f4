"""Spellings of numbers and dates in cells. An option states how a file writes them; nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal

DIGITS_MAX = 20
"""Maximum digits before the decimal point, which bounds the cost of a number such as 1E+999999."""
DECIMALS_MAX = 18
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_COMMA_NUMBER = re.compile(r"[+-]?(?:[0-9]+|[0-9]{1,3}(?:[. \u00a0\u202f][0-9]{3})+)(?:,[0-9]*)?")
_GROUP_SIGNS = re.compile(r"[. \u00a0\u202f]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class NumberOutOfRange(ValueError):
    """A number has more digits than any value can have."""


@dataclass(frozen=True)
class Spelling:
    """How a file writes numbers and dates.

    Attributes:
        decimal_comma: whether decimals are after a comma, and a point or space groups thousands: `1.234,50`.
        date_formats: formats of dates (strptime); empty for ISO 8601.
        zone: time zone of dates without one.
    """

    decimal_comma: bool = False
    date_formats: Sequence[str] = ()
    zone: tzinfo = UTC

    def parse_decimal(self, text: str) -> Decimal:
        """Return the exact number of a cell.

        Raises: ValueError with the reason.
        """
        if self.decimal_comma:
            if not _COMMA_NUMBER.fullmatch(text):
                raise ValueError(f"{text!r} is not a number such as 1.234,50")
            return _check_size(text, Decimal(_GROUP_SIGNS.sub("", text).replace(",", ".")))
        if not _NUMBER.fullmatch(text):
            hint = "; with commas before decimals, add --decimal-comma" if _COMMA_NUMBER.fullmatch(text) else ""
            raise ValueError(f"{text!r} is not a number such as 1234.50{hint}")
        return _check_size(text, Decimal(text))

    def parse_integer(self, text: str) -> int:
        """Return the whole number of a cell, which may have decimals that are zeros, such as `12.0`.

        Raises: NumberOutOfRange, ValueError with the reason.
        """
        try:
            number = self.parse_decimal(text)
        except NumberOutOfRange:
            raise
        except ValueError:
            raise ValueError(f"{text!r} is not a whole number") from None
        if number != number.to_integral_value():
            raise ValueError(f"{text!r} is not a whole number")
        return int(number)

    def parse_time_us(self, text: str) -> int:
        """Return a date as microseconds since 1970.

        Raises: ValueError with the reason.
        """
        try:
            moment = self._parse_date(text)
            local = moment if moment.tzinfo is not None else moment.replace(tzinfo=self.zone)
            return (local - _EPOCH) // _MICROSECOND
        except OverflowError:
            raise ValueError(f"{text!r} is not a date in the range of the calendar") from None

    def _parse_date(self, text: str) -> datetime:
        if not self.date_formats:
            try:
                return datetime.fromisoformat(text)
            except ValueError:
                example = "2011-10-06 or 2011-10-06T16:20:00Z; for another format, add --date-format such as %d.%m.%Y"
                raise ValueError(f"{text!r} is not a date such as {example}") from None
        moments = {moment for form in self.date_formats if (moment := _parse_format(text, form)) is not None}
        if len(moments) > 1:
            raise ValueError(f"{text!r} is a different date in each of the formats {', '.join(self.date_formats)}")
        if not moments:
            raise ValueError(f"{text!r} is not a date in the format {' or '.join(self.date_formats)}")
        return moments.pop()


ISO = Spelling()
"""A decimal point, and dates of ISO 8601."""


def check_date_format(form: str) -> str:
    """Return a date format.

    Raises: ValueError if it has no year, month or day, or is not a format of strptime.
    """
    first, second = datetime(2001, 2, 3, tzinfo=UTC), datetime(1999, 12, 28, tzinfo=UTC)
    for moment in (first, second):
        parsed = datetime.strptime(moment.strftime(form), form)
        if parsed.date() != moment.date():
            raise ValueError(f"{form!r} does not state the year, month and day")
    return form


def _parse_format(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form)
    except ValueError:
        return None


def _check_size(text: str, number: Decimal) -> Decimal:
    exponent = number.as_tuple().exponent
    if number and (number.adjusted() >= DIGITS_MAX or not isinstance(exponent, int) or exponent < -DECIMALS_MAX):
        raise NumberOutOfRange(f"{text!r} has too many digits")
    return number if number else Decimal()
