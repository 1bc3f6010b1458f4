"""Numbers and times on the wire are those that protobuf reads, also below 0 and at the limits of 64 bits."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

from storekeep.server.transport.wire import LENGTH, SHORT_MAX, VARINT, encode_time, make_tag, write_bytes, write_varint

NUMBERS = (0, 1, 127, 128, 16_383, 16_384, 2**31, 2**63 - 1, -1, -128, -16_384, -16_385, -(2**63))


@pytest.mark.parametrize("number", NUMBERS)
def test_number_is_read_as_it_was_written(number: int) -> None:
    assert Int64Value.FromString(make_tag(1, VARINT) + write_varint(number)).value == number


@pytest.mark.parametrize("time_us", [-2_208_988_800_000_000, -1_500_000, -1, 0, 1, 1_800_000_000_123_456])
def test_time_is_read_as_it_was_written(time_us: int) -> None:
    assert Timestamp.FromString(encode_time(time_us)).ToMicroseconds() == time_us


@pytest.mark.parametrize("size", [0, 1, 127, 128, SHORT_MAX - 1, SHORT_MAX, 20_000])
def test_text_of_any_size_is_read_as_it_was_written(size: int) -> None:
    assert StringValue.FromString(write_bytes(make_tag(1, LENGTH), b"x" * size)).value == "x" * size
