"""JSON through a real gateway and server: what a PATCH changes, and how a wrong body is refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.support.gateways import GatewayProcess

NUMBERS = itertools.count()


def _create(gateway: GatewayProcess, **fields: Any) -> tuple[str, dict[str, Any]]:
    """Create a product; return its path and the reply."""
    body = {"displayName": "Mug", "description": "Blue", "labels": {"a": "1", "b": "2"}, **fields}
    reply = gateway.send("POST", f"/v1/products?productId=bodies-{next(NUMBERS)}", body)
    assert reply.status == 200, reply.body
    return f"/v1/{reply.json['name']}", reply.json


def test_patch_changes_the_fields_of_its_body_and_no_others(gateway: GatewayProcess) -> None:
    path, product = _create(gateway)
    changed = gateway.send("PATCH", path, {"displayName": "Cup", "labels": {"b": "3"}}).json
    assert changed["displayName"] == "Cup"
    assert changed["labels"] == {"b": "3"}
    assert changed["description"] == product["description"]


def test_patch_null_and_empty_clear_a_field(gateway: GatewayProcess) -> None:
    path, _ = _create(gateway)
    changed = gateway.send("PATCH", path, {"description": None, "labels": {}}).json
    assert changed["displayName"] == "Mug"
    assert "description" not in changed
    assert "labels" not in changed


def test_patch_with_the_resource_as_it_was_read_is_accepted(gateway: GatewayProcess) -> None:
    path, product = _create(gateway)
    reply = gateway.send("PATCH", path, {**product, "description": "Red"})
    assert reply.status == 200, reply.body
    assert reply.json["description"] == "Red"


def test_patch_explicit_mask_takes_precedence(gateway: GatewayProcess) -> None:
    path, _ = _create(gateway)
    for spelling in ("updateMask=displayName", "update_mask=display_name"):
        changed = gateway.send("PATCH", f"{path}?{spelling}", {"displayName": spelling, "description": "no"}).json
        assert changed["displayName"] == spelling
        assert changed["description"] == "Blue"


@pytest.mark.parametrize(
    ("method", "target", "body", "field"),
    [
        ("PATCH", "/v1/products/a", {"name": "products/b"}, "name"),
        ("PATCH", "/v1/products/a", {"labels": {"x": 1}}, 'labels["x"]'),
        ("PATCH", "/v1/products/a?product.displayName=x", {}, "product.displayName"),
        ("POST", "/v1/orders:place", {"lines": [{}, {}, {"quantity": "x"}]}, "lines[2].quantity"),
        ("POST", "/v1/orders:place?validateOnly=true", {}, "validateOnly"),
        ("GET", "/v1/products?pageSize=1&page_size=2", None, "page_size"),
        ("GET", "/v1/products/a?name=products/b", None, "name"),
    ],
)
def test_wrong_input_is_refused_with_the_field(
    gateway: GatewayProcess, method: str, target: str, body: Any, field: str
) -> None:
    reply = gateway.send(method, target, body)
    assert (reply.status, reply.reason) == (400, "INVALID_FIELD")
    (violations,) = (each["fieldViolations"] for each in reply.json["error"]["details"] if "fieldViolations" in each)
    assert [violation["field"] for violation in violations] == [field]


@pytest.mark.parametrize(
    ("method", "target", "body", "field", "text"),
    [
        ("POST", "/v1/products", {"displayName": ""}, "displayName", "field displayName: must not be empty"),
        (
            "POST",
            "/v1/products",
            {"displayName": "a", "labels": {"a_b": "x" * 300}},
            "labels[a_b]",
            "field labels[a_b]: must",
        ),
        ("POST", "/v1/orders:place", {"lines": [{"sku": "!"}]}, "lines[0].sku", "field lines[0].sku: "),
        ("GET", "/v1/products?page_size=-1", None, "pageSize", "parameter pageSize: must be at least 0"),
        ("GET", "/v1/products/%20", None, "name", "path name: "),
        ("GET", "/v1/products?readMask=noSuchField", None, "readMask", "parameter readMask: Product has no field"),
        ("GET", "/v1/products?pageSize=many", None, "pageSize", "parameter pageSize: "),
        ("POST", "/v1/products", {"displayName": 1}, "displayName", "field displayName: "),
    ],
)
def test_error_of_the_server_names_the_field_as_it_was_sent(
    gateway: GatewayProcess, method: str, target: str, body: Any, field: str, text: str
) -> None:
    error = gateway.send(method, target, body).json["error"]
    (violations,) = (each["fieldViolations"] for each in error["details"] if "fieldViolations" in each)
    assert field in [violation["field"] for violation in violations]
    assert text in error["message"]
    assert not any(violation["description"].startswith(("field ", "parameter ")) for violation in violations)


def test_error_has_the_words_of_http(gateway: GatewayProcess) -> None:
    path, _ = _create(gateway)
    mask = gateway.send("PATCH", f"{path}?updateMask=createTime", {"displayName": "x"}).json["error"]
    assert mask["message"].startswith("parameter updateMask: 'createTime' cannot be changed; use one of: displayName,")
    order = gateway.send("GET", "/v1/products?orderBy=displayName").json["error"]
    assert order["message"].startswith("parameter orderBy: cannot sort by 'displayName'; use one of: display_name,")
    stranger = gateway.send("GET", "/v1/products", authorization="Bearer").json["error"]["message"]
    assert "metadata" not in stranger
