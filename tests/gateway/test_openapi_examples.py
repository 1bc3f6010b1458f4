"""The examples of OpenAPI were really run: a test runs them again, and their replies are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.walk.record import EXAMPLES, Walk, send_to, write
from storekeep.gateway.routes import build_routes
from tests.support.checkout import ROOT
from tests.support.gateways import GatewayProcess
from tests.support.processes import ServerProcess

pytestmark = pytest.mark.engine("sqlite", reason="the gateway reaches either database through the same server")


@pytest.fixture(scope="module")
def description() -> Any:
    return yaml.load((ROOT / "docs/reference/openapi.yaml").read_text(), Loader=yaml.CSafeLoader)


def test_examples_are_those_of_a_run(walk_server: ServerProcess, tmp_path: Path) -> None:
    """`python -m docs.walk.record` records them again after a change."""
    gateway = GatewayProcess(tmp_path, server_address=walk_server.address, api_key=walk_server.admin_key)
    walk = Walk(lambda *request: send_to(gateway, *request))
    try:
        walk.run()
    finally:
        gateway.process.kill()
    assert write(walk.examples) == EXAMPLES.read_text()


def test_each_operation_has_an_example() -> None:
    unary = {f"{route.http_method} {route.template}" for route in build_routes() if not route.rpc.server_streaming}
    assert unary == set(json.loads(EXAMPLES.read_text()))


def test_examples_fit_their_schemas(description: Any) -> None:
    """Bodies and replies are valid, and so are the parameters."""
    # Its import builds grammars for 1.4 s of CPU, and each process of a run imports all files.
    from jsonschema import Draft202012Validator

    checked = 0
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            reply = operation["responses"]["200"]["content"]
            contents = [*operation.get("requestBody", {}).get("content", {}).values(), *reply.values()]
            given = [item for item in (*operation["parameters"], *contents) if "example" in item]
            for item in given:
                schema = item["schema"] | {"components": description["components"]}
                problems = [error.message for error in Draft202012Validator(schema).iter_errors(item["example"])]
                assert problems == [], f"{method} {path}"
            checked += len(given)
    assert checked > 2 * len(build_routes())
