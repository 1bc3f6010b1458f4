"""Conversion of resource names, times, money, addresses and update masks between messages and domain values."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, TypeAlias

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type import money_pb2

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.errors import InvalidField, InvalidUpdateMask
from storekeep.server.domain.money import NANOS, Money, get_minor_digits, parse_money
from storekeep.server.domain.standard.resources import MICROS
from storekeep.v1 import addresses_pb2

Fields: TypeAlias = Any
"""The fields of a nested message, as a dictionary: protobuf copies nested messages, which takes twice as long. The
types of the generated classes do not declare that they accept dictionaries."""
EncodedReply: TypeAlias = Any
"""A reply as bytes, which the transport sends as they are. The types of the generated classes declare only messages."""


def parse_key(name: str) -> tuple[str, ...]:
    """Parse the ids in a resource name: `products/p/variants/v` -> (p, v)."""
    return tuple(name.split("/")[1::2])


def parse_batch_keys(parent: str, names: Iterable[str]) -> list[tuple[str, ...]]:
    """Parse the ids in the names of a batch request (AIP-231).

    Args:
        parent: Parent of all names; the id `-` accepts any parent.
        names: Resource names.

    Raises: InvalidField for the first name with another parent.
    """
    parent_id = parse_id(parent)
    keys = [parse_key(name) for name in names]
    for index, key in enumerate(keys):
        if parent_id not in ("-", key[0]):
            raise InvalidField(f"names[{index}]", f"must have the parent {parent}")
    return keys


def parse_id(name: str) -> str:
    """Parse the last id in a resource name; empty for an empty name."""
    return name.rpartition("/")[2]


def format_name(collection: str, resource_id: str) -> str:
    """Return the resource name of an id; empty for an empty id."""
    return f"{collection}/{resource_id}" if resource_id else ""


def build_timestamp(time_us: int) -> Fields:
    """Build a timestamp from microseconds since 1970."""
    return {"seconds": time_us // MICROS, "nanos": time_us % MICROS * 1000}


def parse_time_us(message: Timestamp) -> int:
    """Return a timestamp as microseconds since 1970, truncated."""
    return message.seconds * MICROS + message.nanos // 1000


def build_optional_timestamp(time_us: int | None) -> Fields | None:
    """Build a timestamp from microseconds since 1970; None for None."""
    return None if time_us is None else build_timestamp(time_us)


def fill_labels(labels: MutableMapping[str, str], values: Mapping[str, str]) -> None:
    """Set the labels of a message one by one, which costs half as much as in its constructor."""
    for name, value in values.items():
        labels[name] = value


def build_money(money: Money) -> Fields:
    """Build the message of an amount."""
    return make_money_builder(money.currency_code)(money.amount_minor)


@functools.cache
def make_money_builder(currency_code: str) -> Callable[[int], Fields]:
    """Return a function that builds the message of an amount of one currency, in minor units."""
    units_minor = 10 ** get_minor_digits(currency_code, field="currency_code")
    nanos_minor = NANOS // units_minor

    def build(amount_minor: int) -> Fields:
        units, rest_minor = divmod(amount_minor, units_minor)
        return {"currency_code": currency_code, "units": units, "nanos": rest_minor * nanos_minor}

    return build


def parse_money_message(message: money_pb2.Money, *, field: str) -> Money:
    """Parse an amount.

    Raises: UnknownCurrency, InvalidAmount.
    """
    return parse_money(message.currency_code, units=message.units, nanos=message.nanos, field=field)


def build_address(address: Address) -> addresses_pb2.Address:
    """Build the message of an address."""
    return addresses_pb2.Address(
        recipient=address.recipient,
        organization=address.organization,
        address_lines=address.address_lines,
        locality=address.locality,
        administrative_area=address.administrative_area,
        postal_code=address.postal_code,
        region_code=address.region_code,
        phone=address.phone,
    )


def parse_address(message: addresses_pb2.Address) -> Address:
    """Parse an address."""
    return Address(
        recipient=message.recipient,
        organization=message.organization,
        address_lines=tuple(message.address_lines),
        locality=message.locality,
        administrative_area=message.administrative_area,
        postal_code=message.postal_code,
        region_code=message.region_code,
        phone=message.phone,
    )


def parse_update_mask(mask: FieldMask, message: Message, changeable: Mapping[str, str]) -> Sequence[str]:
    """Return the domain's names of the fields that an update changes (AIP-134).

    Args:
        mask: Update mask; `*` means all fields, empty means all fields that the message sets.
        message: Resource in the request.
        changeable: Mapping of each changeable field's name in the contract to its name in the domain.

    Raises: InvalidUpdateMask.
    """
    paths: Iterable[str] = mask.paths
    if not mask.paths:
        paths = [descriptor.name for descriptor, _ in message.ListFields() if descriptor.name in changeable]
    elif list(mask.paths) == ["*"]:
        paths = changeable
    for path in paths:
        if path not in changeable:
            raise InvalidUpdateMask(path, allowed=tuple(changeable))
    return [changeable[path] for path in paths]
