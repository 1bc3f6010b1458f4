"""The codec beside protobuf's own `json_format`: the same JSON, the same messages, the same refusals."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any

from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from storekeep.gateway.invalid_json import InvalidJson
from storekeep.gateway.json_codec import JsonCodec
from tests.support.json_messages import RandomMessages, list_message_types

TYPES = list_message_types()
SEEDS = st.integers(0, 2**32)
HOSTILE = (
    *(None, True, False, 0, -1, 1.0, 1.5, 1e2, 2**31, 2**32, 2**63, 2**64, 1e30, [], {}, [1], [None], {"a": 1}),
    *("", "1", "-0", "1.5", "abc", "NaN", "YWI=", "YWI", "_-8", "true", "2026-01-01T00:00:00Z", "a,bC", "1.5s"),
    *("2026-02-30T00:00:00Z", "2026-01-01T00:00:00+02:00", "2026-01-01T00:00:00", "9999-12-31T23:59:59-01:00", "-1s"),
)

REFUSED_BY_US = (
    # json_format takes an empty string or list for an empty object.
    r"expected an object, not (a list|the string '')",
    # json_format takes true and 1.5 for the number of an enum, strings of digits too, and wraps numbers beyond 32 bits.
    r" has no value '-?[0-9.]+'",
    r"expected an integer, not (true|false|the number 1.5)",
    r"out of range: -2147483648 to 2147483647",
    # json_format takes false for the number 0.
    r"expected a number, not (true|false)",
    # json_format skips characters that are not base64.
    r"not base64",
)
REFUSED_BY_THEM = (
    # Callers write update masks as the documentation of fields spells them, so snake_case is read too.
    'must not contain "_"',
)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(SEEDS)
def test_encode_any_message_equals_json_format(seed: int) -> None:
    build = RandomMessages(seed).build
    for descriptor in TYPES:
        message = build(descriptor)
        ours = JsonCodec(descriptor).encode(message)
        assert _parse(ours) == _parse(json_format.MessageToJson(message)), descriptor.name
        zeros = JsonCodec(descriptor, writes_zeros=True).encode(message)
        theirs = json_format.MessageToJson(message, always_print_fields_with_no_presence=True)
        assert _parse(zeros) == _parse(theirs), descriptor.name


@settings(max_examples=8, deadline=None, derandomize=True)
@given(SEEDS)
def test_decode_own_json_returns_the_message(seed: int) -> None:
    build = RandomMessages(seed).build
    for descriptor in TYPES:
        message = build(descriptor)
        codec = JsonCodec(descriptor)
        # Deterministic bytes compare NaN too.
        decoded = codec.decode(codec.encode(message))
        assert decoded.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)
        spelled = json_format.MessageToJson(message, preserving_proto_field_name=True, use_integers_for_enums=True)
        decoded = codec.decode(spelled.encode())
        assert decoded.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(SEEDS)
def test_decode_changed_json_agrees_with_json_format(seed: int) -> None:
    build, draw = RandomMessages(seed).build, random.Random(seed)
    for descriptor in TYPES:
        value = json.loads(JsonCodec(descriptor).encode(build(descriptor)))
        places = list(_list_places(value))
        for owner, key in draw.sample(places, min(len(places), 8)):
            kept = owner[key]
            owner[key] = draw.choice(HOSTILE)
            text = json.dumps(value)
            ours, theirs = _decode(descriptor, text), _decode_theirs(descriptor, text)
            assert ours == theirs or _is_known_difference(ours, theirs), (descriptor.name, key, owner[key])
            owner[key] = kept


def _parse(text: str | bytes) -> Any:
    return json.loads(text)


def _list_places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container and key below a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield value, key
        yield from _list_places(item)


def _decode(descriptor: Any, text: str) -> bytes | str:
    try:
        return JsonCodec(descriptor).decode(text.encode()).SerializeToString(deterministic=True)
    except InvalidJson as error:
        return str(error)


def _decode_theirs(descriptor: Any, text: str) -> bytes | str:
    message = GetMessageClass(descriptor)()
    try:
        json_format.Parse(text, message)
    except json_format.ParseError as error:
        return str(error)
    return message.SerializeToString(deterministic=True)


def _is_known_difference(ours: bytes | str, theirs: bytes | str) -> bool:
    """Return whether both refuse, or one of them for a reason in the lists."""
    if isinstance(ours, str):
        return isinstance(theirs, str) or any(re.search(part, ours) for part in REFUSED_BY_US)
    return isinstance(theirs, str) and any(part in theirs for part in REFUSED_BY_THEM)
