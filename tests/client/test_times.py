"""Times are converted with their time zone, or rejected."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from storekeep.client import to_timestamp


def test_time_is_converted_with_its_offset() -> None:
    moment = datetime(2026, 12, 24, 18, tzinfo=timezone(timedelta(hours=1)))
    assert to_timestamp(moment).ToDatetime(UTC) == datetime(2026, 12, 24, 17, tzinfo=UTC)
    assert to_timestamp(None) is None


def test_time_without_a_time_zone_is_rejected() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        to_timestamp(datetime(2026, 12, 24))
