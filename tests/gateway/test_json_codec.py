"""JSON bodies that are wrong, hostile or huge, and what is right at the edges."""

from __future__ import annotations

import contextlib
import json
import time
import tracemalloc

import pytest
from google.protobuf import text_format

from storekeep.gateway.invalid_json import InvalidJson, UnwritableMessage
from storekeep.gateway.json_codec import JsonCodec
from storekeep.v1 import orders_pb2, products_pb2
from tests.support.json_messages import KINDS_TYPE

KINDS = JsonCodec(KINDS_TYPE)
PLACE_ORDER = JsonCodec(orders_pb2.PlaceOrderRequest.DESCRIPTOR)
PRODUCT = JsonCodec(products_pb2.Product.DESCRIPTOR)
MIB = 1024 * 1024
CPU_S_MAX = 2.0
"""For 1 MiB; a busy host takes a fraction of it."""
MEMORY_MAX = 150 * MIB


def _fill(unit: str) -> str:
    """Return 1 MiB of a unit, with commas between."""
    return ",".join([unit] * (MIB // (len(unit) + 1)))


def _refuse(codec: JsonCodec, body: str | bytes) -> InvalidJson:
    with pytest.raises(InvalidJson) as error:
        codec.decode(body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass"))
    # What the caller reads can always be written.
    str(error.value).encode()
    assert len(str(error.value)) < 400
    return error.value


@pytest.mark.parametrize(
    ("body", "path", "problem"),
    [
        ('{"lines":[{},{},{"quantity":"x"}]}', "lines[2].quantity", "expected an integer, not the string 'x'"),
        ('{"lines":[{"colour":1}]}', "lines[0].colour", "PlaceOrderLine has no such field"),
        ('{"lines":{}}', "lines", "expected a list, not an object"),
        ('{"lines":[null]}', "lines[0]", "expected an object, not null"),
        ('{"customer":7}', "customer", "expected a string, not the number 7"),
        ('{"labels":{"a":null}}', 'labels["a"]', "expected a string, not null"),
        ('{"customer":"a","customer":"b"}', "customer", "the key appears more than once"),
        ('{"requestId":"a","request_id":"b"}', "request_id", "the field appears in both of its spellings"),
        ('{"requestId":null,"request_id":"b"}', "request_id", "the field appears in both of its spellings"),
        ('{"lines":[{"sku":"a","sku":"a"}]}', "lines[0].sku", "the key appears more than once"),
        ('{"validateOnly":"true"}', "validateOnly", "expected true or false, not the string 'true'"),
        ('{"customer":"\\ud800"}', "customer", "the string has half of a surrogate pair"),
        ("[]", "", "expected an object, not a list"),
        ("null", "", "expected an object, not null"),
        ("", "", "the body is not valid JSON: Expecting value at line 1, column 1"),
        ("{}x", "", "the body is not valid JSON: Extra data at line 1, column 3"),
        ('{"lines":NaN}', "", "the body is not valid JSON: NaN is not a JSON value"),
        ('{"lines":-Infinity}', "", "the body is not valid JSON: -Infinity is not a JSON value"),
        (b'{"customer":"\xff"}', "", "the body is not valid UTF-8 at byte 13"),
        (b"\xef\xbb\xbf{}", "", None),
        ("{}".encode("utf-16"), "", None),
        ('{"customer":"a\x00"}', "", None),
        ("[" * 100_000, "", "the body is nested too deeply"),
        ('{"lines":' + "9" * 10_000 + "}", "", "the body has a number with too many digits"),
    ],
)
def test_decode_wrong_body_names_path_and_problem(body: str | bytes, path: str, problem: str | None) -> None:
    error = _refuse(PLACE_ORDER, body)
    assert error.path == path
    assert problem is None or error.problem == problem


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ('{"oneInt32":2147483648}', "oneInt32"),
        ('{"oneInt64":9223372036854775808}', "oneInt64"),
        ('{"oneUint32":-1}', "oneUint32"),
        ('{"oneInt32":1.5}', "oneInt32"),
        ('{"oneInt32":true}', "oneInt32"),
        ('{"oneInt64":"1_000"}', "oneInt64"),
        ('{"oneInt64":" 1"}', "oneInt64"),
        ('{"oneInt64":"٣"}', "oneInt64"),
        ('{"oneInt64":1e999999999}', "oneInt64"),
        ('{"oneInt64":1e-999999999}', "oneInt64"),
        ('{"oneInt64":1e9999999999}', "oneInt64"),
        ('{"oneInt64":0.' + "1" * 9_000 + "}", "oneInt64"),
        ('{"oneDouble":1e400}', "oneDouble"),
        ('{"oneFloat":1e39}', "oneFloat"),
        ('{"oneDouble":"nan"}', "oneDouble"),
        ('{"oneBytes":"YW="}', "oneBytes"),
        ('{"oneBytes":"Y"}', "oneBytes"),
        ('{"oneBytes":"YWI=="}', "oneBytes"),
        ('{"oneBytes":"Y\\nWI="}', "oneBytes"),
        ('{"oneTime":"2026-01-01t00:00:00Z"}', "oneTime"),
        ('{"oneTime":"2026-01-01T00:00:60Z"}', "oneTime"),
        ('{"oneTime":"2026-02-29T00:00:00Z"}', "oneTime"),
        ('{"oneTime":"9999-12-31T23:59:59-00:01"}', "oneTime"),
        ('{"oneTime":1700000000}', "oneTime"),
        ('{"oneDuration":"315576000001s"}', "oneDuration"),
        ('{"oneDuration":"1"}', "oneDuration"),
        ('{"eitherInt32":0,"eitherBool":false}', "eitherBool"),
        ('{"mapInt32Int64":{"1":1,"01":2}}', 'mapInt32Int64["01"]'),
        ('{"mapBoolInt64":{"TRUE":1}}', 'mapBoolInt64["TRUE"]'),
        ('{"mapStringNested":{"a.b":{"oneInt32":"x"}}}', 'mapStringNested["a.b"].oneInt32'),
        ('{"oneAny":{"value":1}}', "oneAny.@type"),
        ('{"oneAny":{"@type":"type.googleapis.com/no.Such"}}', "oneAny.@type"),
        ('{"oneAny":{"@type":"x/google.protobuf.Duration","value":"1s","other":1}}', "oneAny"),
        ('{"oneStruct":{"a":{"b":[0,{"c":1,"c":2}]}}}', "oneStruct.a.b[1].c"),
        ('{"oneJsonValue":1e400}', "oneJsonValue"),
        ('{"manyInt32":[1,null]}', "manyInt32[1]"),
        ('{"oneIntWrapper":{"value":1}}', "oneIntWrapper"),
    ],
)
def test_decode_wrong_value_names_path(body: str, path: str) -> None:
    assert _refuse(KINDS, body).path == path


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"oneInt64":"9223372036854775807"}', '{"oneInt64":"9223372036854775807"}'),
        ('{"oneInt64":9223372036854775807}', '{"oneInt64":"9223372036854775807"}'),
        ('{"oneInt64":9007199254740993.0}', '{"oneInt64":"9007199254740993"}'),
        ('{"oneInt32":1e2,"oneUint32":1.0,"oneInt64":"1e2"}', '{"oneInt32":100,"oneInt64":"100","oneUint32":1}'),
        ('{"oneBytes":"-_8"}', '{"oneBytes":"+/8="}'),
        ('{"oneDouble":"Infinity","oneFloat":0.1}', '{"oneDouble":"Infinity","oneFloat":0.1}'),
        ('{"oneTime":"2026-01-01T01:30:00.5+01:30"}', '{"oneTime":"2026-01-01T00:00:00.500Z"}'),
        ('{"oneDuration":"-0.000001s"}', '{"oneDuration":"-0.000001s"}'),
        ('{"oneMask":"displayName,line.tax_class,*"}', '{"oneMask":"displayName,line.taxClass,*"}'),
        ('{"oneIntWrapper":0,"oneTextWrapper":null}', '{"oneIntWrapper":"0"}'),
        ('{"oneJsonValue":null,"oneNull":null}', '{"oneJsonValue":null}'),
        (
            '{"mapInt64Int64":{"-5":1},"mapBoolInt64":{"true":2}}',
            '{"mapBoolInt64":{"true":"2"},"mapInt64Int64":{"-5":"1"}}',
        ),
        ('{"eitherInt32":0,"eitherBool":null}', '{"eitherInt32":0}'),
        ('{"manyInt32":[],"mapStringInt64":{},"oneEmpty":{}}', '{"oneEmpty":{}}'),
        ('{"oneAny":{"value":"1s","@type":"x/google.protobuf.Duration"}}', None),
        ('{"one_nested":{"one_string":"\\ud83d\\ude00"}}', '{"oneNested":{"oneString":"😀"}}'),
    ],
)
def test_decode_edge_value_is_written_in_the_usual_form(body: str, expected: str | None) -> None:
    written = json.loads(KINDS.encode(KINDS.decode(body.encode())))
    assert written == json.loads(body if expected is None else expected)


