"""GetProduct and PlaceOrder beside the same program as it was at an earlier commit, in turns."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

from benchmarks import calls, stocking, subjects
from benchmarks.calling import counted, figures, warnings
from benchmarks.loads import h2load, orders
from benchmarks.loads.load import Load
from benchmarks.machine import ROOT
from benchmarks.results import Bar, Section
from benchmarks.rounds import Pace, Send, Turns
from benchmarks.subjects import Storekeep

NOW = "now"
RATIO_MIN = 0.95
"""What a change may cost that buys no speed."""


def before(folder: Path, pace: Pace, *, revision: str) -> Section:
    """Measure how much faster or slower both calls have become since a commit.

    Both programs are started anew for each round, and take turns in going first: processes of one program differ by
    some percent for as long as they live.

    Args:
        revision: a commit, as git has it.

    Raises: RuntimeError where git has no such commit.
    """
    earlier = f"at {revision}"
    sources = {NOW: None, earlier: _check_out(revision, folder / "source")}
    reads: dict[str, list[Load]] = {name: [] for name in sources}
    writes: dict[str, list[Load]] = {name: [] for name in sources}
    for number in range(pace.rounds):
        for name in list(sources)[:: -1 if number % 2 else 1]:
            place = folder / ("now" if name == NOW else "before")
            with subjects.storekeep(place, source=sources[name]) as shop:
                if number == 0:
                    stocking.stock(shop)
                for send, loads in ((_sender_of_reads(shop, folder), reads), (_sender_of_orders(shop), writes)):
                    send(pace.warm_up_s)
                    loads[name].append(send(pace.seconds))
    read = {name: Turns(f"GetProduct {name}", tuple(loads)) for name, loads in reads.items()}
    written = {name: Turns(f"PlaceOrder {name}", tuple(loads)) for name, loads in writes.items()}
    bars = [
        Bar(f"GetProduct now / {earlier}", read[NOW].ratio_to(read[earlier]), RATIO_MIN),
        Bar(f"PlaceOrder now / {earlier}", written[NOW].ratio_to(written[earlier]), RATIO_MIN),
    ]
    rows = [*read.values(), *written.values()]
    return Section(f"Beside the program {earlier}", figures(rows), bars, warnings(rows))


def _check_out(revision: str, target: Path) -> Path:
    """Put the files of a commit into a folder.

    Raises: RuntimeError.
    """
    archive = target.with_suffix(".tar")
    command = ["git", "-C", str(ROOT), "archive", "--output", str(archive), revision, *subjects.ROOTS]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"git has no {revision} to compare with: {result.stderr.strip()}")
    with tarfile.open(archive) as files:
        files.extractall(target)
    archive.unlink()
    return target


def _sender_of_reads(shop: Storekeep, folder: Path) -> Send:
    answer = calls.get_product(shop)

    def send(seconds: float) -> Load:
        message = calls.get_product_message()
        request = calls.grpc_request(calls.GET_PRODUCT, message, answer=answer, token=shop.token(), folder=folder)
        return h2load.send(request, shop.server, seconds=seconds)

    return send


def _sender_of_orders(shop: Storekeep) -> Send:
    return counted(
        shop.database, lambda seconds: orders.send(orders.GRPC, shop.server, token=shop.token(), seconds=seconds)
    )
