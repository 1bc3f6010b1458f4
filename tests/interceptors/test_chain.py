"""The interceptor chain as data: order, reasons and completeness."""

from __future__ import annotations

import ast
from typing import Any

import grpc
import pytest

from storekeep.server.interceptors import CHAIN, Part, chain
from storekeep.server.interceptors.chain import Layer, arrange
from storekeep.server.interceptors.read_masks import apply_read_masks
from storekeep.server.interceptors.validation import validate_requests
from storekeep.server.transport.errors import InvalidFields, MessageTooLarge
from storekeep.server.transport.executors import CallExecutor
from storekeep.server.transport.rpc import Method, Rpc
from storekeep.v1 import orders_pb2
from tests.support.checkout import ROOT

INTERCEPTORS = ROOT / "server/storekeep/server/interceptors"
MODULES_WITHOUT_STEPS = {"chain"}
"""Modules that use steps but define none."""
NAMES = [entry.name for entry in CHAIN]
PARTS = list(Part)


def test_parts_follow_one_another():
    assert [entry.part for entry in CHAIN] == sorted((entry.part for entry in CHAIN), key=PARTS.index)


@pytest.mark.parametrize("part", [Part.LOG, Part.ERRORS])
def test_log_and_errors_are_one_step_each(part: Part):
    assert [entry.part for entry in CHAIN].count(part) == 1


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ("request_log", "errors"),
        ("errors", "early_limits"),
        ("early_limits", "credentials"),
        ("credentials", "auth"),
        ("credentials", "forwarding"),
        ("certificates", "forwarding"),
        ("forwarding", "auth"),
        ("auth", "caller_limits"),
        ("auth", "validation"),
        ("caller_limits", "validation"),
        ("validation", "freshness"),
        ("validation", "read_masks"),
        ("read_masks", "personal_data"),
        ("read_masks", "languages"),
    ],
)
def test_step_stands_before_what_relies_on_it(outer: str, inner: str):
    assert NAMES.index(outer) < NAMES.index(inner)


def test_names_are_unique():
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("entry", CHAIN, ids=lambda entry: entry.name)
def test_step_says_in_a_line_why_it_is_there_and_why_at_this_place(entry):
    what, _, where = entry.reason.partition("; ")
    assert what
    assert where
    assert "\n" not in entry.reason


