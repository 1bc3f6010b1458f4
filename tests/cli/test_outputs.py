"""The options --output, --json and --columns: every format has the same results, and wrong choices are refused."""

from __future__ import annotations

import csv
import io
import json

import pytest

from tests.support.command_line import CommandLine


@pytest.fixture
def listed(cli: CommandLine) -> str:
    """Return the filter of two customers, one with an address, and with a value that needs quotes."""
    if cli("customers", "show", "out-a").code:
        address = ("--city", "Graz", "--country", "AT")
        cli.json("customers", "create", "--id", "out-a", "--name", 'A, "b"', "--label", "test=outputs", *address)
        cli.json("customers", "create", "--id", "out-b", "--name", "=1+1", "--label", "test=outputs")
    return "labels.test = outputs"


def list_rows(cli: CommandLine, listed: str, *options: str) -> list[list[str]]:
    run = cli("customers", "list", "--filter", listed, "--order-by", "create_time", "-o", "csv", *options)
    assert run.code == 0, run.err
    return list(csv.reader(io.StringIO(run.out)))


def test_list_is_written_in_each_format(cli: CommandLine, listed: str) -> None:
    query = ("customers", "list", "--filter", listed, "--order-by", "create_time")
    assert cli(*query, "--output", "name").out == "customers/out-a\ncustomers/out-b\n"
    assert cli(*query, "--output", "json").out == cli(*query, "--json").out
    assert cli(*query, "-o", "table").out == cli(*query).out
    for command in (query, ("customers", "show", "out-a"), ("health",)):
        lines = cli(*command).out.splitlines()
        assert lines == [line.rstrip() for line in lines]
        assert len(lines) > 1
    header, first, second = list_rows(cli, listed)
    assert header == ["name", "display_name", "email", "phone", "update_time"]
    assert first[:2] == ["customers/out-a", 'A, "b"']
    assert second[:2] == ["customers/out-b", "=1+1"]


def test_columns_are_chosen_also_from_inside_of_fields(cli: CommandLine, listed: str) -> None:
    columns = "name,labels.test,addresses.address.region_code,labels.none"
    rows = list_rows(cli, listed, "--columns", columns)
    assert rows == [
        columns.split(","),
        ["customers/out-a", "outputs", "AT", ""],
        ["customers/out-b", "outputs", "", ""],
    ]
    documents = cli.json(
        "customers", "list", "--filter", listed, "--columns", "display_name,name", "--order-by", "create_time"
    )
    assert [list(document) for document in documents] == [["displayName", "name"]] * 2
    table = cli("customers", "show", "out-a", "--columns", "name,labels.test").out
    assert [line.split() for line in table.splitlines()] == [["name", "customers/out-a"], ["labels.test", "outputs"]]
    assert cli("health", "--columns", "status", "-o", "csv").out.splitlines()[:2] == ["status", "SERVING"]


def test_show_is_written_in_each_format(cli: CommandLine, listed: str) -> None:
    assert cli("customers", "show", "out-a", "-o", "name").out == "customers/out-a\n"
    (row,) = csv.DictReader(io.StringIO(cli("customers", "show", "out-a", "-o", "csv").out))
    assert row["labels"] == "test=outputs"
    assert cli("customers", "delete", "out-b", "--dry-run", "-o", "name").out == "customers/out-b\n"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--columns", "nme"), "no such column: nme; did you mean name?"),
        (("--columns", "addresses.lable"), "no such column: addresses.lable; did you mean addresses.label?"),
        (("--columns", "labels.gift,nope", "-o", "csv"), "no such column: nope"),
        (("--columns", "x"), "no such column: x; the columns are name, display_name"),
        (("--columns", "name.x"), "no such column: name.x; name has no parts"),
        (("--columns", "name,,etag"), "empty name"),
        (("--columns", "name,name"), "twice"),
        (("--columns", "name", "-o", "name"), "takes no --columns"),
        (("--json", "-o", "csv"), "use one of them"),
        (("-o", "xml"), "'xml' is not a choice"),
    ],
)
def test_wrong_choice_is_refused(cli: CommandLine, listed: str, options: tuple[str, ...], problem: str) -> None:
    run = cli("customers", "list", "--filter", listed, *options)
    assert (run.code, run.out) == (2, "")
    assert problem in run.err


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_wrong_column_is_refused_also_without_rows(cli: CommandLine, form: str) -> None:
    nothing = ("--filter", "sku = none", "--columns", "bogus", "-o", form)
    for command in (
        ("variants", "list", *nothing),
        ("stock", "list", *nothing),
        ("stock", "show", *nothing[2:], "N-1"),
    ):
        run = cli(*command)
        assert (run.code, run.out) == (2, ""), command
        assert "no such column: bogus" in run.err


def test_secret_is_not_lost_in_names(cli: CommandLine) -> None:
    run = cli("keys", "create", "admin", "-o", "name")
    assert run.code == 2
    assert "would not show the secret" in run.err


def test_order_in_other_formats_is_one_row(cli: CommandLine, listed: str) -> None:
    cli.json("products", "create", "--id", "out-tea", "--name", "Tea")
    cli.json("variants", "create", "out-tea", "--id", "v", "--sku", "OUT-TEA", "--price", "EUR=2")
    cli.json("stock", "set", "OUT-TEA", "5")
    order = ("orders", "place", "--customer", "out-a", "--line", "OUT-TEA=2", "--currency", "EUR")
    name = cli(*order, "-o", "name").out.strip()
    columns = "number,total,lines.sku,customer"
    (row,) = csv.DictReader(io.StringIO(cli("orders", "show", name, "-o", "csv", "--columns", columns).out))
    assert (row["total"], row["lines.sku"], row["customer"]) == ("4.00 EUR", "OUT-TEA", "customers/out-a")
    (whole,) = csv.DictReader(io.StringIO(cli("orders", "show", name, "-o", "csv").out))
    (line,) = json.loads(whole["lines"])
    assert (line["sku"], line["quantity"]) == ("OUT-TEA", "2")
    listing = cli("orders", "list", "--customer", "out-a", "--json", "--columns", "number,total.units")
    assert json.loads(listing.out)[0]["total"]["units"] == "4"


def test_quantity_rules_have_their_names(cli: CommandLine) -> None:
    cli.json("products", "create", "--id", "out-box", "--name", "Box")
    rules = ("--minimum", "6", "--multiple", "3")
    made = cli("variants", "create", "out-box", "--id", "v", "--sku", "OUT-BOX", *rules)
    assert "minimum 6, multiple 3" in made.out
