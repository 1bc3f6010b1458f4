"""What is wrong with a request: the first few violations of the contract's constraints, at a cost that they bound.

The validator makes an object for each violation, so a message with thousands of bad elements is not given to it whole.
Most requests are right, and are looked at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

import protovalidate
from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from storekeep.server.interceptors.patterns import describe_pattern

VIOLATIONS_MAX = 20
"""How many are reported: who has more repairs these first, and a status has no room for more."""
ASKED = frozenset({"currency_code", "etag", "filter", "order_by", "page_token", "query", "update_mask"})
"""Fields whose text is read and not kept: what they may be has errors of its own."""
NANOS_MAX = 999_999_999
DURATION_SECONDS_MAX = 315_576_000_000
TIMESTAMP_SECONDS_MIN, TIMESTAMP_SECONDS_MAX = -62_135_596_800, 253_402_300_799
TIMES = frozenset({"google.protobuf.Duration", "google.protobuf.Timestamp"})

Violation = tuple[str, str]
"""The path of a field, as `lines[0].sku`, and what is wrong with it."""


def _any(_field: str) -> bool:
    return True


class Violations:
    """Finds the first violations of messages of one type; safe in any thread.

    Args:
        descriptor: of the type.
        validator: may be shared.
    """

    def __init__(self, descriptor: Any, validator: protovalidate.Validator) -> None:
        self._validator = validator
        self._times = _times_of(descriptor)

    def find(self, message: Message, *, has_null: bool, matters: Callable[[str], bool] = _any) -> list[Violation]:
        """At most `VIOLATIONS_MAX` of them, those of elements after those of the messages that hold them.

        Args:
            has_null: whether its bytes have a null byte: most have none; in others it may also be part of a number.
            matters: whether a violation of the field with this path is one.
        """
        found: list[Violation] = []
        first = self._validator.collect_violations(message, fail_fast=True)
        are_times = self._times is None or _are_times(message, self._times)
        if not (first or has_null) and are_times:
            return found
        if first:
            self._add(found, self._of(message, ""), matters)
        if not found:  # none can be missed, however the parts are looked at
            self._add(found, map(_described, first), matters)
        if has_null:
            nulls = ((path, "text must not have the character U+0000") for path in _texts_with_null(message, ""))
            self._add(found, nulls, matters)
        if not are_times:
            self._add(found, _odd_times(message, ""), matters)
        return found

    @staticmethod
    def _add(found: list[Violation], more: Iterator[Violation], matters: Callable[[str], bool]) -> None:
        """Add violations of further fields, as far as there is room."""
        told = {field for field, _ in found}
        new = ((field, problem) for field, problem in more if field not in told and matters(field))
        found += islice(new, VIOLATIONS_MAX - len(found))

    def _of(self, message: Any, path: str) -> Iterator[Violation]:
        """The violations of a message, of which each list is looked at element by element."""
        lists = _lists_of(message.DESCRIPTOR)
        whole = message if not lists else _cut(message, lists)
        for field, problem in map(_described, self._validator.collect_violations(whole)):
            if not any(field.startswith(f"{'.'.join(names)}[") for names in lists):
                yield _joined(path, field), problem
        for names, items_max in lists.items():
            if items_max and len(_items(message, names)) > items_max:
                yield _joined(path, ".".join(names)), f"must contain no more than {items_max} item(s)"
            for number, element in enumerate(_items(message, names)):
                if self._validator.collect_violations(element, fail_fast=True):
                    yield from self._of(element, f"{_joined(path, '.'.join(names))}[{number}]")


Lists = dict[tuple[str, ...], int]
"""The paths of a message's lists of messages, through messages that are there once, and how many elements each may
have; 0 where the contract does not say."""


@cache
def _lists_of(descriptor: Descriptor) -> Lists:
    """No message of the contract is within itself."""
    lists: Lists = {}
    for field in descriptor.fields:
        if field.message_type is None:
            continue
        inner = _lists_of(field.message_type)
        if field.is_repeated and not _is_map(field):
            lists[(field.name,)] = field.GetOptions().Extensions[validate_pb2.field].repeated.max_items
        elif not field.is_repeated:
            lists |= {(field.name, *names): items_max for names, items_max in inner.items()}
    return lists


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _items(message: Any, names: tuple[str, ...]) -> Any:
    for name in names:
        message = getattr(message, name)
    return message


def _cut(message: Any, lists: Iterable[tuple[str, ...]]) -> Any:
    """A copy whose lists have one empty element at most: whether there is one is all that their other rules ask."""
    whole = type(message)()
    whole.CopyFrom(message)
    for names in lists:
        items = _items(whole, names)
        if items:  # touching an empty one would make the message around it present
            del items[1:]
            items[0].Clear()
    return whole


class _Times(NamedTuple):
    """Where a type of message has durations and timestamps.

    Attributes:
        own: the names of its fields that are one, and of which type.
        inner: its fields of messages that have some: name, whether it is a list, and where.
    """

    own: tuple[tuple[str, str], ...]
    inner: tuple[tuple[str, bool, _Times], ...]


def _times_of(descriptor: Descriptor) -> _Times | None:
    """Where they are; None where there are none."""
    own, inner = [], []
    for field in descriptor.fields:
        if field.message_type is None or _is_map(field):
            continue
        if field.message_type.full_name in TIMES and not field.is_repeated:
            own.append((field.name, field.message_type.full_name))
        elif (times := _times_of(field.message_type)) is not None:
            inner.append((field.name, field.is_repeated, times))
    return _Times(tuple(own), tuple(inner)) if own or inner else None


def _are_times(message: Any, times: _Times) -> bool:
    """Whether all of them are valid; asked of every request."""
    for name, kind in times.own:
        if message.HasField(name) and not _is_time(getattr(message, name), kind):
            return False
    for name, is_list, inner in times.inner:
        if is_list:
            if not all(_are_times(element, inner) for element in getattr(message, name)):
                return False
        elif message.HasField(name) and not _are_times(getattr(message, name), inner):
            return False
    return True


def _odd_times(message: Message, path: str) -> Iterator[Violation]:
    """The paths of durations and timestamps that are none, as protobuf's own documentation of both has it."""
    name = message.DESCRIPTOR.full_name
    if name in TIMES:
        if not _is_time(message, name):
            yield path, f"must be a valid {name.rpartition('.')[2]}: nanos 0 to 999,999,999, seconds within its range"
        return
    for field, value in message.ListFields():
        if field.message_type is None or _is_map(field):
            continue
        here = _joined(path, field.name)
        if not field.is_repeated:
            yield from _odd_times(value, here)
            continue
        for number, element in enumerate(value):
            yield from _odd_times(element, f"{here}[{number}]")


