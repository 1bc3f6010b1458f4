"""Conversion of times to the messages of the contract."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp


def to_timestamp(time: datetime | None) -> Timestamp | None:
    """Return the message of a time; None for None.

    Raises: ValueError if the time has no time zone, because its instant would depend on the host.
    """
    if time is None:
        return None
    if time.tzinfo is None:
        raise ValueError(f"the time {time} has no time zone")
    message = Timestamp()
    message.FromDatetime(time)
    return message
