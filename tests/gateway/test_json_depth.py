"""The limit of JSON depth: what is too deep, where, and at what cost."""

from __future__ import annotations

import time

import pytest

from storekeep.gateway.invalid_json import InvalidJson
from storekeep.gateway.json_depth import check_depth

DEPTH_MAX = 8
CPU_S_MAX = 1.0
MEGABYTE = 1024 * 1024


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 8 + b"]" * 8,
        b'{"a":' * 8 + b"1" + b"}" * 8,
        b"[" + b"[]," * 100 + b"[]]",
        b'{"a":"' + b"[" * 100 + b'"}',
        b'{"a":"\\"' + b"{" * 100 + b'"}',
        b'["\\\\",[[[[[[[]]]]]]]]',
        b'{"' + b"[" * 50 + b'":[]}',
        b"[]" * 50,
        b"]" * 50,
    ],
)
def test_body_within_the_limit_is_left_to_the_parser(raw: bytes) -> None:
    check_depth(raw, DEPTH_MAX)


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"[" * 9 + b"]" * 9, "[0][0][0][0][0][0][0][0]"),
        (b"[" * 100, "[0][0][0][0][0][0][0][0]"),
        (b'{"a":1,"b":{"c":[1,{"d":' + b"[" * 9 + b"]" * 9 + b"}]}}", "b.c[1].d[0][0][0][0]"),
        (b'{"x\\u0079":' + b'{"a":' * 8 + b"1" + b"}" * 9, "xy.a.a.a.a.a.a.a"),
        (b'{"' + b"k" * 500 + b'":' + b"[" * 9 + b"]" * 9 + b"}", "k" * 80 + "..."),
        (b'{"\xff":' + b"[" * 9 + b"]" * 9 + b"}", "?[0][0][0][0][0][0][0]"),
        (b'["' + b"a" * 70_000 + b'",' + b"[" * 9 + b"]" * 10, ""),  # too far for a search
    ],
)
def test_body_that_is_too_deep_is_refused_with_the_path(raw: bytes, path: str) -> None:
    with pytest.raises(InvalidJson, match="nested too deeply: more than 8 levels") as caught:
        check_depth(raw, DEPTH_MAX)
    assert caught.value.path == path


@pytest.mark.parametrize(
    "part", [b"[", b"{", b"[]", b'""', b'"', b'"\\', b"\\", b'["\\""]', b'{"a":', b"[" * 8 + b"]" * 8, b"]["]
)
def test_cost_is_bounded_for_a_megabyte_of(part: bytes) -> None:
    raw = part * (MEGABYTE // len(part))
    started_s = time.process_time()
    try:
        check_depth(raw, DEPTH_MAX)
    except InvalidJson as error:
        assert "too deeply" in error.problem  # noqa: PT017 - either outcome is fine
    assert time.process_time() - started_s < CPU_S_MAX
