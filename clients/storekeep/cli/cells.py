"""Cells: how values of the contract read on a terminal.

What came from the server is shown as text only: no markup is read, and control characters cannot move the cursor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.client import Money, to_decimal

JOINERS = frozenset("\u200c\u200d")
"""Without a form of their own, but Persian, Hindi and emoji are written with them."""
WHOLE_CURRENCIES = frozenset(
    {"BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"}
)
"""Currencies without a minor unit (ISO 4217): their amounts are shown without decimals."""


def cell(message: Message, field: str) -> str:
    """Return a field of a message as a person reads it; empty when it is absent."""
    descriptor = message.DESCRIPTOR.fields_by_name[field]
    value = getattr(message, field)
    if descriptor.is_repeated:
        return _many(descriptor, value)
    if descriptor.has_presence and not message.HasField(field):
        return ""
    return _one(descriptor, value)


def printable(text: str) -> str:
    """Return `text` with what a terminal would act on, or show as nothing, replaced; line feeds stay."""
    return "".join(char if is_harmless(char) or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def escaped(document: str) -> str:
    """Return a JSON document with escapes for what a terminal would act on: it says the same."""
    if document.isprintable():
        return document
    return "".join(char if is_harmless(char) or char == "\n" else json.dumps(char)[1:-1] for char in document)


def is_harmless(char: str) -> bool:
    """Say whether a terminal shows a character as itself: no control, none that turns the direction of writing."""
    return char.isprintable() or char in JOINERS


def amount(money: Money) -> str:
    """Return an amount with its currency, such as `19.90 EUR`."""
    exact = to_decimal(money)
    exponent = exact.as_tuple().exponent
    decimals = max(0 if money.currency_code in WHOLE_CURRENCIES else 2, -exponent if isinstance(exponent, int) else 0)
    return f"{exact.quantize(Decimal(1).scaleb(-decimals))} {money.currency_code}"


def whole_numbers(document: Any) -> Any:
    """Return a JSON document with 3 in place of 3.0: protobuf's Struct knows only doubles."""
    if isinstance(document, dict):
        return {key: whole_numbers(value) for key, value in document.items()}
    if isinstance(document, list):
        return [whole_numbers(value) for value in document]
    return int(document) if isinstance(document, float) and document.is_integer() else document


def _many(descriptor: Any, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(printable(f"{key}={value[key]}") for key in sorted(value))
    items: Sequence[Any] = value
    return ", ".join(_one(descriptor, item) for item in items)


def _one(descriptor: Any, value: Any) -> str:
    if descriptor.enum_type is not None:
        return _enum_name(descriptor.enum_type, value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Message):
        return _nested(value)
    return printable(str(value))


def _nested(value: Message) -> str:
    if isinstance(value, Money):
        return amount(value)
    if isinstance(value, Timestamp):
        return value.ToDatetime().strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, Struct):
        return printable(json.dumps(whole_numbers(MessageToDict(value)), ensure_ascii=False, sort_keys=True))
    return "\n".join(filter(None, (cell(value, field.name) for field in value.DESCRIPTOR.fields)))


def _enum_name(enum: Any, number: int) -> str:
    known = enum.values_by_number.get(number)
    if known is None:
        return str(number)
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(known.name.removeprefix(prefix))
