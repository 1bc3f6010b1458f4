"""The check that tells whether the OpenAPI file allows a request, as it was sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from storekeep.gateway import documentation
from tests.support.sent_requests import Description, SentRequest

HOST = "http://gateway"
ORDER = {"customer": "customers/ada", "lines": [{"sku": "TEA-ASSAM-100", "quantity": 2}], "currencyCode": "EUR"}


@pytest.fixture(scope="module")
def description() -> Description:
    """Return the file of the gateway."""
    return Description(json.loads((documentation.HERE / "openapi.json").read_text()))


def prepare(method: str, path: str, **parts: Any) -> SentRequest:
    """Return a request as the library `requests` sends it."""
    return SentRequest.from_prepared(requests.Request(method, HOST + path, **parts).prepare())


@pytest.mark.parametrize(
    ("method", "path", "parts"),
    [
        ("GET", "/v1/products", {}),
        ("GET", "/v1/products", {"params": {"pageSize": None, "readMask": []}}),
        ("GET", "/v1/products/", {"params": {"pageSize": "7", "includeTotalSize": "true"}}),
        ("GET", "/v1/products/a%2Eb", {}),
        ("GET", "/v1/categories:batchGet", {"params": {"names": ["categories/a", "categories/b"]}}),
        ("GET", "/v1/products/assam", {"headers": {"X-Request-Timeout": "2.5 "}}),
        ("PATCH", "/v1/products/assam", {"json": {"displayName": "Assam"}}),
        ("POST", "/v1/orders:place", {"json": ORDER, "headers": {"Idempotency-Key": "cart-17"}}),
        ("POST", "/v1/orders:place", {"json": ORDER, "headers": {"Content-Type": "application/json; charset=utf-8"}}),
    ],
)
def test_request_of_the_file_is_allowed(description: Description, method: str, path: str, parts: Any) -> None:
    assert description.explain(prepare(method, path, **parts)) == ""


@pytest.mark.parametrize(
    ("method", "path", "parts", "problem"),
    [
        ("GET", "/v1/products", {"params": {"pageSize": "many"}}, "pageSize"),
        ("GET", "/v1/products", {"params": {"pageSize": " 7"}}, "pageSize"),
        ("GET", "/v1/products", {"params": {"pageSize": "-1"}}, "pageSize"),
        ("GET", "/v1/products", {"params": {"pageSize": ["1", "2"]}}, "sent more than once"),
        ("GET", "/v1/products", {"params": {"includeTotalSize": "True"}}, "includeTotalSize"),
        ("GET", "/v1/products", {"params": {"page": "1"}}, "no parameter 'page'"),
        ("GET", "/v1/products", {"json": {}}, "has no body"),
        ("GET", "/v1/categories:batchGet", {"params": {"names": []}}, "names is missing"),
        ("GET", "/v1/products/%20", {}, "product"),
        ("GET", "/v1/products/assam%0A", {}, "product"),
        ("GET", "/v1/nothing", {}, "no operation"),
        ("PUT", "/v1/products", {}, "no operation"),
        ("GET", "/v1/products", {"headers": {"X-Request-Timeout": "soon"}}, "x-request-timeout"),
        ("POST", "/v1/orders:place", {}, "body is missing"),
        ("POST", "/v1/orders:place", {"json": {**ORDER, "lines": "all"}}, "lines"),
        ("POST", "/v1/orders:place", {"json": {**ORDER, "color": "red"}}, "color"),
        ("POST", "/v1/orders:place", {"json": ORDER, "headers": {"Idempotency-Key": "x" * 256}}, "idempotency-key"),
        ("POST", "/v1/orders:place", {"json": ORDER, "headers": {"Content-Type": "text/plain"}}, "not sent as JSON"),
        ("POST", "/v1/orders:place", {"data": b"{", "headers": {"Content-Type": "application/json"}}, "not JSON"),
        ("POST", "/v1/orders:place", {"data": b"NaN", "headers": {"Content-Type": "application/json"}}, "not JSON"),
    ],
)
def test_request_that_the_file_forbids_is_explained(
    description: Description, method: str, path: str, parts: Any, problem: str
) -> None:
    assert problem in description.explain(prepare(method, path, **parts))


def test_path_may_name_another_operation_than_its_template(description: Description) -> None:
    assert description.find(prepare("GET", "/v1/products/")) == description.find(prepare("GET", "/v1/products"))
    assert description.explain(prepare("GET", "/v1/customers/c1:readData", params={"exportToken": "x"})) == ""
