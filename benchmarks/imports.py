"""Measure the lines per second of `storekeep import orders`, from the file to the commit.

Every turn imports the same file into its own database, which already contains the products and customers. The measured
time is that of the whole command, including its start and the summary.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import subjects
from benchmarks.loads.load import Load, LoadFailed
from benchmarks.machine import APART, ROOT, SERVER_CORE, Placement, pin_to_cores
from benchmarks.results import Bar, Figure, Section, format_spread
from benchmarks.rounds import Pace, Spread, Turns
from benchmarks.subjects import Storekeep

COMMAND = Path(sysconfig.get_path("scripts"), "storekeep")
SAMPLE = ROOT.parent / "shared/data/online-retail-sample.csv.gz"
TOGETHER_ON_ONE = Placement(server=(SERVER_CORE,), load=(SERVER_CORE,))
"""The server and the command line share one core."""
LINES_PER_S_MIN = 2_000
COMMAND_TIMEOUT_S = 300.0
DONE, PARTLY = 0, 5
"""Accepted exit codes. Some cancellations in the sample have no matching order, which the command reports."""
PRODUCTS = (
    "products",
    "--distinct",
    "--column",
    "sku=StockCode",
    "--column",
    "id=StockCode",
    "--column",
    "name=Description",
)
CUSTOMERS = ("customers", "--distinct", "--column", "id=CustomerID", "--set", "id=guest", "--set", "name=Somebody")
ORDERS = (
    *("orders", "--cancel-negative", "--shipping-sku", "POST", "--shipping-sku", "DOT", "--shipping-sku", "C2"),
    *("--column", "number=InvoiceNo", "--column", "sku=StockCode", "--column", "quantity=Quantity"),
    *("--column", "unit_price=UnitPrice", "--column", "order_date=InvoiceDate", "--column", "ship_date=InvoiceDate"),
    *("--column", "customer=CustomerID", "--set", "customer=guest", "--set", "currency=GBP"),
)
ONE_CORE, CORE_EACH, AGAIN = (
    "server and command line on one core",
    "a core each",
    "a core each, all there already",
)

SAMPLE_LINES = 30_000
SAMPLE_SKUS = 3_000
SAMPLE_CUSTOMERS = 3_500
LINES_PER_ORDER = 2.5
HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"


@dataclass(frozen=True)
class Tally:
    """What one run of the command did.

    Attributes:
        lines: lines that were imported, or were already in the database.
    """

    orders: int
    lines: int
    load: Load


def measure_imports(folder: Path, pace: Pace) -> Section:
    """Measure how many lines of historic orders are imported per second."""
    file = folder / "invoices.csv"
    file.write_bytes(gzip.decompress(SAMPLE.read_bytes()) if SAMPLE.is_file() else _make_sample())
    catalogue = folder / "catalogue"
    with subjects.run_storekeep(catalogue) as shop:
        for kind in (PRODUCTS, CUSTOMERS):
            _run(shop, file, kind)
    tallies: dict[str, list[Tally]] = {ONE_CORE: [], CORE_EACH: [], AGAIN: []}
    for number in range(pace.rounds):
        with _serve_copy(catalogue, folder / f"one-{number}", TOGETHER_ON_ONE) as shop:
            tallies[ONE_CORE].append(_import_orders(shop, file))
        with _serve_copy(catalogue, folder / f"apart-{number}", APART) as shop:
            tallies[CORE_EACH].append(_import_orders(shop, file))
            tallies[AGAIN].append(_import_orders(shop, file))
    turns = [Turns(name, tuple(tally.load for tally in runs)) for name, runs in tallies.items()]
    bars = [Bar(f"lines/s, {each.name}", each.per_s, LINES_PER_S_MIN) for each in turns if each.name != AGAIN]
    first = tallies[ONE_CORE][0]
    notes = (
        f"{'The sample of Online Retail' if SAMPLE.is_file() else 'A made-up file'}: "
        f"{first.lines:,} lines in {first.orders:,} orders were imported, each with a fulfilment.",
    )
    return Section("Imports of historic orders", _build_figures(turns), bars, notes)


def _build_figures(turns: Sequence[Turns]) -> list[Figure]:
    columns: dict[str, Callable[[Turns], Spread]] = {
        "server CPU, s per 1,000 lines": lambda each: each.server_ms,
        "command's CPU, s per 1,000 lines": lambda each: each.client_ms,
    }
    return [
        Figure(
            each.name,
            {"lines/s": format_spread(each.per_s)}
            | {name: format_spread(column(each), 2) for name, column in columns.items()},
        )
        for each in turns
    ]


@contextlib.contextmanager
def _serve_copy(catalogue: Path, folder: Path, placement: Placement) -> Iterator[Storekeep]:
    """Run a server on a copy of a database, and delete the copy afterwards."""
    shutil.copytree(catalogue, folder)
    with subjects.run_storekeep(folder, placement=placement) as shop:
        yield shop
    shutil.rmtree(folder)


def _import_orders(shop: Storekeep, file: Path) -> Tally:
    """Run one turn.

    Raises: LoadFailed if the database does not contain all orders that the command reports.
    """
    server_before, client_before = shop.server.read_cpu_s(), _read_children_cpu_s()
    began = time.monotonic()
    report = _run(shop, file, ORDERS)
    seconds = time.monotonic() - began
    load = Load(
        answered=_count_done(report["rows"]),
        seconds=seconds,
        server_cpu_s=shop.server.read_cpu_s() - server_before,
        client_cpu_s=_read_children_cpu_s() - client_before,
    )
    orders = _count_done(report["orders"])
    if orders != shop.database.count_orders():
        raise LoadFailed(f"{orders} orders were reported, {shop.database.count_orders()} are in the database")
    return Tally(orders, load.answered, load)


def _count_done(counts: dict[str, int]) -> int:
    return counts["imported"] + counts["alreadyThere"]


def _run(shop: Storekeep, file: Path, kind: Sequence[str]) -> dict[str, dict[str, int]]:
    """Import a file with the command line and return its JSON report.

    Raises: LoadFailed if the command fails.
    """
    noun, *options = kind
    command = [str(COMMAND), "import", noun, str(file), *options, "--yes", "--json", "--address", shop.server.address]
    ended = subprocess.run(
        pin_to_cores(shop.server.placement.load, command),
        env={**os.environ, "STOREKEEP_API_KEY": shop.api_key},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
    )
    if ended.returncode not in (DONE, PARTLY):
        raise LoadFailed(f"import {noun}: {ended.stderr[-2000:]}")
    report: dict[str, dict[str, int]] = json.loads(ended.stdout)
    return report


def _read_children_cpu_s() -> float:
    """Return the processor time of all commands that have ended, in seconds."""
    times = os.times()
    return times.children_user + times.children_system


def _make_sample() -> bytes:
    """Return a generated file in the format of the sample, for machines without the sample."""
    chance = random.Random(4)
    lines = [HEADER]
    number = 500_000
    for index in range(SAMPLE_LINES):
        if chance.random() < 1 / LINES_PER_ORDER or not index:
            number += 1
            day = f"2011-{1 + number % 12:02}-{1 + number % 28:02} 12:00:00"
            customer = chance.randrange(SAMPLE_CUSTOMERS)
        sku, pence = chance.randrange(SAMPLE_SKUS), chance.randrange(1, 2000)
        quantity = chance.randrange(1, 24)
        price = f"{pence // 100}.{pence % 100:02}"
        lines.append(f"{number},SKU-{sku:04},Thing no. {sku},{quantity},{day},{price},C-{customer},United Kingdom")
    return "\n".join([*lines, ""]).encode()
