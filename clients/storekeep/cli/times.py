"""Options that take a time."""

from __future__ import annotations

from datetime import UTC, datetime

import typer
from google.protobuf.timestamp_pb2 import Timestamp


def parse_time(text: str) -> Timestamp:
    """Parse a time (ISO 8601), such as `2027-03-01T09:00:00+01:00`. Without an offset it is local time.

    Raises: typer.BadParameter.
    """
    try:
        time = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(f"{text!r} is not a time such as 2027-03-01T09:00:00+01:00") from None
    message = Timestamp()
    message.FromDatetime(time)
    return message