def defines_a_step(source: str) -> bool:
    """Return whether a module has a function that wraps a `Step`."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    annotations = [argument.annotation for function in functions for argument in function.args.args]
    return any(isinstance(annotation, ast.Name) and annotation.id == "Step" for annotation in annotations)


def test_every_file_that_defines_a_step_is_in_the_chain():
    files = {path.stem for path in INTERCEPTORS.glob("*.py") if defines_a_step(path.read_text())}
    assert files - MODULES_WITHOUT_STEPS == {entry.module for entry in CHAIN}


# -- wiring


def steps(**changed: Layer | None) -> dict[str, Layer | None]:
    """Return a step per entry; each is just its name, because `arrange` calls none."""
    every: Any = {entry.name: entry.name for entry in CHAIN if entry.part is not Part.LOG}
    return every | changed


def test_steps_are_arranged_as_the_chain_says_whatever_their_order():
    backwards = dict(reversed(steps().items()))
    errors, *checks = arrange(backwards).layers
    assert [errors, arrange(backwards).early, *checks, *arrange(backwards).inner] == NAMES[1:]
    assert arrange(backwards).inner == ("freshness", "read_masks", "personal_data", "languages")


def test_step_that_some_servers_lack_is_left_out():
    optional = [entry.name for entry in CHAIN if entry.present_when]
    arranged = arrange(steps(**dict.fromkeys(optional)))
    assert {arranged.early, *arranged.layers, *arranged.inner} == set(NAMES[1:]) - set(optional)


def test_step_that_every_server_has_cannot_be_left_out():
    with pytest.raises(ValueError, match="auth"):
        arrange(steps(auth=None))


def test_step_that_is_not_in_the_chain_or_forgotten_is_refused():
    with pytest.raises(ValueError, match="not those of CHAIN"):
        arrange(steps(compression=None))
    forgetful = steps()
    del forgetful["freshness"]
    with pytest.raises(ValueError, match="not those of CHAIN"):
        arrange(forgetful)


# -- running


def test_request_is_refused_by_its_size_before_it_is_parsed():
    method = Method("x.Y/Z", "public", orders_pb2.ImportOrdersRequest)
    serve = validate_requests(message_size_max_bytes=10_000)(method, lambda request, context, rpc: request)
    with pytest.raises(MessageTooLarge):
        serve(b"\xff" * 10_001, None, Rpc("x.Y/Z", "1"))
    with pytest.raises(InvalidFields, match=r"must have at most \d+ items"):
        serve(b"\x0a\x00" * 2_000 + b"\xff", None, Rpc("x.Y/Z", "1"))


def test_chain_wraps_its_first_layer_outermost():
    seen: list[str] = []

    def layer(name: str) -> chain.Layer:
        def wrap(_method: Method, serve: chain.Step) -> chain.Step:
            def step(request: Any, context: Any, rpc: Rpc) -> Any:
                seen.append(name)
                return serve(request, context, rpc)

            return step

        return wrap

    def outermost(method: Method, serve: chain.Step) -> Any:
        return lambda request, context: serve(request, context, Rpc(method.name, "1"))

    method = Method("x.Y/Z", "public", orders_pb2.GetOrderRequest)
    wrapping = chain.Chain(
        outermost=outermost,
        layers=[layer("first"), layer("second")],
        methods={"/x.Y/Z": method},
        mutations=frozenset(),
        read_pool=None,
        write_pool=None,
        reject=lambda method, metadata: None,
    )
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    details = type("Details", (), {"method": "/x.Y/Z", "invocation_metadata": ()})()
    wrapped = wrapping.intercept_service(lambda _: handler, details)
    assert wrapped.unary_unary("asked", None) == "asked"
    assert seen == ["first", "second"]
    assert wrapping.intercept_service(lambda _: None, details) is wrapped


# -- replies that are bytes


def build_read(reply: Any) -> tuple[Any, Any]:
    """Return how gRPC, and how the fast path, serves a read whose servicer returns this reply, and writes the reply."""
    method = Method("x.Y/Z", "public", orders_pb2.GetOrderRequest, response_type=orders_pb2.Order)
    pool = CallExecutor(lambda _task: True, admits=lambda: True)
    wrapping = chain.Chain(
        outermost=lambda method, serve: lambda request, context: serve(request, context, Rpc(method.name, "1")),
        layers=[lambda _method, serve: serve],
        inner=[apply_read_masks],
        methods={"/x.Y/Z": method},
        mutations=frozenset(),
        read_pool=pool,
        write_pool=pool,
        reject=lambda method, metadata: None,
    )
    handler = grpc.unary_unary_rpc_method_handler(
        lambda request, context: reply, response_serializer=orders_pb2.Order.SerializeToString
    )
    details = type("Details", (), {"method": "/x.Y/Z", "invocation_metadata": ()})()
    wrapped = wrapping.intercept_service(lambda _: handler, details)
    (route,) = wrapping.build_routes({"/x.Y/Z": handler}).values()
    return (wrapped.unary_unary, wrapped.response_serializer), (route.serve, route.serialize)


@pytest.mark.parametrize("path", [0, 1], ids=["grpc", "fast path"])
@pytest.mark.parametrize("is_encoded", [True, False])
def test_reply_of_either_form_is_sent_and_masked_alike(path: int, is_encoded: bool):
    order = orders_pb2.Order(name="orders/o", note="ring twice")
    serve, serialize = build_read(order.SerializeToString() if is_encoded else order)[path]
    request = orders_pb2.GetOrderRequest(name=order.name)
    assert serialize(serve(request, None)) == order.SerializeToString()
    request.read_mask.paths.append("name")
    assert orders_pb2.Order.FromString(serialize(serve(request, None))) == orders_pb2.Order(name=order.name)
