"""Times on the command line: dates, times, and the option `--since`, which also takes an age."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from storekeep.client import to_timestamp

Since = Annotated[
    str,
    typer.Option("--since", metavar="TIME", help="Only newer ones than a date, a time, or an age such as 30m or 7d."),
]
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
"""Unit of an age -> argument of `timedelta`."""
AGE = re.compile(r"([0-9]{1,6})([smhdw])", re.ASCII)


def build_since_filter(text: str) -> str:
    """Return the filter of `--since`, empty if the option is not given.

    Raises: typer.BadParameter.
    """
    since = parse_since(text)
    return "" if since is None else f'create_time >= "{since.astimezone(UTC).isoformat().replace("+00:00", "Z")}"'


def parse_since(text: str) -> datetime | None:
    """Return the time of `--since`; None if the option is not given.

    Raises: typer.BadParameter.
    """
    if not text:
        return None
    return parse_time_or_age(text)


def parse_time_or_age(text: str) -> datetime:
    """Parse a date, a time, or how long ago it was, such as `30m`.

    Raises: typer.BadParameter.
    """
    age = AGE.fullmatch(text.strip().lower())
    try:
        return _subtract(int(age[1]), UNITS[age[2]]) if age else parse_time(text.strip())
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is too long ago") from None
    except typer.BadParameter:
        raise typer.BadParameter(
            f"{text!r} is neither a date, a time such as 2026-12-24T18:00+01:00, nor an age such as 30m or 7d"
        ) from None


def parse_time(text: str) -> datetime:
    """Parse a date, or a time with its offset from UTC (RFC 3339). A date is its midnight in the host's time zone.

    Raises: typer.BadParameter.
    """
    try:
        time = datetime.fromisoformat(text)
        time = time.astimezone() if len(text) == len("2026-12-24") else time
        to_timestamp(time)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is neither a date nor a time such as 2026-12-24T18:00+01:00") from None
    return time


def _subtract(count: int, unit: str) -> datetime:
    return datetime.now(UTC) - timedelta(**{unit: count})
