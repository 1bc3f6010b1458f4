"""Text of field values in tables.

Values from the server are shown as plain text: markup is not interpreted and control characters are replaced.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.cli.outputs import is_map
from storekeep.cli.texts import escape_document, replace_unprintable
from storekeep.client import Money
from storekeep.client.money import format_decimals

ORDER_CHANGE = "storekeep.v1.OrderFieldChange"
"""Full name of a change of an order, which is compared by name so that no command has to load it."""
PPM_SUFFIX = "_ppm"
"""End of the names of fields that are parts per million. Tables show them in percent."""
PPM_OF_PERCENT = 10_000
LIMIT_PREFIX = "max_"
"""Beginning of the names of limits, such as the uses of a coupon, of which 0 is none."""
NO_LIMIT = "no limit"
LAST_STATUS = "last_status"
"""The HTTP status of the last reply to a webhook, of which 0 is none."""


def format_cell(message: Message, field: str) -> str:
    """Return the text of a field of a message, empty if the field is absent.

    The `state` also says whether a resource is deleted or on hold, and whether an API key still works.
    """
    fields = message.DESCRIPTOR.fields_by_name
    if field == "state":
        return _format_state(message)
    descriptor = fields[field]
    value = getattr(message, field)
    if descriptor.is_repeated:
        return _format_many(descriptor, value)
    if descriptor.has_presence and not message.HasField(field):
        return ""
    if field.startswith(LIMIT_PREFIX) and value == 0:
        return NO_LIMIT
    if field == LAST_STATUS and value == 0:
        return ""
    return _format_one(descriptor, value)


def format_path(message: Message, path: str) -> str:
    """Return the text of a field that may be nested, as `customer`, `shipping_address.locality` or `labels.KEY`.

    Of repeated fields, as in `lines.sku`, it is all values with commas between them.
    """
    name, _, rest = path.partition(".")
    if not rest:
        return format_cell(message, name)
    field = message.DESCRIPTOR.fields_by_name[name]
    value = getattr(message, name)
    if isinstance(value, Mapping):
        return _format_line(value[rest]) if rest in value else ""
    if field.is_repeated:
        return ", ".join(format_path(item, rest) for item in value)
    if field.has_presence and not message.HasField(name):
        return ""
    return format_path(value, rest)


def format_csv_path(message: Message, path: str) -> str:
    """Return the text of a field as `format_path` does, but JSON of messages whose values need labels.

    These are repeated messages, such as order lines, and messages with several amounts, such as the details of a price.
    """
    field = message.DESCRIPTOR.fields_by_name.get(path)
    if field is not None and path.startswith(LIMIT_PREFIX):
        return str(getattr(message, path))
    if field is None or field.message_type is None or is_map(field):
        return format_path(message, path)
    if not field.is_repeated:
        is_json = _has_amounts(field.message_type) and message.HasField(path)
        return _format_json(getattr(message, path)) if is_json else format_path(message, path)
    if field.message_type is Money.DESCRIPTOR or _is_order_change(field.message_type):
        return format_path(message, path)
    from google.protobuf.json_format import MessageToDict

    items = [MessageToDict(item, always_print_fields_with_no_presence=True) for item in getattr(message, path)]
    return json.dumps(restore_integers(items), ensure_ascii=False)


def _has_amounts(message_type: Any) -> bool:
    return sum(field.message_type is Money.DESCRIPTOR for field in message_type.fields) > 1


def _format_json(message: Message) -> str:
    from google.protobuf.json_format import MessageToDict

    document = MessageToDict(message, always_print_fields_with_no_presence=True)
    return json.dumps(restore_integers(document), ensure_ascii=False)


def _format_state(message: Message) -> str:
    fields = message.DESCRIPTOR.fields_by_name
    if "delete_time" in fields and message.HasField("delete_time"):
        return "DELETED"
    if "revoke_time" in fields:
        return _format_key_state(message)
    state = _format_one(fields["state"], getattr(message, "state"))  # noqa: B009 - a Message has no such attribute
    return f"{state}, on hold" if "held" in fields and getattr(message, "held", False) else state


def _format_key_state(key: Any) -> str:
    """Return the state of an API key by the clock of this machine."""
    if key.HasField("revoke_time"):
        return "REVOKED"
    is_expired = key.HasField("expire_time") and key.expire_time.ToNanoseconds() <= time.time_ns()
    return "EXPIRED" if is_expired else "ACTIVE"


def format_amount(money: Money) -> str:
    """Return the text of an amount with its currency, such as `19.90 EUR`."""
    return f"{format_decimals(money)} {money.currency_code}"


def format_percent(ppm: int) -> str:
    """Return the text of a share in parts per million, such as `8.875 %`."""
    return f"{(Decimal(ppm) / PPM_OF_PERCENT).normalize():f} %"


def restore_integers(document: Any) -> Any:
    """Return a JSON document with integers such as 3 for 3.0, because protobuf's Struct has only doubles."""
    if isinstance(document, dict):
        return {key: restore_integers(value) for key, value in document.items()}
    if isinstance(document, list):
        return [restore_integers(value) for value in document]
    return int(document) if isinstance(document, float) and document.is_integer() else document