def _is_time(value: Any, name: str) -> bool:
    if name == "google.protobuf.Timestamp":
        return bool(0 <= value.nanos <= NANOS_MAX and TIMESTAMP_SECONDS_MIN <= value.seconds <= TIMESTAMP_SECONDS_MAX)
    within = abs(value.seconds) <= DURATION_SECONDS_MAX and abs(value.nanos) <= NANOS_MAX
    return bool(within and value.seconds * value.nanos >= 0)


def _texts_with_null(message: Message, path: str) -> Iterator[str]:
    """The paths of the texts in a message that have U+0000, be it in the key of a map."""
    for field, value in message.ListFields():
        if field.name in ASKED:
            continue
        here = _joined(path, field.name)
        if _is_map(field):
            parts = [(f'{here}["{key}"]', text) for key, one in value.items() for text in (key, one)]
        elif field.is_repeated:
            parts = [(f"{here}[{number}]", one) for number, one in enumerate(value)]
        else:
            parts = [(here, value)]
        for at, one in parts:
            if isinstance(one, Message):
                yield from _texts_with_null(one, at)
            elif isinstance(one, str) and "\0" in one:
                yield at.replace("\0", "\\0")


def _joined(path: str, field: str) -> str:
    return f"{path}.{field}" if path and field else path or field


def _described(violation: protovalidate.Violation) -> Violation:
    """The path as `lines[0].sku`, and what is wrong."""
    path = ""
    for element in violation.proto.field.elements if violation.proto.field else ():
        path += f".{element.field_name}" if path else element.field_name
        subscript = element.subscript
        if subscript is not None:
            path += f"[{subscript.value}]"
    return path, _explained(violation)


def _explained(violation: protovalidate.Violation) -> str:
    """What is wrong, in words that need neither the expression of a pattern nor the numbers of an enum."""
    rule, value = violation.proto.rule_id, violation.rule_value
    if rule == "string.pattern":
        return describe_pattern(value)
    if rule.endswith(".not_in"):
        return "must not be 0" if list(value) == [0] else "is a value that only the server may write"
    return violation.proto.message or rule
