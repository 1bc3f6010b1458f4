"""An import of many rows needs no more memory than one of few, and accounts for every row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ServerProcess

FEW, MANY = 4_000, 40_000
GROWTH_MAX_BYTES = 12 * 1024 * 1024
RUN = """
import resource, sys
from storekeep.cli.app import main
try:
    main()
except SystemExit:
    pass
sys.stderr.write(f"\\npeak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}")
"""


def measure(server: ServerProcess, *arguments: str) -> tuple[int, dict[str, int]]:
    """Return the peak memory of an import in bytes, and its counts of rows."""
    access = {"STOREKEEP_ADDRESS": server.address, "STOREKEEP_API_KEY": server.admin_key}
    ended = subprocess.run(
        [sys.executable, "-c", RUN, "import", *arguments, "--yes", "--json"],
        env=os.environ | access,
        capture_output=True,
        text=True,
        timeout=300,
    )
    document = json.loads(ended.stdout)
    return int(ended.stderr.rpartition("peak ")[2]), document.get("rows", document)


def write_orders(path: Path, count: int) -> str:
    """Write orders that the client itself leaves out, in groups of four rows of which the last cannot be read."""
    with path.open("w") as file:
        file.write("number,sku,quantity,unit_price,customer,order_date,note\n")
        for row in range(count):
            quantity = "two" if row % 4 == 3 else "2"
            file.write(f"M-{row // 4},MEM-{row},{quantity},1.00,nobody,2001-05-01,{'x' * 60}\n")
    return str(path)


@pytest.mark.engine("sqlite", reason="the memory of the client does not depend on the server's engine")
def test_memory_of_an_order_import_does_not_grow_with_the_file(server: ServerProcess, tmp_path: Path) -> None:
    peaks = []
    for count in (FEW, MANY):
        file = write_orders(tmp_path / "orders.csv", count)
        peak, rows = measure(server, "orders", file, "--set", "currency=EUR")
        assert (rows["leftOut"], rows["total"]) == (count, count)
        peaks.append(peak)
    assert peaks[1] - peaks[0] < GROWTH_MAX_BYTES
