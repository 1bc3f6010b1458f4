"""The sample of Online Retail imported as historic orders: every row is imported, cancels units, or is reported.

The expected results are computed from the raw file alone, independently of the importer.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import os
import sysconfig
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from storekeep.client import Order, OrderState, Storekeep, to_decimal
from tests.support.forks import run_fork
from tests.support.processes import ServerProcess

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared/data/online-retail-sample.csv.gz"
COMMAND = Path(sysconfig.get_path("scripts"), "storekeep")
ROWS = {"sqlite": 30_000, "postgresql": 8_000}
"""Rows that are imported: on SQLite the whole file, on PostgreSQL its beginning, because the importer is the same."""
CANCELLING_MIN = {"sqlite": 40, "postgresql": 4}
"""Fewest of these rows that cancel units of others, so that the rule is tested."""
SHIPPING = ("POST", "DOT", "C2")
PRODUCTS = ("--column", "sku=StockCode", "--column", "id=StockCode", "--column", "name=Description")
CUSTOMERS = ("--column", "id=CustomerID", "--set", "id=guest", "--column", "name=CustomerID", "--set", "name=Guest")
ORDERS = (
    *("--cancel-negative", "--shipping-sku", "POST", "--shipping-sku", "DOT", "--shipping-sku", "C2"),
    *("--column", "number=InvoiceNo", "--column", "sku=StockCode", "--column", "quantity=Quantity"),
    *("--column", "unit_price=UnitPrice", "--column", "order_date=InvoiceDate", "--column", "ship_date=InvoiceDate"),
    *("--time-zone", "Europe/London", "--column", "customer=CustomerID", "--set", "customer=guest"),
    *("--set", "currency=GBP"),
)

pytestmark = pytest.mark.skipif(not DATA.is_file(), reason=f"there is no file {DATA}")


@dataclass
class Row:
    """A line of the file. `left` is the number of its units that are not cancelled."""

    line: int
    number: str
    code: str
    units: int
    price: Decimal
    placed: str
    customer: str
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.units


@dataclass
class Expected:
    """The expected result of the import, by the rules of docs/cli.md.

    Attributes:
        orders: the rows of each importable order, by order number.
        cancels: the lines whose units a row cancels, by the line of the cancelling row.
        left_out: the lines of all rows that are not imported.
    """

    rows: list[Row]
    described: set[str]

    @cached_property
    def orders(self) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows:
            if row.units > 0:
                found[row.number].append(row)
        bad = {row.number for row in self.rows if row.code in SHIPPING and row.units < 0}
        assert not bad & found.keys()
        return {
            number: rows
            for number, rows in found.items()
            if any(row.code not in SHIPPING for row in rows)
            and all(row.code in self.described or row.code in SHIPPING for row in rows)
        }

    @cached_property
    def cancels(self) -> dict[int, list[int]]:
        sold: dict[tuple[str, str, Decimal], list[Row]] = defaultdict(list)
        for row in self.rows:
            if row.units > 0 and row.code not in SHIPPING:
                sold[row.customer, row.code, row.price].append(row)
        found: dict[int, list[int]] = {}
        wanting = [row for row in self.rows if row.units < 0 and row.code not in SHIPPING]
        for row in sorted(wanting, key=lambda row: (row.placed, row.line)):
            earlier = [one for one in sold[row.customer, row.code, row.price] if one.placed <= row.placed]
            earlier.sort(key=lambda one: (one.placed, one.line), reverse=True)
            if sum(one.left for one in earlier) < -row.units:
                continue
            missing = -row.units
            found[row.line] = []
            for one in earlier:
                taken = min(one.left, missing)
                if taken:
                    found[row.line].append(one.line)
                    one.left -= taken
                    missing -= taken
        return found

    @cached_property
    def left_out(self) -> set[int]:
        imported = {row.line for rows in self.orders.values() for row in rows}
        cancelling = {line for line, lines in self.cancels.items() if imported.issuperset(lines)}
        return {row.line for row in self.rows} - imported - cancelling

    def total(self, number: str) -> Decimal:
        assert self.cancels
        return sum((row.price * row.left for row in self.orders[number]), Decimal())


@dataclass
class Import:
    """The reports of the imports."""

    first: Any
    again: Any
    report: list[dict[str, str]]


@pytest.fixture(scope="module")
def content(engine: str) -> str:
    """The part of the file that is imported, with its header."""
    with gzip.open(DATA, "rt", encoding="utf-8", newline="") as file:
        return "".join(itertools.islice(file, 1 + ROWS[engine]))


@pytest.fixture(scope="module")
def expected(content: str) -> Expected:
    raw = list(csv.DictReader(io.StringIO(content, newline="")))
    rows = [
        Row(
            line=line,
            number=row["InvoiceNo"],
            code=row["StockCode"],
            units=int(row["Quantity"]),
            price=Decimal(row["UnitPrice"]),
            placed=row["InvoiceDate"],
            customer=row["CustomerID"] or "guest",
        )
        for line, row in enumerate(raw, start=2)
    ]
    return Expected(rows, {row["StockCode"] for row in raw if row["Description"].strip()})


@pytest.fixture(scope="module")
def imports(server: ServerProcess, content: str, tmp_path_factory: pytest.TempPathFactory) -> Import:
    folder = tmp_path_factory.mktemp("retail")
    file, report = folder / "retail.csv", folder / "left-out.csv"
    file.write_text(content, encoding="utf-8", newline="")
    for kind, columns in (("products", PRODUCTS), ("customers", CUSTOMERS)):
        run_import(server, kind, str(file), "--distinct", *columns)
    orders = ("orders", str(file), *ORDERS, "--report", str(report))
    first = run_import(server, *orders)
    with report.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    return Import(first, run_import(server, *orders), rows)


def run_import(server: ServerProcess, *arguments: str) -> Any:
    access = {"STOREKEEP_ADDRESS": server.address, "STOREKEEP_API_KEY": server.admin_key}
    command = [COMMAND, "import", *arguments, "--yes", "--json"]
    ended = run_fork(command, environment=os.environ | access, timeout_s=300)
    assert ended.returncode in (0, 5), ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def orders(imports: Import, client: Storekeep) -> dict[str, Order]:
    """Return the server's orders by number."""
    return {order.number: order for order in client.orders.list(page_size=1000)}


