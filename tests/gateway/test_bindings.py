"""What `google.api.http` can bind and the contract does not use, or hardly: live, for a service of the test's own.

Each RPC returns its request, so the reply shows what has reached the server.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2

from tests.support.gateways import HttpReply
from tests.support.own_services import add_service, send_request, serve_own

TYPES = descriptor_pb2.FieldDescriptorProto
FIELDS = [
    ("name", TYPES.TYPE_STRING, False, ""),
    ("text", TYPES.TYPE_STRING, False, ""),
    ("words", TYPES.TYPE_STRING, True, ""),
    ("number", TYPES.TYPE_INT32, False, ""),
    ("size", TYPES.TYPE_INT64, False, ""),
    ("kind", TYPES.TYPE_ENUM, False, ".bind.Kind"),
    ("kinds", TYPES.TYPE_ENUM, True, ".bind.Kind"),
    ("thing", TYPES.TYPE_MESSAGE, False, ".bind.Thing"),
    ("things", TYPES.TYPE_MESSAGE, True, ".bind.Thing"),
    ("labels", TYPES.TYPE_MESSAGE, True, ".bind.Thing.LabelsEntry"),
    ("update_mask", TYPES.TYPE_MESSAGE, False, ".google.protobuf.FieldMask"),
]
PARTS = [name for name, *_ in FIELDS if name != "update_mask"]
BOUND: list[dict[str, Any]] = [
    {
        "get": "/v1/{name=shelves/*/things/*}",
        "additional_bindings": [
            {"get": "/v1/things/{thing.thing.name}/{number}"},
            {"post": "/v1/things:find", "body": "*"},
            {"put": "/v1/kinds/{kind}", "body": "thing"},
            {"delete": "/v1/files/{name=**}"},
        ],
    },
    {"patch": "/v1/{thing.name=things/*}", "body": "thing"},
    {"patch": "/v1/{name=lists/*}", "body": "things"},
    {"get": "/v1/query"},
    *({"post": f"/v1/bodies/{part}", "body": part} for part in PARTS),
    *({"post": f"/v1/replies/{part}", "body": "*", "response_body": part} for part in PARTS),
]


def make_service() -> Any:
    """Return a service with an RPC for each rule of `BOUND`. Requests and replies are things."""
    file = descriptor_pb2.FileDescriptorProto(name="bind.proto", package="bind", syntax="proto3")
    file.dependency.append("google/protobuf/field_mask.proto")
    kind = file.enum_type.add(name="Kind")
    for name, number in (("KIND_UNSPECIFIED", 0), ("KIND_TEA", 1), ("KIND_BELOW", -2)):
        kind.value.add(name=name, number=number)
    thing = file.message_type.add(name="Thing")
    for number, (name, type_, is_list, type_name) in enumerate(FIELDS, start=1):
        json_name = "updateMask" if name == "update_mask" else name
        label = TYPES.LABEL_REPEATED if is_list else TYPES.LABEL_OPTIONAL
        thing.field.add(
            name=name, json_name=json_name, number=number, label=label, type=type_, type_name=type_name or None
        )
    entry = thing.nested_type.add(name="LabelsEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    for number, name in enumerate(("key", "value"), start=1):
        entry.field.add(name=name, json_name=name, number=number, label=TYPES.LABEL_OPTIONAL, type=TYPES.TYPE_STRING)
    service = file.service.add(name="Service")
    for number, rule in enumerate(BOUND):
        rpc = service.method.add(name=f"Call{number}", input_type=".bind.Thing", output_type=".bind.Thing")
        rpc.options.Extensions[annotations_pb2.http].CopyFrom(http_pb2.HttpRule(**rule))
    return add_service(file, "bind.Service")


SERVICE = make_service()
ALL = {
    "name": "n",
    "text": 'a "b"',
    "words": ["a", ""],
    "number": -7,
    "size": "9007199254740993",
    "kind": "KIND_TEA",
    "kinds": ["KIND_TEA", "KIND_BELOW", 7],
    "thing": {"name": "inner", "things": [{"text": "x"}]},
    "things": [{"name": "a"}, {}],
    "labels": {"k": "v", "": "w"},
}
NESTED = {"number": 5, "thing": {"size": "7", "thing": {"name": "x"}}}
CHANGED = {"thing": {"name": "things/a", "kind": "KIND_TEA"}}
ACCEPTED: list[tuple[str, str, Any, Any]] = [
    ("GET", "/v1/shelves/1/things/a%2Fb", None, {"name": "shelves/1/things/a%2Fb"}),
    ("GET", "/v1/things/x%20y+z/-5", None, {"thing": {"thing": {"name": "x y+z"}}, "number": -5}),
    ("GET", "/v1/things/x/5/?thing.size=7&text=a+b", None, NESTED | {"text": "a b"}),
    ("POST", "/v1/things:find", {"text": "t"}, {"text": "t"}),
    ("PUT", "/v1/kinds/KIND_TEA", {"text": "t"}, {"kind": "KIND_TEA", "thing": {"text": "t"}}),
    ("PUT", "/v1/kinds/-2?number=3", {}, {"kind": "KIND_BELOW", "number": 3, "thing": {}}),
    ("DELETE", "/v1/files/a/b%2Fc/d?words=x", None, {"name": "a/b%2Fc/d", "words": ["x"]}),
    ("PATCH", "/v1/things/a", {"text": None, "kind": 1}, CHANGED | {"updateMask": "text,kind"}),
    ("PATCH", "/v1/things/a?updateMask=size", {"kind": 1}, CHANGED | {"updateMask": "size"}),
    ("PATCH", "/v1/lists/a", [{"text": "t"}], {"name": "lists/a", "things": [{"text": "t"}]}),
    ("GET", "/v1/query?kind=KIND_TEA", None, {"kind": "KIND_TEA"}),
    ("GET", "/v1/query?kind=1&thing.kind=-2", None, {"kind": "KIND_TEA", "thing": {"kind": "KIND_BELOW"}}),
    ("GET", "/v1/query?kinds=KIND_TEA&kinds=-2&kinds=7", None, {"kinds": ["KIND_TEA", "KIND_BELOW", 7]}),
    ("GET", "/v1/query?thing.thing.words=a&thing.thing.words=b", None, {"thing": {"thing": {"words": ["a", "b"]}}}),
    ("GET", "/v1/query?updateMask=text,thing.kind&size=1e3", None, {"updateMask": "text,thing.kind", "size": "1000"}),
    *(("POST", f"/v1/bodies/{part}", ALL[part], {part: ALL[part]}) for part in PARTS),
    *(("POST", f"/v1/replies/{part}", ALL, ALL[part]) for part in PARTS),
    ("POST", "/v1/replies/things", {}, []),
    ("POST", "/v1/replies/labels", {}, {}),
    ("POST", "/v1/replies/thing", {}, {}),
    ("POST", "/v1/replies/size", {}, "0"),
    ("POST", "/v1/replies/kind", {}, "KIND_UNSPECIFIED"),
]
REFUSED = [
    ("GET", "/v1/query?kind=tea", None, "parameter kind: Kind has no value 'tea'"),
    ("GET", "/v1/query?kind=2147483648", None, "parameter kind: the number is out of range"),
    ("GET", "/v1/query?kind=1&kind=1", None, "parameter kind: the parameter appears more than once"),
    ("GET", "/v1/query?things.text=1", None, "parameter things.text"),
    ("GET", "/v1/things/x/five", None, "number"),
    ("GET", "/v1/things/x/5?number=5", None, "parameter number: the field is given by the path or the body"),
    ("PUT", "/v1/kinds/coffee", {}, "kind: Kind has no value 'coffee'"),
    ("POST", "/v1/bodies/words", ["a", 1], "[1]: expected a string"),
    ("POST", "/v1/bodies/things", [{"things": [{"no": 1}]}], "[0].things[0].no: Thing has no such field"),
    ("POST", "/v1/bodies/labels", {"a": 1}, '["a"]: expected a string'),
    ("POST", "/v1/bodies/words?words=a", [], "parameter words: the field is given by the path or the body"),
]

MALFORMED = [
    ("POST", "/v1/bodies/words", {"words": []}, "expected a list, not an object"),
    ("POST", "/v1/bodies/thing", None, "expected an object, not null"),
    ("POST", "/v1/bodies/number", "x", "expected an integer, not the string 'x'"),
    ("POST", "/v1/bodies/number", None, "expected an integer, not null"),
]


async def send_all(cases: list[tuple[str, str, Any]], folder: Path) -> list[HttpReply]:
    """Serve the service, and return the reply to each request."""

    async def answer(data: bytes, _context: Any) -> bytes:
        return data

    handlers = {rpc.name: grpc.unary_unary_rpc_method_handler(answer) for rpc in SERVICE.methods}
    async with serve_own(SERVICE, handlers, folder=folder) as port:
        return [
            await send_request(port, method, target, b"" if method in ("GET", "DELETE") else json.dumps(body).encode())
            for method, target, body in cases
        ]


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> dict[str, HttpReply]:
    """Return the reply to each request of the tables, by all of the request."""
    cases: list[tuple[str, str, Any]] = [
        (method, target, body) for method, target, body, _ in (*ACCEPTED, *REFUSED, *MALFORMED)
    ]
    replies = asyncio.run(send_all(cases, tmp_path_factory.mktemp("b")))
    return {repr(case): reply for case, reply in zip(cases, replies, strict=True)}


@pytest.mark.parametrize(("method", "target", "body", "expected"), ACCEPTED, ids=lambda value: str(value)[:40])
def test_binding_sets_the_fields_and_selects_the_reply(
    sent: dict[str, HttpReply], method: str, target: str, body: Any, expected: Any
) -> None:
    reply = sent[repr((method, target, body))]
    assert reply.status == 200, reply
    assert reply.json == expected


@pytest.mark.parametrize(
    ("method", "target", "body", "problem"), [*REFUSED, *MALFORMED], ids=lambda value: str(value)[:40]
)
def test_value_that_cannot_be_bound_is_refused_by_name(
    sent: dict[str, HttpReply], method: str, target: str, body: Any, problem: str
) -> None:
    reply = sent[repr((method, target, body))]
    reason = "INVALID_FIELD" if (method, target, body, problem) in REFUSED else "MALFORMED_MESSAGE"
    assert (reply.status, reply.reason) == (400, reason), reply
    assert problem in reply.json["error"]["message"]
