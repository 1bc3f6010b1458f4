"""Violations: finds the first violations of the contract's constraints in a request, at a bounded cost.

The validator creates an object per violation, so it never gets a message with thousands of bad elements as a whole.
Valid requests, the common case, are validated once.
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

from storekeep.server.interceptors.rule_texts import describe_items_max, explain_rule

VIOLATIONS_MAX = 20
"""Maximum number of reported violations; a status has no room for more."""
QUERY_FIELDS = frozenset({"currency_code", "etag", "filter", "order_by", "page_token", "query", "update_mask"})
"""Text fields that are parsed but not stored; their own parsers report errors."""
NANOS_MAX = 999_999_999
DURATION_SECONDS_MAX = 315_576_000_000
TIMESTAMP_SECONDS_MIN, TIMESTAMP_SECONDS_MAX = -62_135_596_800, 253_402_300_799
TIMES = frozenset({"google.protobuf.Duration", "google.protobuf.Timestamp"})

Violation = tuple[str, str]
"""Path of a field, such as `lines[0].sku`, and its problem."""


def _accept(_field: str) -> bool:
    return True


class Violations:
    """Finds the first violations in messages of one type. Thread-safe.

    Args:
        descriptor: Descriptor of the message type.
        validator: Validator; may be shared.
    """

    def __init__(self, descriptor: Any, validator: protovalidate.Validator) -> None:
        self._validator = validator
        self._times = _find_times(descriptor)

    def find(
        self, message: Message, *, has_null: bool, is_relevant: Callable[[str], bool] = _accept
    ) -> list[Violation]:
        """Return at most `VIOLATIONS_MAX` violations, those of a message before those of its elements.

        Args:
            has_null: Whether the serialized message contains a null byte, in a text or as part of a number.
            is_relevant: Returns whether violations of the field with this path count.
        """
        violations: list[Violation] = []
        first = self._validator.collect_violations(message, fail_fast=True)
        are_times_valid = self._times is None or _are_valid_times(message, self._times)
        if not (first or has_null) and are_times_valid:
            return violations
        if first:
            self._add(violations, self._iterate_violations(message, ""), is_relevant)
        if not violations:  # the parts alone may show no violation
            self._add(violations, map(_describe_violation, first), is_relevant)
        if has_null:
            nulls = ((path, "text must not have the character U+0000") for path in _find_null_texts(message, ""))
            self._add(violations, nulls, is_relevant)
        if not are_times_valid:
            self._add(violations, _find_invalid_times(message, ""), is_relevant)
        return violations

    @staticmethod
    def _add(violations: list[Violation], more: Iterator[Violation], is_relevant: Callable[[str], bool]) -> None:
        """Add violations of further fields, up to `VIOLATIONS_MAX`."""
        reported = {field for field, _ in violations}
        new = ((field, problem) for field, problem in more if field not in reported and is_relevant(field))
        violations += islice(new, VIOLATIONS_MAX - len(violations))

    def _iterate_violations(self, message: Any, path: str) -> Iterator[Violation]:
        """Yield the violations of a message; each list is validated element by element."""
        lists = _find_lists(message.DESCRIPTOR)
        whole = message if not lists else _copy_truncated(message, lists)
        for field, problem in map(_describe_violation, self._validator.collect_violations(whole)):
            if not any(field.startswith(f"{'.'.join(names)}[") for names in lists):
                yield _join_path(path, field), problem
        for names, items_max in lists.items():
            if items_max and len(_items(message, names)) > items_max:
                yield _join_path(path, ".".join(names)), describe_items_max(items_max)
            for number, element in enumerate(_items(message, names)):
                if self._validator.collect_violations(element, fail_fast=True):
                    yield from self._iterate_violations(element, f"{_join_path(path, '.'.join(names))}[{number}]")


Lists = dict[tuple[str, ...], int]
"""Paths of a message's lists of messages, also inside singular messages, and the maximum number of elements of each;
0 if the contract sets none."""


@cache
def _find_lists(descriptor: Descriptor) -> Lists:
    """Return the lists of a message type; no message of the contract is recursive."""
    lists: Lists = {}
    for field in descriptor.fields:
        if field.message_type is None:
            continue
        inner = _find_lists(field.message_type)
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


def _copy_truncated(message: Any, lists: Iterable[tuple[str, ...]]) -> Any:
    """Return a copy whose lists have at most one, empty element: their other rules only check for presence."""
    whole = type(message)()
    whole.CopyFrom(message)
    for names in lists:
        items = _items(whole, names)
        if items:  # accessing an empty list would set the message around it
            del items[1:]
            items[0].Clear()
    return whole


class _Times(NamedTuple):
    """The durations and timestamps in a message type.

    Attributes:
        own: Name and type of each field that is a duration or a timestamp.
        inner: Fields whose messages contain some: name, whether it is a list, and the times of the messages.
    """

    own: tuple[tuple[str, str], ...]
    inner: tuple[tuple[str, bool, _Times], ...]


@cache
def _find_times(descriptor: Descriptor) -> _Times | None:
    """Return the durations and timestamps in a message type; None if it has none."""
    own, inner = [], []
    for field in descriptor.fields:
        if field.message_type is None or _is_map(field):
            continue
        if field.message_type.full_name in TIMES and not field.is_repeated:
            own.append((field.name, field.message_type.full_name))
        elif (times := _find_times(field.message_type)) is not None:
            inner.append((field.name, field.is_repeated, times))
    return _Times(tuple(own), tuple(inner)) if own or inner else None


def _are_valid_times(message: Any, times: _Times) -> bool:
    """Return whether all durations and timestamps are valid; called for every request."""
    for name, kind in times.own:
        if message.HasField(name) and not _is_valid_time(getattr(message, name), kind):
            return False
    for name, is_list, inner in times.inner:
        if is_list:
            if not all(_are_valid_times(element, inner) for element in getattr(message, name)):
                return False
        elif message.HasField(name) and not _are_valid_times(getattr(message, name), inner):
            return False
    return True


def _find_invalid_times(message: Message, path: str) -> Iterator[Violation]:
    """Yield the paths of invalid durations and timestamps, as the protobuf documentation defines them."""
    name = message.DESCRIPTOR.full_name
    if name in TIMES:
        if not _is_valid_time(message, name):
            yield path, f"must be a valid {name.rpartition('.')[2]}: nanos 0 to 999,999,999, seconds within its range"
        return
    for field, value in message.ListFields():
        if field.message_type is None or _is_map(field):
            continue
        field_path = _join_path(path, field.name)
        if not field.is_repeated:
            yield from _find_invalid_times(value, field_path)
            continue
        for number, element in enumerate(value):
            yield from _find_invalid_times(element, f"{field_path}[{number}]")


def _is_valid_time(value: Any, name: str) -> bool:
    if name == "google.protobuf.Timestamp":
        return bool(0 <= value.nanos <= NANOS_MAX and TIMESTAMP_SECONDS_MIN <= value.seconds <= TIMESTAMP_SECONDS_MAX)
    is_in_range = abs(value.seconds) <= DURATION_SECONDS_MAX and abs(value.nanos) <= NANOS_MAX
    return bool(is_in_range and value.seconds * value.nanos >= 0)


def _find_null_texts(message: Message, path: str) -> Iterator[str]:
    """Yield the paths of texts that contain U+0000, including keys of maps."""
    for field, value in message.ListFields():
        if field.name in QUERY_FIELDS:
            continue
        field_path = _join_path(path, field.name)
        if _is_map(field):
            parts = [(f'{field_path}["{key}"]', text) for key, item in value.items() for text in (key, item)]
        elif field.is_repeated:
            parts = [(f"{field_path}[{number}]", item) for number, item in enumerate(value)]
        else:
            parts = [(field_path, value)]
        for item_path, item in parts:
            if isinstance(item, Message):
                yield from _find_null_texts(item, item_path)
            elif isinstance(item, str) and "\0" in item:
                yield item_path.replace("\0", "\\0")


def _join_path(path: str, field: str) -> str:
    return f"{path}.{field}" if path and field else path or field


def _describe_violation(violation: protovalidate.Violation) -> Violation:
    """Return the path, such as `lines[0].sku`, and the problem."""
    path = ""
    for element in violation.proto.field.elements if violation.proto.field else ():
        path += f".{element.field_name}" if path else element.field_name
        subscript = element.subscript
        if subscript is not None:
            path += f"[{subscript.value}]"
    return path, explain_rule(violation)
