"""Routes from descriptors: all of the contract's, what a path matches, and what the build refuses."""

from __future__ import annotations

from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool

from storekeep.gateway.routes import InvalidPath, InvalidRoutes, Route, Router, build_routes, list_services

ROUTES = build_routes()
ROUTER = Router(ROUTES)


def make_service(*rules: tuple[str, str]) -> Any:
    """Return a service with one RPC for each route: HTTP method and template. Its request has `name` and `tags`."""
    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="t", syntax="proto3")
    message = file.message_type.add(name="Request")
    for number, (field, label) in enumerate((("name", 1), ("tags", 3)), start=1):
        message.field.add(name=field, number=number, label=label, type=9)
    service = file.service.add(name="Service")
    for number, (method, template) in enumerate(rules):
        rpc = service.method.add(name=f"Call{number}", input_type=".t.Request", output_type=".t.Request")
        setattr(rpc.options.Extensions[annotations_pb2.http], method, template)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool.FindServiceByName("t.Service")


def read(path: bytes, *, method: str = "GET", router: Router = ROUTER) -> dict[str, str]:
    """Return the variables of a path."""
    match = router.match(path)
    assert match is not None
    return {variable.field_path: variable.read(match.segments) for variable in match.routes[method].variables}


def test_every_rpc_has_a_route() -> None:
    rpcs = {rpc.full_name for service in list_services() for rpc in service.methods}
    assert {route.rpc.full_name for route in ROUTES} == rpcs
    assert len(rpcs) > 100


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.http_method} {route.template}")
def test_every_route_is_reached_by_its_own_path(route: Route) -> None:
    path = "/" + "/".join("x" if segment in ("*", "**") else segment for segment in route.segments)
    match = ROUTER.match(f"{path}:{route.verb}".encode() if route.verb else path.encode())
    assert match is not None
    assert match.routes[route.http_method] is route


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"/v1/products/chai", "products/chai"),
        (b"/v1/products/chai/", "products/chai"),
        (b"/v1/products/a+b%20c", "products/a+b c"),
        (b"/v1/products/a%2Fb%2fc", "products/a%2Fb%2fc"),
        (b"/v1/products/%C3%A9", "products/\u00e9"),
        (b"/v1/products/a:unknown", "products/a:unknown"),
        (b"/v1/products/a%3Asearch", "products/a:search"),
        (b"/v1/products/p/variants/v", "products/p/variants/v"),
    ],
)
def test_path_gives_the_name(path: bytes, name: str) -> None:
    assert read(path) == {"name": name}


@pytest.mark.parametrize(
    "path", [b"/v1/products/%", b"/v1/products/%f", b"/v1/products/%zz", b"/v1/products/%ff", b"/v1/products/%00"]
)
def test_path_that_cannot_be_decoded_is_refused(path: bytes) -> None:
    with pytest.raises(InvalidPath):
        read(path)


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"",
        b"/v1",
        b"/v1//products",
        b"/v1/products//",
        b"//v1/products",
        b"/v2/products",
        b"/v1/products/a/b",
        b"/v1/products/*",
        b"/v1/orders:place/x",
    ],
)
def test_path_without_a_route_has_no_match(path: bytes) -> None:
    assert ROUTER.match(path) is None


def test_literal_precedes_a_wildcard_and_a_wildcard_the_rest() -> None:
    service = make_service(("get", "/v1/a/b"), ("get", "/v1/a/{name}"), ("get", "/v1/{name=**}"))
    router = Router(build_routes([service]))
    assert read(b"/v1/a/b", router=router) == {}
    assert read(b"/v1/a/c", router=router) == {"name": "c"}
    assert read(b"/v1/a%2Fd", router=router) == {"name": "a%2Fd"}
    assert read(b"/v1/a/c/e", router=router) == {"name": "a/c/e"}


@pytest.mark.parametrize(
    "rules",
    [
        [("get", "/v1/{name=a/*}"), ("get", "/v1/a/{name}")],
        [("get", "/v1/a:go"), ("get", "/v1/a:go")],
        [("get", "/v1/{missing}")],
        [("get", "/v1/{tags}")],
        [("get", "/v1/{name=**}/more")],
        [("get", "/v1//a")],
        [("get", "/v1/a{name}")],
        [("get", "/livez")],
        [("get", "/{name}")],
    ],
)
def test_route_that_cannot_be_served_or_reached_is_refused(rules: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidRoutes):
        build_routes([make_service(*rules)])
