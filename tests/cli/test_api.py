"""`storekeep api` calls any method of the contract, with requests and replies in JSON."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.scripted_server import METHODS


def test_all_methods_of_the_contract_are_listed(cli: CommandLine) -> None:
    listed = {row["method"] for row in cli.json("api")}
    assert listed == {"/".join(path.rpartition(".")[2].split("/")) for path in METHODS}


@pytest.mark.parametrize(
    "name",
    ["CreateProduct", "createproduct", "ProductService/CreateProduct", "storekeep.v1.ProductService.CreateProduct"],
)
def test_dry_run_of_a_mutation_stores_nothing(cli: CommandLine, name: str) -> None:
    request = '{"product": {"displayName": "Api tea"}, "productId": "api-dry"}'
    run = cli("api", name, request, "--dry-run")
    assert (run.code, run.document["name"]) == (0, "products/api-dry"), run.err
    assert "Dry run" in run.err
    assert cli("api", "GetProduct", '{"name": "products/api-dry"}').code == 1


def test_request_is_read_from_a_file_or_stdin(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "request.json"
    file.write_text('{"product": {"displayName": "Api tea"}, "validate_only": true}')
    assert cli.json("api", "CreateProduct", "--input", str(file))["displayName"] == "Api tea"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"pageSize": 1}')))
    assert len(cli.json("api", "ListRoles", "--input", "-")["roles"]) == 1


def test_all_pages_are_one_reply(cli: CommandLine) -> None:
    whole = cli.json("api", "ListRoles", '{"pageSize": 1000}')
    pages = cli.json("api", "ListRoles", '{"pageSize": 1}', "--paginate")
    assert len(pages["roles"]) > 1
    assert pages == whole


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (("PlaceOrdr",), 2, "no such method: PlaceOrdr; did you mean PlaceOrder?"),
        (("OrderService/GetProduct",), 2, "no such method"),
        (("GetProduct", "{"), 2, "not a valid GetProductRequest in JSON"),
        (("GetProduct", "[1]"), 2, "not a valid GetProductRequest in JSON"),
        (("GetProduct", '{"nme": "x"}'), 2, "GetProductRequest has no field nme; did you mean name? (see"),
        (("PlaceOrder", '{"lines": [{"skuu": "x"}]}'), 2, "PlaceOrderLine has no field skuu; did you mean sku? (see"),
        (("GetProduct", '{"name": 1e999}'), 2, "not a valid GetProductRequest in JSON"),
        (("GetProduct", '{"name": "\\ud800"}'), 2, "not a valid GetProductRequest in JSON"),
        (("GetProduct", "[" * 50_000), 2, "not a valid GetProductRequest in JSON"),
        (("ListRoles", '{"pageSize": ' + "9" * 5_000 + "}"), 2, "not a valid ListRolesRequest in JSON"),
        (("GetProduct", "{}"), 1, "INVALID_FIELD"),
        (("GetProduct", '{"name": "products/nope"}'), 1, "PRODUCT_NOT_FOUND"),
        (("GetProduct", "--dry-run"), 2, "no dry run"),
        (("GetProduct", "--paginate"), 2, "no pages"),
        (("GetProduct", "-o", "csv"), 2, "is JSON"),
        (("GetProduct", "{}", "--input", "-"), 2, "not both"),
        (("GetProduct", "--input", "/nonexistent"), 2, "cannot read /nonexistent: no such file"),
        (("GetProduct", "--input", "/dev/zero"), 2, "cannot read /dev/zero: larger than 16777216 bytes"),
    ],
)
def test_wrong_call_is_one_clear_line(cli: CommandLine, arguments: tuple[str, ...], code: int, problem: str) -> None:
    run = cli("api", *arguments)
    assert (run.code, run.out) == (code, "")
    assert problem in run.err
    assert run.err.count("\n") == 1
    assert len(run.err) < 1_000


def test_request_without_an_id_gets_one_and_a_given_one_is_kept(cli: CommandLine) -> None:
    request = {"product": {"displayName": "Api tea"}, "requestId": "01890a5d-ac96-774b-bcce-b302099a8057"}
    first = cli.json("api", "CreateProduct", json.dumps(request))
    assert cli.json("api", "CreateProduct", json.dumps(request))["name"] == first["name"]
    del request["requestId"]
    assert cli.json("api", "CreateProduct", json.dumps(request))["name"] != first["name"]
