"""The options `--start` and `--end` of resources that hold for a span of time, and percentages."""

from __future__ import annotations

from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.cli.times import parse_time
from storekeep.client import to_timestamp
from storekeep.imports.spellings import ISO

PPM_PER_PERCENT = 10_000
Start = Annotated[str, typer.Option("--start", metavar="TIME", help="When it begins to apply: a date or a time.")]
End = Annotated[str, typer.Option("--end", metavar="TIME", help="When it ceases to apply: a date or a time.")]


def parse_bound(text: str) -> Timestamp | None:
    """Parse a bound of a window; None for an empty text.

    Raises: typer.BadParameter.
    """
    return to_timestamp(parse_time(text)) if text else None


def parse_percentage(text: str, *, maximum: int) -> int:
    """Parse a percentage such as `9.975`, up to a maximum in per cent; return it in millionths.

    Raises: typer.BadParameter.
    """
    try:
        ppm = ISO.parse_decimal(text.removesuffix("%")) * PPM_PER_PERCENT
        if not 0 <= ppm <= maximum * PPM_PER_PERCENT:
            raise typer.BadParameter(f"{text!r} must be a percentage from 0 to {maximum}")
        if ppm != int(ppm):
            raise typer.BadParameter(f"{text!r} has more than four decimal digits")
    except ValueError:
        raise typer.BadParameter(f"{text!r} must be a percentage such as 9.5") from None
    return int(ppm)
