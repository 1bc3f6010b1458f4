"""Fields from the query and the path, and update masks from PATCH bodies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass

from storekeep.gateway.invalid_json import InvalidJson
from storekeep.gateway.json_codec import JsonCodec
from storekeep.gateway.query import build_query_setter, derive_update_mask, set_path_field
from storekeep.v1 import inventory_pb2, orders_pb2, products_pb2
from tests.support.json_messages import KINDS_TYPE


def _apply(*pairs: tuple[str, str], descriptor: Any = KINDS_TYPE, bound: tuple[str, ...] = ()) -> Any:
    message = GetMessageClass(descriptor)()
    build_query_setter(descriptor, bound)(message, pairs)
    return json.loads(JsonCodec(descriptor).encode(message))


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("one_int32", "5")], {"oneInt32": 5}),
        ([("oneInt64", "9223372036854775807")], {"oneInt64": "9223372036854775807"}),
        ([("manyString", "a"), ("many_string", ""), ("manyString", "b,c")], {"manyString": ["a", "", "b,c"]}),
        ([("oneNested.oneNested.oneBool", "true")], {"oneNested": {"oneNested": {"oneBool": True}}}),
        (
            [("one_nested.oneInt32", "1"), ("oneNested.oneString", "x")],
            {"oneNested": {"oneInt32": 1, "oneString": "x"}},
        ),
        ([("oneMask", "displayName,tax_class")], {"oneMask": "displayName,taxClass"}),
        ([("oneMask.paths", "a"), ("oneMask.paths", "b")], {"oneMask": "a,b"}),
        ([("oneTime", "2026-01-01T00:00:00Z")], {"oneTime": "2026-01-01T00:00:00Z"}),
        ([("oneDuration", "0s")], {"oneDuration": "0s"}),
        ([("manyDuration", "1s"), ("manyDuration", "2s")], {"manyDuration": ["1s", "2s"]}),
        ([("oneIntWrapper", "0"), ("oneBoolWrapper", "false")], {"oneIntWrapper": "0", "oneBoolWrapper": False}),
        ([("oneBytes", "-_8")], {"oneBytes": "+/8="}),
        ([("oneDouble", "-1e3")], {"oneDouble": -1000.0}),
        ([("eitherInt32", "0")], {"eitherInt32": 0}),
    ],
)
def test_apply_parameters_set_fields(pairs: list[tuple[str, str]], expected: dict[str, Any]) -> None:
    assert _apply(*pairs) == expected


@pytest.mark.parametrize(
    ("pairs", "path"),
    [
        ([("nothing", "1")], "nothing"),
        ([("", "1")], ""),
        ([("oneNested.", "1")], "oneNested."),
        ([("oneNested..oneInt32", "1")], "oneNested..oneInt32"),
        ([("one_int32.x", "1")], "one_int32.x"),
        ([("manyNested.oneInt32", "1")], "manyNested.oneInt32"),
        ([("mapStringInt64.a", "1")], "mapStringInt64.a"),
        ([("mapStringInt64", "1")], "mapStringInt64"),
        ([("oneNested", "{}")], "oneNested"),
        ([("oneAny", "{}")], "oneAny"),
        ([("oneInt32", "1"), ("one_int32", "1")], "one_int32"),
        ([("oneMask", "a"), ("one_mask", "b")], "one_mask"),
        ([("oneInt32", "")], "oneInt32"),
        ([("oneInt32", "1" * 5_000)], "oneInt32"),
        ([("oneInt32", "2147483648")], "oneInt32"),
        ([("oneBool", "True")], "oneBool"),
        ([("oneBool", "1")], "oneBool"),
        ([("oneString", "\ud800")], "oneString"),
        ([("eitherInt32", "1"), ("eitherBool", "true")], "eitherBool"),
        ([(".".join(["oneNested"] * 5_000), "1")], None),
    ],
)
def test_apply_wrong_parameter_is_refused_by_name(pairs: list[tuple[str, str]], path: str | None) -> None:
    with pytest.raises(InvalidJson) as error:
        _apply(*pairs)
    assert path is None or error.value.path == path
    assert len(str(error.value)) < 400
    str(error.value).encode()


def test_apply_enum_reads_name_and_number() -> None:
    stock = inventory_pb2.StockMovement.DESCRIPTOR
    for text in ("STOCK_MOVEMENT_CAUSE_RECEIVE", "1"):
        assert _apply(("cause", text), descriptor=stock) == {"cause": "STOCK_MOVEMENT_CAUSE_RECEIVE"}
    with pytest.raises(InvalidJson, match="has no value 'NOTHING'"):
        _apply(("cause", "NOTHING"), descriptor=stock)


@pytest.mark.parametrize(
    ("bound", "name"), [("product", "product.displayName"), ("product.name", "product.name"), ("*", "requestId")]
)
def test_apply_field_of_path_or_body_is_refused(bound: str, name: str) -> None:
    descriptor = products_pb2.UpdateProductRequest.DESCRIPTOR
    assert _apply((name, "x"), descriptor=descriptor)
    with pytest.raises(InvalidJson):
        _apply((name, "x"), descriptor=descriptor, bound=(bound,))


def test_set_path_field_nested_name_must_equal_the_body() -> None:
    request = products_pb2.UpdateProductRequest()
    set_path_field(request, "product.name", "products/a")
    set_path_field(request, "product.name", "products/a")
    assert request.product.name == "products/a"
    with pytest.raises(InvalidJson) as error:
        set_path_field(request, "product.name", "products/b")
    assert error.value.path == "name"
    assert error.value.problem == "the body has 'products/a', but the path has 'products/b'"


def test_derive_update_mask_names_the_changeable_fields_of_the_body() -> None:
    body = json.loads(
        '{"name":"orders/1","etag":"1","createTime":"2026-01-01T00:00:00Z","lines":[],"number":"7","labels":{"a":"b"},'
        '"shipping_address":{"locality":"x"},"note":null,"nothing":1}'
    )
    mask = derive_update_mask(body, orders_pb2.Order.DESCRIPTOR)
    assert list(mask.paths) == ["labels", "shipping_address", "note"]
    assert not derive_update_mask({}, orders_pb2.Order.DESCRIPTOR).paths
