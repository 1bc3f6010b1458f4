"""Northwind's products and customers imported with the command line, and orders placed by a script.

The expected results are computed from the files alone, independently of the server.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from storekeep.client import Order, ProductState, Storekeep, to_decimal
from tests.support.forks import run_fork
from tests.support.processes import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("STOREKEEP_REAL_DATA") or ROOT.parent / "shared/data/northwind")
SCRIPT = Path(__file__).with_name("place_northwind_orders.py")
COMMAND = Path(sysconfig.get_path("scripts"), "storekeep")
PRODUCT_COLUMNS = (
    *("--column", "sku=productID", "--column", "name=productName", "--column", "category=categoryID"),
    *("--column", "description=quantityPerUnit", "--column", "price=unitPrice", "--set", "currency=USD"),
    *("--column", "stock=unitsInStock", "--column", "discontinued=discontinued"),
)
CUSTOMER_COLUMNS = (
    *("--column", "id=customerID", "--column", "name=companyName", "--column", "recipient=contactName"),
    *("--column", "address=address", "--column", "city=city", "--column", "region=region"),
    *("--column", "postal_code=postalCode", "--column", "country=country", "--column", "phone=phone"),
)
MONTH = "1996-07"
REFUSAL = re.compile(r"^(\d+) .* refused: ([A-Z_]+): .+$", re.MULTILINE)
PLACED = re.compile(r"^(\d+) .* (\d+\.\d\d) USD  (orders/\S+)$", re.MULTILINE)
STOCK = re.compile(r"^(\d+) +(\d+) +(\d+) +(\d+)$", re.MULTILINE)

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"there is no folder {DATA}; STOREKEEP_REAL_DATA names another"
)


class Run(NamedTuple):
    """The results of the two imports, the script and the server."""

    imports: dict[str, Any]
    imports_again: dict[str, Any]
    output: str
    output_again: str


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def storekeep(server: ServerProcess, *arguments: str) -> Any:
    """Run the command line and return its JSON document."""
    ended = run_fork([COMMAND, *arguments, "--json"], environment=os.environ | access(server), timeout_s=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout)


def access(server: ServerProcess) -> dict[str, str]:
    """Return the variables that log the command line in as the administrator."""
    return {"STOREKEEP_ADDRESS": server.address, "STOREKEEP_API_KEY": server.admin_key}


def run(command: list[str], *, server: ServerProcess) -> str:
    ended = subprocess.run(command, env=os.environ | access(server), capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def import_all(server: ServerProcess) -> dict[str, Any]:
    return {
        "products": storekeep(server, "import", "products", str(DATA / "products.csv"), *PRODUCT_COLUMNS, "--yes"),
        "customers": storekeep(server, "import", "customers", str(DATA / "customers.csv"), *CUSTOMER_COLUMNS, "--yes"),
    }


@pytest.fixture(scope="module")
def northwind(server: ServerProcess) -> Run:
    for row in rows("categories.csv"):
        storekeep(server, "categories", "create", "--id", row["categoryID"], "--name", row["categoryName"])
    place = [sys.executable, str(SCRIPT), "--data", str(DATA)]
    return Run(import_all(server), import_all(server), run(place, server=server), run(place, server=server))


@pytest.fixture(scope="module")
def placed(northwind: Run, client: Storekeep) -> dict[str, Order]:
    """Return the server's orders by Northwind's number."""
    return {order.external_reference: order for order in client.orders.list(page_size=1000)}


def old_orders() -> dict[str, Counter[str]]:
    """Return Northwind's orders of the month, as units by SKU."""
    numbers = [row["orderID"] for row in rows("orders.csv") if row["orderDate"].startswith(MONTH)]
    wanted: dict[str, Counter[str]] = {number: Counter() for number in numbers}
    for row in rows("order-details.csv"):
        if row["orderID"] in wanted:
            wanted[row["orderID"]][row["productID"]] += int(row["quantity"])
    return wanted


