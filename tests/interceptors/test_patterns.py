"""Each pattern of the contract is described in words; no caller sees a regular expression."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor

from storekeep.server.interceptors.patterns import describe_pattern
from storekeep.server.transport.contract import read_contract


def find_patterns(descriptor: Descriptor) -> Iterator[str]:
    for field in descriptor.fields:
        rules = field.GetOptions().Extensions[validate_pb2.field]
        yield from (one.string.pattern for one in (rules, rules.repeated.items, rules.map.keys, rules.map.values))
        if field.message_type is not None:
            yield from find_patterns(field.message_type)


PATTERNS = {
    pattern
    for method in read_contract().methods.values()
    for pattern in find_patterns(method.request_type.DESCRIPTOR)
    if pattern
}


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_pattern_is_told_in_words(pattern: str) -> None:
    told = describe_pattern(pattern)
    assert not re.search(r"[\[\]{}()^$\\?|+](?!-)", told.replace("(ISO 3166)", "").replace("(ISO 4217)", "")), told
    assert re.match(r"must be \S", told)


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("^[A-Z]{3}$", "must be a currency code of three capital letters, such as EUR (ISO 4217)"),
        (
            "^orders/([A-Za-z0-9][A-Za-z0-9_.-]{0,62}|-)$",
            "must be a name like orders/ID or orders/-, where ID has 1 to 63 letters, digits and _.- "
            "and begins with a letter or digit",
        ),
    ],
)
def test_pattern_is_told_with_an_example(pattern: str, told: str) -> None:
    assert describe_pattern(pattern) == told
