"""Between the contract's messages and the domain's values: names, times, money, addresses, masks."""

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
from storekeep.server.domain.money import NANOS, Money, minor_digits, money_of
from storekeep.v1 import addresses_pb2

MICROS = 1_000_000
Fields: TypeAlias = Any
"""A message inside another, as a dictionary of its fields: protobuf would copy one that was made before, which takes
twice as long. The types of the generated classes do not tell that they take one."""


def key_of(name: str) -> tuple[str, ...]:
    """The ids in a resource name: `products/p/variants/v` -> (p, v)."""
    return tuple(name.split("/")[1::2])


def batch_keys(parent: str, names: Iterable[str]) -> list[tuple[str, ...]]:
    """The ids in the names of a batch, which are all below one parent (AIP-231); with `-` for its id, below any.

    Raises: InvalidField, for the first name that is below another.
    """
    parent_id = id_of(parent)
    keys = [key_of(name) for name in names]
    for place, key in enumerate(keys):
        if parent_id not in ("-", key[0]):
            raise InvalidField(f"names[{place}]", f"it is not below {parent}")
    return keys


def id_of(name: str) -> str:
    """The last id in a resource name; empty for an empty name."""
    return name.rpartition("/")[2]


def name_of(collection: str, resource_id: str) -> str:
    """The resource name of an id; empty for an empty id."""
    return f"{collection}/{resource_id}" if resource_id else ""


def timestamp_of(time_us: int) -> Fields:
    """Microseconds since 1970 as the fields of a timestamp."""
    return {"seconds": time_us // MICROS, "nanos": time_us % MICROS * 1000}


def time_us_of(message: Timestamp) -> int:
    """A timestamp as microseconds since 1970; what is finer is cut off."""
    return message.seconds * MICROS + message.nanos // 1000


def optional_timestamp(time_us: int | None) -> Fields | None:
    """As `timestamp_of`; None stays absent."""
    return None if time_us is None else timestamp_of(time_us)


def fill_labels(labels: MutableMapping[str, str], values: Mapping[str, str]) -> None:
    """Fill the labels of a message: one by one they cost half of what they do in its constructor."""
    for name, value in values.items():
        labels[name] = value


def money_message(money: Money) -> Fields:
    """An amount in minor units as the contract writes it."""
    return money_writer(money.currency_code)(money.amount_minor)


@functools.cache
def money_writer(currency_code: str) -> Callable[[int], Fields]:
    """What writes amounts of one currency, in minor units, as the contract does."""
    units_minor = 10 ** minor_digits(currency_code, field="currency_code")
    nanos_minor = NANOS // units_minor

    def write(amount_minor: int) -> Fields:
        units, rest_minor = divmod(amount_minor, units_minor)
        return {"currency_code": currency_code, "units": units, "nanos": rest_minor * nanos_minor}

    return write


def money_from(message: money_pb2.Money, *, field: str) -> Money:
    """An amount as the contract writes it, in minor units.

    Raises: UnknownCurrency, InvalidAmount.
    """
    return money_of(message.currency_code, units=message.units, nanos=message.nanos, field=field)


def address_message(address: Address) -> addresses_pb2.Address:
    """An address as the contract writes it."""
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


def address_from(message: addresses_pb2.Address) -> Address:
    """An address of the contract."""
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


def masked_fields(mask: FieldMask, message: Message, changeable: Mapping[str, str]) -> Sequence[str]:
    """The domain's names of the fields that an update is to change (AIP-134).

    Args:
        mask: what the caller asked for; `*` is all; empty is all that the message sets.
        message: the resource in the request.
        changeable: the contract's name of each field that can be changed -> the domain's name.

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
