"""`storekeep import orders`: lines a second, from the file to the commit, through the command line and gRPC.

Every turn imports the same file into a database of its own that has the products and customers already. What is timed
is the whole command: its start, reading the file, sending, and the summary.
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
from benchmarks.machine import APART, ROOT, SERVER_CORE, Placement, on_cores
from benchmarks.results import Bar, Figure, Section, span
from benchmarks.rounds import Pace, Spread, Turns
from benchmarks.subjects import Storekeep

COMMAND = Path(sysconfig.get_path("scripts"), "storekeep")
SAMPLE = ROOT.parent / "shared/data/online-retail-sample.csv.gz"
TOGETHER_ON_ONE = Placement(server=(SERVER_CORE,), load=(SERVER_CORE,))
"""Server and command line share one core, and nothing runs on any other."""
LINES_PER_S_MIN = 2_000
COMMAND_TIMEOUT_S = 300.0
DONE, PARTLY = 0, 5
"""Exit codes: of the sample, some cancellations find nothing to cancel, which is told."""
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

MADE_UP_LINES = 30_000
MADE_UP_SKUS = 3_000
MADE_UP_CUSTOMERS = 3_500
LINES_PER_ORDER = 2.5
HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"


@dataclass(frozen=True)
class Tally:
    """What one run of the command did.

    Attributes:
        lines: that were imported, or there already.
    """

    orders: int
    lines: int
    load: Load


def imports(folder: Path, pace: Pace) -> Section:
    """Measure how many lines of historic orders are imported in a second."""
    file = folder / "invoices.csv"
    file.write_bytes(gzip.decompress(SAMPLE.read_bytes()) if SAMPLE.is_file() else _made_up())
    catalogue = folder / "catalogue"
    with subjects.storekeep(catalogue) as shop:
        for kind in (PRODUCTS, CUSTOMERS):
            _run(shop, file, kind)
    tallies: dict[str, list[Tally]] = {ONE_CORE: [], CORE_EACH: [], AGAIN: []}
    for number in range(pace.rounds):
        with _fresh(catalogue, folder / f"one-{number}", TOGETHER_ON_ONE) as shop:
            tallies[ONE_CORE].append(_import_orders(shop, file))
        with _fresh(catalogue, folder / f"apart-{number}", APART) as shop:
            tallies[CORE_EACH].append(_import_orders(shop, file))
            tallies[AGAIN].append(_import_orders(shop, file))
    turns = [Turns(name, tuple(tally.load for tally in runs)) for name, runs in tallies.items()]
    bars = [Bar(f"lines/s, {each.name}", each.per_s, LINES_PER_S_MIN) for each in turns if each.name != AGAIN]
    first = tallies[ONE_CORE][0]
    notes = (
        f"{'The sample of Online Retail' if SAMPLE.is_file() else 'A made-up file'}: "
        f"{first.lines:,} lines in {first.orders:,} orders were imported, each with a fulfilment.",
    )
    return Section("Imports of historic orders", _figures(turns), bars, notes)


def _figures(turns: Sequence[Turns]) -> list[Figure]:
    columns: dict[str, Callable[[Turns], Spread]] = {
        "server CPU, s per 1,000 lines": lambda each: each.server_ms,
        "command's CPU, s per 1,000 lines": lambda each: each.client_ms,
    }
    return [
        Figure(
            each.name,
            {"lines/s": span(each.per_s)} | {name: span(column(each), 2) for name, column in columns.items()},
        )
        for each in turns
    ]


@contextlib.contextmanager
def _fresh(catalogue: Path, folder: Path, placement: Placement) -> Iterator[Storekeep]:
    """A server on a copy of a database, which goes with it."""
    shutil.copytree(catalogue, folder)
    with subjects.storekeep(folder, placement=placement) as shop:
        yield shop
    shutil.rmtree(folder)


def _import_orders(shop: Storekeep, file: Path) -> Tally:
    """One turn.

    Raises: LoadFailed where the orders that the command tells of are not all in the database.
    """
    server_before, client_before = shop.server.cpu_s(), _ended_children_s()
    began = time.monotonic()
    said = _run(shop, file, ORDERS)
    seconds = time.monotonic() - began
    load = Load(
        answered=_done(said["rows"]),
        seconds=seconds,
        server_cpu_s=shop.server.cpu_s() - server_before,
        client_cpu_s=_ended_children_s() - client_before,
    )
    orders = _done(said["orders"])
    if orders != shop.database.count_orders():
        raise LoadFailed(f"{orders} orders were told to be there, {shop.database.count_orders()} are")
    return Tally(orders, load.answered, load)


def _done(counts: dict[str, int]) -> int:
    return counts["imported"] + counts["alreadyThere"]


def _run(shop: Storekeep, file: Path, kind: Sequence[str]) -> dict[str, dict[str, int]]:
    """Import a file by the command line; gives what it says.

    Raises: LoadFailed.
    """
    noun, *options = kind
    command = [str(COMMAND), "import", noun, str(file), *options, "--yes", "--json", "--address", shop.server.address]
    ended = subprocess.run(
        on_cores(shop.server.placement.load, command),
        env={**os.environ, "STOREKEEP_API_KEY": shop.api_key},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
    )
    if ended.returncode not in (DONE, PARTLY):
        raise LoadFailed(f"import {noun}: {ended.stderr[-2000:]}")
    said: dict[str, dict[str, int]] = json.loads(ended.stdout)
    return said


def _ended_children_s() -> float:
    """Processor time of all commands that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def _made_up() -> bytes:
    """A file of the sample's form, for machines that do not have it."""
    chance = random.Random(4)
    lines = [HEADER]
    number = 500_000
    for place in range(MADE_UP_LINES):
        if chance.random() < 1 / LINES_PER_ORDER or not place:
            number += 1
            day = f"2011-{1 + number % 12:02}-{1 + number % 28:02} 12:00:00"
            customer = chance.randrange(MADE_UP_CUSTOMERS)
        sku, pence = chance.randrange(MADE_UP_SKUS), chance.randrange(1, 2000)
        quantity = chance.randrange(1, 24)
        price = f"{pence // 100}.{pence % 100:02}"
        lines.append(f"{number},SKU-{sku:04},Thing no. {sku},{quantity},{day},{price},C-{customer},United Kingdom")
    return "\n".join([*lines, ""]).encode()