def _format_many(descriptor: Any, value: Any) -> str:
    if isinstance(value, Mapping) and descriptor.message_type.fields_by_name["value"].message_type:
        return "\n".join(f"{key}: {_format_line(value[key])}" for key in sorted(value))
    if isinstance(value, Mapping):
        return ", ".join(replace_unprintable(f"{key}={value[key]}") for key in sorted(value))
    items: Sequence[Any] = value
    if _is_order_change(descriptor.message_type):
        return "\n".join(_format_one(descriptor, item) for item in items)
    return ", ".join(_format_one(descriptor, item).replace("\n", " ") for item in items)


def _format_line(value: Any) -> str:
    """Return the text of a value of a map, such as of translations, on one line."""
    text = _format_message(value) if isinstance(value, Message) else replace_unprintable(str(value))
    return text.replace("\n", "; ")


def _format_one(descriptor: Any, value: Any) -> str:
    if descriptor.enum_type is not None:
        return _format_enum(descriptor.enum_type, value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Message):
        return _format_message(value)
    return replace_unprintable(str(value))


def _is_order_change(message_type: Any) -> bool:
    return message_type is not None and message_type.full_name == ORDER_CHANGE


def _format_message(value: Any) -> str:
    if isinstance(value, Money):
        return format_amount(value)
    if isinstance(value, AnyMessage):
        return format_any(value)
    if isinstance(value, Timestamp):
        return value.ToDatetime().strftime("%Y-%m-%d %H:%M:%SZ")
    if _is_order_change(value.DESCRIPTOR):
        old, new = (text or "(none)" for text in (value.old_value, value.new_value))
        return replace_unprintable(f"{value.field}: {old} -> {new}")
    if isinstance(value, Struct):
        from google.protobuf.json_format import MessageToDict

        document = restore_integers(MessageToDict(value))
        return replace_unprintable(json.dumps(document, ensure_ascii=False, sort_keys=True))
    fields = value.DESCRIPTOR.fields
    names = [field.name for field in fields]
    if all(
        field.enum_type is None and type(getattr(value, field.name)) is int for field in fields
    ):  # such as quantity rules: 0 is no rule
        return ", ".join(f"{name.replace('_', ' ')} {getattr(value, name)}" for name in names if getattr(value, name))
    return "\n".join(filter(None, (_format_part(value, name) for name in names)))


def _format_part(message: Message, field: str) -> str:
    """Return the text of a field inside of a message: a share in percent, and numbers and flags, unless 0, by name."""
    value = getattr(message, field)
    is_number = message.DESCRIPTOR.fields_by_name[field].enum_type is None and isinstance(value, int)
    if not is_number:
        return format_cell(message, field)
    if field.endswith(PPM_SUFFIX):
        return format_percent(value) if value else ""
    name = field.replace("_", " ")
    return (name if value is True else f"{name} {value}") if value else ""


def format_any(value: AnyMessage, *, indent: int | None = None) -> str:
    """Return the message in an Any as JSON, on one line by default; its type if this release does not know it."""
    from google.protobuf.json_format import MessageToDict

    try:
        document = MessageToDict(value)
    except TypeError:
        return f"{replace_unprintable(value.type_url)}, {len(value.value)} bytes"
    document.pop("@type", None)
    return escape_document(json.dumps(restore_integers(document), ensure_ascii=False, indent=indent))


def _format_enum(enum: Any, number: int) -> str:
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    if number == 0:
        return ""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(value.name.removeprefix(prefix))