def expected_outcomes() -> Iterator[tuple[str, str]]:
    """Return the expected outcome of each order: its total, or the reason of its failure."""
    products = {row["productID"]: row for row in rows("products.csv")}
    left = {sku: int(product["unitsInStock"]) for sku, product in products.items()}
    for number, units in old_orders().items():
        if any(products[sku]["discontinued"] == "1" for sku in units):
            yield number, "NOT_FOR_SALE"
        elif any(left[sku] < count for sku, count in units.items()):
            yield number, "OUT_OF_STOCK"
        else:
            left = {sku: count - units[sku] for sku, count in left.items()}
            yield number, str(sum(Decimal(products[sku]["unitPrice"]) * count for sku, count in units.items()))


def test_import_brings_every_product_and_customer(northwind: Run, client: Storekeep):
    assert northwind.imports["products"]["created"] == len(rows("products.csv")) == 77
    assert northwind.imports["customers"]["created"] == 91
    assert not northwind.imports["products"]["failures"] + northwind.imports["customers"]["failures"]
    assert len(list(client.products.list(page_size=1000))) == 77
    assert len(list(client.customers.list(page_size=1000))) == 91


def test_import_again_changes_nothing(northwind: Run):
    for kind, count in (("products", 77), ("customers", 91)):
        again = northwind.imports_again[kind]
        assert (again["created"], again["updated"], again["unchanged"], again["failed"]) == (0, 0, count, 0)


def test_discontinued_products_are_archived(northwind: Run, client: Storekeep):
    states = {product.name: product.state for product in client.products.list(page_size=1000)}
    archived = {name for name, state in states.items() if state == ProductState.PRODUCT_STATE_ARCHIVED}
    assert archived == {f"products/{row['productID']}" for row in rows("products.csv") if row["discontinued"] == "1"}


def test_stock_on_hand_is_what_the_file_says(northwind: Run, client: Storekeep):
    on_hand = {level.sku: level.on_hand for level in client.inventory.list_stock_levels(page_size=1000)}
    assert on_hand == {row["productID"]: int(row["unitsInStock"]) for row in rows("products.csv")}


def test_each_order_of_the_month_is_placed_at_list_price_or_refused_with_its_reason(northwind: Run, placed):
    expected = dict(expected_outcomes())
    told = {number: total for number, total, _ in PLACED.findall(northwind.output)}
    refused = dict(REFUSAL.findall(northwind.output))
    assert told | refused == expected
    assert told
    assert set(refused.values()) == {"NOT_FOR_SALE", "OUT_OF_STOCK"}
    assert {number: f"{to_decimal(order.total):.2f}" for number, order in placed.items()} == told


def test_orders_hold_what_northwind_sold(placed: dict[str, Order]):
    dates = {row["orderID"]: row["orderDate"].split()[0] for row in rows("orders.csv")}
    wanted = old_orders()
    for number, order in placed.items():
        assert Counter({line.sku: line.quantity for line in order.lines}) == wanted[number]
        assert dates[number] in order.note


def test_stock_allocated_is_what_the_placed_orders_hold(northwind: Run, placed, client: Storekeep):
    held: Counter[str] = Counter()
    for number in placed:
        held += old_orders()[number]
    levels = {level.sku: level for level in client.inventory.list_stock_levels(page_size=1000)}
    assert {sku: level.allocated for sku, level in levels.items() if level.allocated} == dict(held)
    shown = {sku: tuple(map(int, counts)) for sku, *counts in STOCK.findall(northwind.output)}
    assert shown == {sku: (levels[sku].on_hand, count, levels[sku].on_hand - count) for sku, count in held.items()}


def test_refused_orders_leave_no_trace(northwind: Run, placed, client: Storekeep):
    assert not {number for number, _ in REFUSAL.findall(northwind.output)} & placed.keys()
    changed = [entry.resource for entry in client.audit.list(filter='method = "storekeep.v1.OrderService/PlaceOrder"')]
    assert sorted(changed) == sorted(order.name for order in placed.values())


def test_script_run_again_orders_nothing_twice(northwind: Run, placed):
    assert PLACED.findall(northwind.output_again) == PLACED.findall(northwind.output)
    assert len(placed) == len(PLACED.findall(northwind.output))


def test_database_is_verified(northwind: Run, server: ServerProcess):
    verified = server.run("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
