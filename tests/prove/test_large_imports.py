"""An order import of 500,000 lines in the columns of Online Retail: constant memory, and every row accounted for.

PROVE_IMPORT_ROWS sets another number of lines.
"""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ServerProcess

ROWS = int(os.environ.get("PROVE_IMPORT_ROWS", "500000"))
SKUS, CUSTOMERS = 2_000, 2_000
MEMORY_MAX_BYTES = 192 * 1024 * 1024
COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
RUN = """
import resource, sys
from storekeep.cli.app import main
try:
    main()
except SystemExit:
    pass
sys.stderr.write(f"\\npeak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}")
"""


def write_retail(path: Path, *, rows: int, seed: int) -> Counter[str]:
    """Write a file with broken rows, cancellations, guests and postage. Return the expected kinds of its rows."""
    chance = random.Random(seed)
    kinds: Counter[str] = Counter()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        number = 0
        written = 0
        while written < rows:
            number += 1
            size = min(chance.randint(1, 40), rows - written)
            is_broken = chance.random() < 0.01
            customer = "" if chance.random() < 0.2 else str(chance.randrange(CUSTOMERS))
            date = (
                f"{chance.randint(1, 12)}/{chance.randint(1, 28)}/2010 {chance.randint(0, 23)}:{chance.randint(10, 59)}"
            )
            for line in range(size):
                code = "POST" if line and chance.random() < 0.02 else f"P{chance.randrange(SKUS)}"
                cells = [f"L{number}", code, "", chance.randint(1, 50), date, "2.55", customer, "United Kingdom"]
                writer.writerow([*cells, "extra"] if is_broken and not line else cells)
            kinds["left out" if is_broken else "imported"] += size
            written += size
            if chance.random() < 0.02 and written < rows:
                writer.writerow([f"C{number}", "NEVER", "", -1, "12/9/2011 12:00", "2.55", customer, "United Kingdom"])
                kinds["left out"] += 1
                written += 1
    return kinds


def run_import(server: ServerProcess, *arguments: str) -> tuple[int, Any]:
    """Return the peak memory of an import in bytes, and its document."""
    access = {"STOREKEEP_ADDRESS": server.address, "STOREKEEP_API_KEY": server.admin_key}
    command = [sys.executable, "-c", RUN, "import", *arguments, "--yes", "--json"]
    ended = subprocess.run(command, env=os.environ | access, capture_output=True, text=True, timeout=3600)
    return int(ended.stderr.rpartition("peak ")[2]), json.loads(ended.stdout)


@pytest.mark.engine("sqlite", reason="the client is what is measured")
def test_large_file_is_imported_with_constant_memory(server: ServerProcess, tmp_path: Path) -> None:
    products, customers, retail = (tmp_path / name for name in ("products.csv", "customers.csv", "retail.csv"))
    products.write_text("sku,name\n" + "".join(f"P{number},Product {number}\n" for number in range(SKUS)))
    customers.write_text("id,name\nguest,Guest\n" + "".join(f"{number},C {number}\n" for number in range(CUSTOMERS)))
    kinds = write_retail(retail, rows=ROWS, seed=7)
    for kind, file, count in (("products", products, SKUS), ("customers", customers, CUSTOMERS + 1)):
        _, document = run_import(server, kind, str(file))
        assert document["created"] == count
    report = tmp_path / "left-out.csv"
    peak, document = run_import(server, "orders", str(retail), "--format", "online-retail", "--report", str(report))
    rows = document["rows"]
    assert rows["total"] == ROWS
    assert (rows["imported"], rows["leftOut"]) == (kinds["imported"], kinds["left out"])
    with report.open(encoding="utf-8", newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == rows["leftOut"]
    assert peak < MEMORY_MAX_BYTES
    _, again = run_import(server, "orders", str(retail), "--format", "online-retail")
    assert again["rows"]["alreadyThere"] == kinds["imported"]
    verified = server.run("verify")
    assert verified.returncode == 0, verified.stdout
