"""The well-known types that JSON writes as a string: Timestamp, Duration and FieldMask, both ways."""

from __future__ import annotations

import datetime
import re

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.gateway.invalid_json import InvalidJson, UnwritableMessage, show
from storekeep.gateway.json_scalars import read_string, refuse

EPOCH = datetime.datetime(1970, 1, 1)
SECOND = datetime.timedelta(seconds=1)
NANOS = 1_000_000_000
DURATION_S_MAX = 315_576_000_000
"""10,000 years: the longest Duration."""
TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:Z|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)
DURATION = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?s")
UPPER = re.compile("[A-Z]")
LOWER_AFTER_UNDERSCORE = re.compile("_([a-z])")
MASK_PATHS_MAX = 1_000


def _write_fraction(nanos: int) -> str:
    """Return nanoseconds as 0, 3, 6 or 9 digits after a point."""
    if not nanos:
        return ""
    if nanos % 1_000_000 == 0:
        return f".{nanos // 1_000_000:03}"
    return f".{nanos // 1_000:06}" if nanos % 1_000 == 0 else f".{nanos:09}"


def write_timestamp(value: Timestamp) -> str:
    """Return a time in UTC as RFC 3339.

    Raises: UnwritableMessage if it is before the year 1 or after the year 9999.
    """
    nanos = value.nanos
    try:
        text = (EPOCH + datetime.timedelta(seconds=value.seconds)).isoformat()
    except OverflowError:
        text = ""
    if not text or not 0 <= nanos < NANOS:
        raise UnwritableMessage(f"timestamp of {value.seconds} s and {nanos} ns")
    return f"{text}{_write_fraction(nanos)}Z"


def read_timestamp(message: Timestamp, value: object) -> None:
    """Set a time from RFC 3339, with `Z` or an offset.

    Raises: InvalidJson.
    """
    match = TIME.fullmatch(value) if type(value) is str else None
    if match is None:
        raise refuse(value, "a time such as 2026-01-31T09:30:00Z")
    fraction, sign, hours, minutes = match.group(7, 8, 9, 10)
    try:
        year, month, day, hour, minute, second = map(int, match.group(1, 2, 3, 4, 5, 6))
        time = datetime.datetime(year, month, day, hour, minute, second)
        if sign:
            offset = datetime.timedelta(hours=int(hours), minutes=int(minutes))
            time += -offset if sign == "+" else offset
    except (ValueError, OverflowError):
        raise InvalidJson("", f"there is no such time as {show(value)}") from None
    message.seconds = (time - EPOCH) // SECOND
    message.nanos = int(fraction.ljust(9, "0")) if fraction else 0


def write_duration(value: Duration) -> str:
    """Return a length of time in seconds, such as `1.500s`.

    Raises: UnwritableMessage if it is longer than 10,000 years, or its parts have different signs.
    """
    seconds, nanos = value.seconds, value.nanos
    if abs(seconds) > DURATION_S_MAX or abs(nanos) >= NANOS or seconds * nanos < 0:
        raise UnwritableMessage(f"duration of {seconds} s and {nanos} ns")
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f"{sign}{abs(seconds)}{_write_fraction(abs(nanos))}s"


def read_duration(message: Duration, value: object) -> None:
    """Set a length of time from seconds, such as `1.5s`.

    Raises: InvalidJson.
    """
    match = DURATION.fullmatch(value) if type(value) is str else None
    if match is None:
        raise refuse(value, "a length of time such as 1.5s")
    sign = -1 if match[1] else 1
    seconds, nanos = int(match[2]), int((match[3] or "").ljust(9, "0"))
    if seconds > DURATION_S_MAX or (seconds == DURATION_S_MAX and nanos):
        raise InvalidJson("", f"the length of time is out of range: at most {DURATION_S_MAX}s")
    message.seconds, message.nanos = sign * seconds, sign * nanos


def write_field_mask(value: FieldMask) -> str:
    """Return the paths in lowerCamelCase, separated by commas."""
    return ",".join(LOWER_AFTER_UNDERSCORE.sub(_to_upper, path) for path in value.paths)


def _to_upper(match: re.Match[str]) -> str:
    return match[1].upper()


def _to_snake(match: re.Match[str]) -> str:
    return f"_{match[0].lower()}"


def read_field_mask(message: FieldMask, value: object) -> None:
    """Set the paths from a string with commas between them; each is in lowerCamelCase or in snake_case.

    The server checks the paths, as it knows the resource that they are for.

    Raises: InvalidJson.
    """
    if type(value) is not str:
        raise refuse(value, "a string with field paths")
    paths = value.split(",", MASK_PATHS_MAX) if value else []
    if len(paths) > MASK_PATHS_MAX:
        raise InvalidJson("", f"the mask has more than {MASK_PATHS_MAX} paths")
    message.paths.extend(path if "_" in path else UPPER.sub(_to_snake, path) for path in map(read_string, paths))