def test_encode_unwritable_reply_raises() -> None:
    for change in ("one_time{seconds:253402300800}", "one_duration{seconds:1 nanos:-1}", 'one_any{value:"x"}'):
        message = text_format.Parse(change, KINDS.decode(b"{}"))
        with pytest.raises(UnwritableMessage):
            KINDS.encode(message)


def test_encode_wire_bytes_equals_message() -> None:
    product = products_pb2.Product(name="products/a", labels={"b": "1", "a": "2"})
    assert PRODUCT.encode(product.SerializeToString()) == PRODUCT.encode(product)
    assert PRODUCT.encode(product) == b'{"name":"products/a","labels":{"a":"2","b":"1"}}'


def test_decode_nested_struct_to_the_limit_can_be_sent() -> None:
    deep = '{"a":' * 29 + "{}" + "}" * 29
    message = KINDS.decode(f'{{"oneStruct":{deep}}}'.encode())
    assert type(message).FromString(message.SerializeToString()) == message
    assert "levels deep" in _refuse(KINDS, f'{{"oneStruct":{{"a":{deep}}}}}').problem
    for key in ("oneStruct", "oneNested", "oneAny"):
        _refuse(KINDS, f'{{"{key}":' * 5_000)


@pytest.mark.parametrize(
    "body",
    [
        '{"lines":[' + _fill("{}") + "]}",
        '{"lines":[' + _fill('{"sku":"a"}') + "]}",
        '{"lines":[' + _fill("[]") + "]}",
        '{"lines":[' + _fill("1e5") + "]}",
        '{"lines":[' + _fill("9" * 4_000) + "]}",
        '{"labels":{' + ",".join(f'"{number}":""' for number in range(100_000)) + "}}",
        "{" + ",".join(f'"{number}":0' for number in range(100_000)) + "}",
        "{" + _fill('"a":1') + "}",
        '{"customer":"' + "é" * (MIB // 2) + '"}',
        '{"customer":"' + "\\u0041" * (MIB // 6) + '"}',
        " " * MIB,
        "9" * MIB,
        "0." + "9" * MIB,
    ],
    ids=lambda body: body[:14],
)
def test_decode_a_mebibyte_costs_little(body: str) -> None:
    raw = body.encode()
    start = time.thread_time()
    _try(PLACE_ORDER, raw)
    assert time.thread_time() - start < CPU_S_MAX


def test_decode_a_mebibyte_takes_little_memory() -> None:
    for unit in ("{}", "1e5"):
        raw = f'{{"lines":[{_fill(unit)}]}}'.encode()
        tracemalloc.start()
        _try(PLACE_ORDER, raw)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MEMORY_MAX, unit


def _try(codec: JsonCodec, raw: bytes) -> None:
    with contextlib.suppress(InvalidJson):
        codec.decode(raw)
