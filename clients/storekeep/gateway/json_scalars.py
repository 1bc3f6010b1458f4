"""Convert single JSON values to the values of scalar fields. Each reader refuses another type and a value out of range.

Strings stand for 64-bit integers and, in queries, for every type.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from storekeep.gateway.invalid_json import InvalidJson, show
from storekeep.gateway.json_texts import NumberText

ReadScalar = Callable[[Any], Any]
INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,20})")
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,9})?")
NUMBER_CHARS_MAX = 400
"""Characters of a number: more than any double needs, and cheap to convert."""
DIGITS_MAX = 20
"""Digits before the decimal point of a 64-bit integer, at most."""
FLOAT_MAX = (2 - 2**-23) * 2.0**127
"""The largest finite number of 32 bits."""
NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
TO_STANDARD = str.maketrans("-_", "+/")


def refuse(value: object, expected: str) -> InvalidJson:
    """Return the error for a value of the wrong type."""
    return InvalidJson("", f"expected {expected}, not {_name_type(value)}")


def _name_type(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, NumberText | int):
        return f"the number {show(value)}"
    if isinstance(value, str):
        return f"the string {show(repr(str(value)))}"
    return "an object" if isinstance(value, dict) else "a list"


def read_string(value: Any) -> str:
    """Return a text.

    Raises: InvalidJson if it is no string, or cannot be written as UTF-8.
    """
    if type(value) is not str:
        raise refuse(value, "a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidJson("", "the string has half of a surrogate pair") from None
    return value


def read_bool(value: Any) -> bool:
    """Return true or false.

    Raises: InvalidJson.
    """
    if type(value) is not bool:
        raise refuse(value, "true or false")
    return value


def read_bytes(value: Any) -> bytes:
    """Return the bytes of base64 with the standard or the URL alphabet, with or without padding.

    Raises: InvalidJson.
    """
    if type(value) is not str:
        raise refuse(value, "a string of base64")
    text = value.rstrip("=").translate(TO_STANDARD)
    padding = -len(text) % 4
    if padding < 3 and len(value) - len(text) in (0, padding):
        try:
            return base64.b64decode(text + "=" * padding, validate=True)
        except (binascii.Error, ValueError):
            pass
    raise InvalidJson("", "the string is not base64")


def make_integer_reader(*, bits: int, signed: bool) -> ReadScalar:
    """Return the reader of an integer type: a number, or a string of one; `1.0` and `1e2` are integers too."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)

    def read_integer(value: Any) -> int:
        if type(value) is not int:
            value = _parse_integer(value)
        if low <= value <= high:
            return value  # type: ignore[no-any-return]
        raise InvalidJson("", f"the number is out of range: {low} to {high}")

    return read_integer


def _parse_integer(value: Any) -> int:
    """Return the integer that a text stands for.

    Raises: InvalidJson.
    """
    if not isinstance(value, str):
        raise refuse(value, "an integer")
    if INTEGER.fullmatch(value):
        return int(value)
    if len(value) > NUMBER_CHARS_MAX or not NUMBER.fullmatch(value):
        raise refuse(value, "an integer")
    number = Decimal(value)
    if number and number.adjusted() >= DIGITS_MAX:
        raise InvalidJson("", "the number is out of range")
    if number and (number.adjusted() < 0 or number != number.to_integral_value()):
        raise refuse(value, "an integer")
    return int(number)


def make_float_reader(*, limit: float) -> ReadScalar:
    """Return the reader of a floating-point type: a number, a string of one, or the string `NaN` or `Infinity`."""

    def read_float(value: Any) -> float:
        if type(value) is str and value in NON_FINITE:
            return NON_FINITE[value]
        number = parse_float(value)
        if abs(number) > limit:
            raise InvalidJson("", "the number is out of range")
        return number

    return read_float


def parse_float(value: Any) -> float:
    """Return a number as a double.

    Raises: InvalidJson if it is no number or too large.
    """
    if type(value) is int or (isinstance(value, str) and len(value) <= NUMBER_CHARS_MAX and NUMBER.fullmatch(value)):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isinf(number):
            raise InvalidJson("", "the number is out of range")
        return number
    raise refuse(value, "a number")


def make_enum_reader(enum: EnumDescriptor) -> ReadScalar:
    """Return the reader of an enum: the name of a value, or its number, known or not."""
    numbers = {value.name: value.number for value in enum.values}
    read_number = READERS[FieldDescriptor.TYPE_INT32]

    def read_enum(value: Any) -> int:
        if type(value) is str:
            number = numbers.get(value)
            if number is None:
                raise InvalidJson("", f"{enum.name} has no value {show(repr(value))}")
            return number
        return read_number(value)  # type: ignore[no-any-return]

    return read_enum


_INT32 = make_integer_reader(bits=32, signed=True)
_INT64 = make_integer_reader(bits=64, signed=True)
_UINT32 = make_integer_reader(bits=32, signed=False)
_UINT64 = make_integer_reader(bits=64, signed=False)
READERS: dict[int, ReadScalar] = {
    FieldDescriptor.TYPE_BOOL: read_bool,
    FieldDescriptor.TYPE_BYTES: read_bytes,
    FieldDescriptor.TYPE_DOUBLE: make_float_reader(limit=math.inf),
    FieldDescriptor.TYPE_FIXED32: _UINT32,
    FieldDescriptor.TYPE_FIXED64: _UINT64,
    FieldDescriptor.TYPE_FLOAT: make_float_reader(limit=FLOAT_MAX),
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_INT64: _INT64,
    FieldDescriptor.TYPE_SFIXED32: _INT32,
    FieldDescriptor.TYPE_SFIXED64: _INT64,
    FieldDescriptor.TYPE_SINT32: _INT32,
    FieldDescriptor.TYPE_SINT64: _INT64,
    FieldDescriptor.TYPE_STRING: read_string,
    FieldDescriptor.TYPE_UINT32: _UINT32,
    FieldDescriptor.TYPE_UINT64: _UINT64,
}
"""The reader of each scalar type; enums have one of their own."""


def make_reader(field: FieldDescriptor) -> ReadScalar:
    """Return the reader of one value of a scalar or enum field."""
    return make_enum_reader(field.enum_type) if field.enum_type is not None else READERS[field.type]
