"""The dry run of an import counts what the import counts: a row with a missing reference fails in both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storekeep.cli.imports import order_runs, taken_stock
from storekeep.cli.imports.order_runs import BATCH_ORDERS_MAX
from storekeep.client import Customer, Location, Storekeep
from tests.support.command_line import CommandLine
from tests.support.pricing import build_price
from tests.support.shops import new_id

FILES = {
    "stock": "sku,quantity\n{sku},5\nNOPE-{mark},6\n",
    "prices": "sku,price,currency,group\n{sku},9,EUR,{mark}\nNOPE-{mark},1,EUR,{mark}\n",
    "coupons": "code,promotion\nC-{mark},nope-{mark}\n",
    "categories": "id,name,parent\nroot-{mark},Root,\nleaf-{mark},Leaf,root-{mark}\nlost-{mark},Lost,nope-{mark}\n",
    "customers": "id,name,city,country\ngood-{mark},Good,Graz,AT\nbad-{mark},Bad,Graz,XX\nlost-{mark},Lost,Graz,\n",
    "products": "sku,name,stock,location\nP-{mark},Tea,3,\nQ-{mark},Tea,3,nope-{mark}\n",
}
"""Kind of import -> rows, of which some refer to what does not exist."""
FAILING = {"coupons": 1, "customers": 2}
"""Kind of import -> its rows that fail (default: 1)."""


@pytest.mark.parametrize("kind", FILES)
def test_dry_run_counts_what_the_import_counts(kind: str, cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(FILES[kind].format(mark=new_id("m"), sku=build_price(client).sku))
    preview, act = run_import(cli, kind, file), run_import(cli, kind, file, "--yes")
    counted = [{name: run[name] for name in ("created", "updated", "unchanged", "failed")} for run in (preview, act)]
    assert counted[0] == counted[1]
    assert counted[0]["failed"] == FAILING.get(kind, 1)
    assert list_failures(preview) == list_failures(act)


def test_dry_run_of_orders_counts_what_the_import_counts(cli: CommandLine, client: Storekeep, tmp_path: Path) -> None:
    mark, sku = new_id("m"), build_price(client).sku
    client.customers.create(Customer(display_name="Ann"), customer_id=f"ann-{mark}")
    file = tmp_path / "orders.csv"
    file.write_text(
        "number,sku,quantity,unit_price,customer,order_date,ship_date\n"
        f"1-{mark},{sku},1,5,ann-{mark},2024-01-01,2024-01-02\n"
        f"2-{mark},NOPE-{mark},1,5,ann-{mark},2024-01-01,2024-01-02\n"
        f"3-{mark},{sku},1,5,nope-{mark},2024-01-01,2024-01-02\n"
    )
    options = ("--set", "currency=EUR")
    preview, act = run_import(cli, "orders", file, *options), run_import(cli, "orders", file, *options, "--yes")
    assert (preview["orders"], preview["rows"]) == (act["orders"], act["rows"])
    assert act["orders"]["leftOut"] == 2, act["told"]


@pytest.mark.parametrize("location", ["", "main"])
def test_dry_run_of_open_orders_in_several_calls_takes_the_stock_once(
    location: str, cli: CommandLine, client: Storekeep, tmp_path: Path
) -> None:
    mark, sku = new_id("m"), build_price(client).sku
    client.customers.create(Customer(display_name="Ann"), customer_id=f"ann-{mark}")
    client.inventory.adjust_stock(f"locations/main/stockLevels/{sku}", quantity_delta=BATCH_ORDERS_MAX + 1)
    file = tmp_path / "orders.csv"
    rows = [f"{number:03}-{mark},{sku},1,5,ann-{mark},2024-01-01,{location}" for number in range(BATCH_ORDERS_MAX + 3)]
    file.write_text("\n".join(("number,sku,quantity,unit_price,customer,order_date,location", *rows)))
    options = ("--set", "currency=EUR")
    preview, act = run_import(cli, "orders", file, *options), run_import(cli, "orders", file, *options, "--yes")
    assert (preview["orders"], list_failures(preview)) == (act["orders"], list_failures(act))
    assert act["orders"] == {"imported": BATCH_ORDERS_MAX + 1, "alreadyThere": 0, "leftOut": 2}


def write_open_orders(client: Storekeep, file: Path, *, kinds: tuple[str, ...]) -> None:
    """Write a file with orders that want more than the stock of two SKUs at four locations.

    Args:
        kinds: what the orders do, in turns: name a location ("one") or none ("any").
    """
    mark, skus = new_id("m"), [build_price(client).sku for _ in range(2)]
    client.customers.create(Customer(display_name="Ann"), customer_id=f"ann-{mark}")
    locations = [f"p{priority}-{mark}" for priority in range(4)]
    for priority, location in enumerate(locations):
        client.inventory.create_location(Location(display_name=location, priority=priority - 500), location_id=location)
        for sku in skus:
            client.inventory.adjust_stock(f"locations/{location}/stockLevels/{sku}", quantity_delta=5)
    rows = ["number,sku,quantity,unit_price,customer,order_date,location"]
    for number in range(40):
        location = locations[-1 - number % 4] if kinds[number * len(kinds) // 40] == "one" else ""
        cells = f"{1 + number % 3},5,ann-{mark},2024-01-01,{location}"
        rows += [f"{number:03}-{mark},{sku},{cells}" for sku in skus]
    file.write_text("\n".join(rows))


ANY_OR_ONE = ("one", "any", "one", "any")


@pytest.mark.parametrize(
    ("kinds", "orders_max", "taken_max"),
    [(ANY_OR_ONE, 3, 5_000), (("one",), 8, 3), (("one", "any"), 8, 8), (("one", "any"), 8, 3)],
    ids=["any or one location", "halves", "halves of mixed calls", "merged locations"],
)
def test_dry_run_of_open_orders_names_all_units_that_matter_for_a_call(
    kinds: tuple[str, ...],
    orders_max: int,
    taken_max: int,
    cli: CommandLine,
    client: Storekeep,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(order_runs, "BATCH_ORDERS_MAX", orders_max)
    monkeypatch.setattr(taken_stock, "TAKEN_MAX", taken_max)
    file = tmp_path / "orders.csv"
    write_open_orders(client, file, kinds=kinds)
    options = ("--set", "currency=EUR")
    preview, act = run_import(cli, "orders", file, *options), run_import(cli, "orders", file, *options, "--yes")
    assert (preview["orders"], list_failures(preview)) == (act["orders"], list_failures(act))
    assert min(act["orders"]["imported"], act["orders"]["leftOut"]) > 5


def list_failures(document: Any) -> list[tuple[int, str]]:
    """Return the line and the reason of each failed row, without the id of the request."""
    return [(one["line"], one["reason"].partition(", request id")[0]) for one in document["failures"]]


def run_import(cli: CommandLine, kind: str, file: Path, *options: str) -> Any:
    run = cli("import", kind, str(file), *options, "--json")
    assert run.code == 5, run.err
    return run.document | {"told": run.err}
