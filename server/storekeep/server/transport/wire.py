"""Fields of protobuf messages as bytes, for messages that are made too often to build them as objects.

See https://protobuf.dev/programming-guides/encoding/. Values are texts, messages and whole numbers of 64 bits.
"""

from __future__ import annotations

import functools

VARINT, LENGTH = 0, 2
"""Types of fields on the wire."""
ONE_BYTE_MAX = 127
"""The largest number whose varint has one byte."""
SHORT_BITS = 14
SHORT_MAX = 1 << SHORT_BITS
"""Numbers below this have at most two bytes. They are the sizes of almost all messages and texts."""
SHORT = tuple(
    bytes((number,)) if number <= ONE_BYTE_MAX else bytes((number & ONE_BYTE_MAX | ONE_BYTE_MAX + 1, number >> 7))
    for number in range(SHORT_MAX)
)
"""Their varints. A field with a short value is joined as tag, `SHORT` of its size and value: three fields take 0.19 us
in place of 0.52 with `write_bytes` (2026-11-30)."""
CONTINUED = tuple(
    bytes((number & ONE_BYTE_MAX | ONE_BYTE_MAX + 1, number >> 7 | ONE_BYTE_MAX + 1)) for number in range(SHORT_MAX)
)
"""The first two bytes of longer varints, by the lowest 14 bits of the number."""
UINT64_MAX = (1 << 64) - 1
MICROS = 1_000_000
NANOS_PER_MICRO = 1_000
TIMES_CACHED = 256
"""Encoded times that are cached. A change, its event and what it creates have the same time."""


def make_tag(field: int, kind: int) -> bytes:
    """Return the bytes before the value of a field."""
    return write_varint(field << 3 | kind)


def write_varint(number: int) -> bytes:
    """Return the varint of a whole number of 64 bits; one below 0 takes ten bytes, as in protobuf."""
    if 0 <= number < SHORT_MAX:
        return SHORT[number]
    number &= UINT64_MAX
    encoded = b""
    while number >= SHORT_MAX:
        encoded += CONTINUED[number & SHORT_MAX - 1]
        number >>= SHORT_BITS
    return encoded + SHORT[number]


def write_bytes(tag: bytes, value: bytes) -> bytes:
    """Return a field with a message or a text, given as bytes."""
    size = len(value)
    return tag + (SHORT[size] if size < SHORT_MAX else write_varint(size)) + value


def write_text(tag: bytes, text: str) -> bytes:
    """Return a field with a text; nothing if it is empty."""
    return write_bytes(tag, text.encode()) if text else b""


@functools.lru_cache(TIMES_CACHED)
def encode_time(time_us: int) -> bytes:
    """Return a `google.protobuf.Timestamp`, given microseconds since 1970; before 1970 they are below 0."""
    seconds, micros = divmod(time_us, MICROS)
    encoded = _encode_seconds(seconds)
    return encoded + _SECOND_NUMBER + write_varint(micros * NANOS_PER_MICRO) if micros else encoded


@functools.lru_cache(TIMES_CACHED)
def _encode_seconds(seconds: int) -> bytes:
    return _FIRST_NUMBER + write_varint(seconds)


_FIRST_NUMBER, _SECOND_NUMBER = make_tag(1, VARINT), make_tag(2, VARINT)
