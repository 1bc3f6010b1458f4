"""Compare GetProduct and PlaceOrder with the same program at an earlier commit."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

from benchmarks import calls, stocking, subjects
from benchmarks.calling import build_figures, list_warnings, verify_orders
from benchmarks.loads import h2load, orders
from benchmarks.loads.load import Load
from benchmarks.machine import ROOT
from benchmarks.results import Bar, Section
from benchmarks.rounds import Pace, Send, Turns
from benchmarks.subjects import Storekeep

NOW = "now"
RATIO_MIN = 0.95
"""The most that a change may cost in speed: 5 %."""


def measure_before(folder: Path, pace: Pace, *, revision: str) -> Section:
    """Measure how much faster or slower both calls have become since a commit.

    Both programs restart for each round and alternate in going first, because processes of the same program differ in
    speed by some percent.

    Args:
        revision: any name of a commit that git accepts.

    Raises: RuntimeError if git does not know the commit.
    """
    earlier = f"at {revision}"
    sources = {NOW: None, earlier: check_out(revision, folder / "source")}
    reads: dict[str, list[Load]] = {name: [] for name in sources}
    writes: dict[str, list[Load]] = {name: [] for name in sources}
    for number in range(pace.rounds):
        for name in list(sources)[:: -1 if number % 2 else 1]:
            subfolder = folder / ("now" if name == NOW else "before")
            with subjects.run_storekeep(subfolder, source=sources[name]) as shop:
                if number == 0:
                    stocking.stock_catalogue(shop)
                for send, loads in ((_build_reads(shop, folder), reads), (_build_orders(shop), writes)):
                    send(pace.warm_up_s)
                    loads[name].append(send(pace.seconds))
    read = {name: Turns(f"GetProduct {name}", tuple(loads)) for name, loads in reads.items()}
    writes_by_name = {name: Turns(f"PlaceOrder {name}", tuple(loads)) for name, loads in writes.items()}
    bars = [
        Bar(f"GetProduct now / {earlier}", read[NOW].compute_ratio(read[earlier]), RATIO_MIN),
        Bar(f"PlaceOrder now / {earlier}", writes_by_name[NOW].compute_ratio(writes_by_name[earlier]), RATIO_MIN),
    ]
    rows = [*read.values(), *writes_by_name.values()]
    return Section(f"Beside the program {earlier}", build_figures(rows), bars, list_warnings(rows))


def check_out(revision: str, target: Path) -> Path:
    """Extract the program at a commit into `target`.

    Raises: RuntimeError if git does not know the commit.
    """
    archive = target.with_suffix(".tar")
    command = ["git", "-C", str(ROOT), "archive", "--output", str(archive), revision, *subjects.ROOTS]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"git cannot find commit {revision}: {result.stderr.strip()}")
    with tarfile.open(archive) as files:
        files.extractall(target)
    archive.unlink()
    return target


def _build_reads(shop: Storekeep, folder: Path) -> Send:
    answer = calls.read_product(shop)

    def send(seconds: float) -> Load:
        message = calls.build_get_product_message()
        request = calls.build_grpc_request(
            calls.GET_PRODUCT, message, answer=answer, token=shop.get_token(), folder=folder
        )
        return h2load.send(request, shop.server, seconds=seconds)

    return send


def _build_orders(shop: Storekeep) -> Send:
    return verify_orders(
        shop.database, lambda seconds: orders.send(orders.GRPC, shop.server, token=shop.get_token(), seconds=seconds)
    )