def test_every_row_is_imported_cancels_or_is_reported(imports: Import, expected: Expected, engine: str):
    rows = imports.first["rows"]
    assert rows["total"] == len(expected.rows) == ROWS[engine]
    assert rows["imported"] == sum(len(lines) for lines in expected.orders.values())
    parts = ("imported", "alreadyThere", "cancellations", "leftOut", "skipped")
    assert sum(rows[part] for part in parts) == ROWS[engine]
    assert {int(row["line"]) for row in imports.report} == expected.left_out
    assert len(imports.report) == len(expected.left_out) == rows["leftOut"]
    assert all(row["reason"] for row in imports.report)


def test_orders_cost_to_the_penny_what_the_file_says(orders: dict[str, Order], expected: Expected):
    totals = {number: to_decimal(order.total) for number, order in orders.items()}
    assert totals == {number: expected.total(number) for number in expected.orders}


def test_cancelled_units_are_those_of_the_rule(orders: dict[str, Order], expected: Expected, engine: str):
    assert len(expected.cancels) >= CANCELLING_MIN[engine]
    for number, rows in expected.orders.items():
        goods = [row for row in rows if row.code not in SHIPPING]
        lines = [(line.sku, line.quantity, line.cancelled_quantity) for line in orders[number].lines]
        assert lines == [(row.code, row.units, row.units - row.left) for row in goods]
        alive = any(row.left for row in goods)
        state = OrderState.ORDER_STATE_FULFILLED if alive else OrderState.ORDER_STATE_CANCELLED
        assert orders[number].state == state


def test_orders_have_their_customers_dates_and_shipping(orders: dict[str, Order], expected: Expected):
    for number, rows in expected.orders.items():
        order = orders[number]
        placed = datetime.fromisoformat(min(row.placed for row in rows)).replace(tzinfo=ZoneInfo("Europe/London"))
        assert order.customer == f"customers/{rows[0].customer}"
        assert order.create_time.ToDatetime(tzinfo=UTC) == placed
        assert to_decimal(order.shipping) == sum(row.price * row.units for row in rows if row.code in SHIPPING)


def test_nothing_of_it_touches_stock(imports: Import, client: Storekeep):
    assert not list(client.inventory.list_stock_levels(page_size=1000))
    assert not list(client.inventory.list_stock_movements(page_size=1000))


def test_import_again_changes_nothing(imports: Import):
    assert imports.again["orders"]["imported"] == 0
    assert imports.again["orders"]["alreadyThere"] == imports.first["orders"]["imported"]
    assert imports.again["failures"] == imports.first["failures"]


def test_database_is_verified(imports: Import, server: ServerProcess):
    verified = server.run("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
