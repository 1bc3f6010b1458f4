"""The OpenAPI file: valid, complete, and the same on disk, in the package and over HTTP."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from storekeep.gateway.routes import build_routes
from tests.support.checkout import ROOT
from tests.support.gateways import GatewayProcess

FILE = ROOT / "docs/reference/openapi.yaml"
ASSETS = {
    "/docs/start.js": "text/javascript",
    "/docs/swagger-ui.css": "text/css",
    "/docs/swagger-ui-bundle.js": "text/javascript",
}
pytestmark = pytest.mark.engine("sqlite", reason="the file is written from the contract")


@pytest.fixture(scope="module")
def description() -> Any:
    return yaml.load(FILE.read_text(), Loader=yaml.CSafeLoader)


def test_file_is_valid_openapi(description: Any) -> None:
    # Imported here, because it compiles 38 grammars: two seconds of CPU for each test process.
    from openapi_spec_validator import validate

    validate(description)


def test_file_has_every_route_once(description: Any) -> None:
    operations = [operation for path in description["paths"].values() for operation in path.values()]
    assert len(operations) == len(build_routes())
    assert len({operation["operationId"] for operation in operations}) == len(operations)


def test_file_states_the_bounds_of_the_contract(description: Any) -> None:
    schemas = description["components"]["schemas"]
    place = schemas["PlaceOrderRequest"]
    assert place["required"] == ["customer", "lines", "currencyCode"]
    assert place["properties"]["currencyCode"]["pattern"] == "^[A-Z]{3}$"
    assert place["properties"]["lines"]["maxItems"] == 500
    assert place["additionalProperties"] is False
    assert schemas["Order"]["properties"]["createTime"]["readOnly"] is True
    names = {parameter.get("name") for parameter in description["paths"]["/v1/products"]["get"]["parameters"]}
    assert {"pageSize", "pageToken", "filter", "orderBy", "readMask"} <= names


def test_file_names_who_may_call_and_what_can_go_wrong(description: Any) -> None:
    issue = description["paths"]["/v1/tokens:issue"]["post"]
    assert issue["security"] == []
    get = description["paths"]["/v1/products/{product}"]["get"]
    assert get["x-error-reasons"] == ["PRODUCT_NOT_FOUND"]
    assert "products.read" in get["description"]
    assert set(get["responses"]) == {"200", "304", "400", "401", "403", "404", "429", "503", "504", "default"}
    assert "PRODUCT_NOT_FOUND" in get["responses"]["404"]["description"]
    assert set(get["responses"]["200"]["headers"]) == {"ETag", "X-Request-ID"}
    shared = description["components"]["responses"]
    assert "WWW-Authenticate" in shared["Error401"]["headers"]
    assert "Retry-After" in shared["Error429"]["headers"]
    patch = description["paths"]["/v1/products/{product}"]["patch"]
    assert "ETAG_MISMATCH" in patch["responses"]["412"]["description"]


def test_file_has_what_a_request_may_be_apart_from_replies(description: Any) -> None:
    schemas = description["components"]["schemas"]
    assert schemas["ProductInput"]["required"] == ["displayName"]
    assert "required" not in schemas["ProductPatch"]
    assert "required" not in schemas["Product"]
    assert schemas["ProductPatch"]["properties"]["description"]["type"] == ["string", "null"]
    assert schemas["ProductInput"]["properties"]["createTime"]["description"].startswith("Ignored:")
    batch = schemas["BatchCreateProductsRequest"]["properties"]["requests"]["items"]
    assert batch == {"$ref": "#/components/schemas/CreateProductRequestItem"}
    assert "productId" in schemas["CreateProductRequestItem"]["properties"]
    assert schemas["OrderStateInput"]["enum"][:2] == ["ORDER_STATE_UNSPECIFIED", "ORDER_STATE_PLACED"]
    assert 0 in schemas["OrderStateInput"]["enum"]
    labels = schemas["ProductInput"]["properties"]["labels"]
    assert labels["propertyNames"]["minLength"] == 1


def test_gateway_serves_the_file(gateway: GatewayProcess, description: Any) -> None:
    reply = gateway.send("GET", "/openapi.json")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json; charset=utf-8")
    assert json.loads(reply.body) == description


def test_page_runs_and_loads_nothing_of_others(gateway: GatewayProcess) -> None:
    page = gateway.send("GET", "/docs")
    assert page.status == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert b"<script>" not in page.body
    assert b"http" not in page.body
    for path, kind in ASSETS.items():
        assert path.encode() in page.body or path == "/docs/start.js"
        asset = gateway.send("GET", path)
        assert asset.status == 200
        assert asset.headers["content-type"].startswith(kind)


def test_start_page_links_to_pages_that_exist(gateway: GatewayProcess) -> None:
    page = gateway.send("GET", "/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    links = re.findall(rb'<a href="([^"]+)"', page.body)
    assert b"/docs" in links
    assert {gateway.send("GET", link.decode()).status for link in links} == {200}
    assert gateway.send("GET", "/docs/").body == gateway.send("GET", "/docs").body
    assert gateway.send("POST", "/", {}).status == 405
