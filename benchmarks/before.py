"""GetProduct and PlaceOrder beside the same program as it was at an earlier commit, in turns."""

from __future__ import annotations

import subprocess
import tarfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks import calls, stocking, subjects
from benchmarks.calling import counted, figures, warnings
from benchmarks.loads import h2load, orders
from benchmarks.loads.load import Load
from benchmarks.machine import ROOT
from benchmarks.results import Bar, Section
from benchmarks.rounds import Pace, Send, Turns, measure
from benchmarks.subjects import Storekeep

NOW = "now"
RATIO_MIN = 0.95
"""What a change may cost that buys no speed."""


def before(folder: Path, pace: Pace, *, revision: str) -> Section:
    """Measure how much faster or slower both calls have become since a commit.

    Args:
        revision: a commit, as git has it.

    Raises: RuntimeError where git has no such commit.
    """
    earlier = f"at {revision}"
    source = _check_out(revision, folder / "source")
    with ExitStack() as stack:
        shops = {
            NOW: stack.enter_context(subjects.storekeep(folder / "now")),
            earlier: stack.enter_context(subjects.storekeep(folder / "before", source=source)),
        }
        for shop in shops.values():
            stocking.stock(shop)
        reads = measure({name: _sender_of_reads(shop, folder) for name, shop in shops.items()}, pace)
        writes = measure({name: _sender_of_orders(shop) for name, shop in shops.items()}, pace)
    bars = [
        Bar(f"GetProduct now / {earlier}", reads[NOW].ratio_to(reads[earlier]), RATIO_MIN),
        Bar(f"PlaceOrder now / {earlier}", writes[NOW].ratio_to(writes[earlier]), RATIO_MIN),
    ]
    rows = [_named(turns, "GetProduct") for turns in reads.values()]
    rows += [_named(turns, "PlaceOrder") for turns in writes.values()]
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


def _named(turns: Turns, what: str) -> Turns:
    return Turns(f"{what} {turns.name}", turns.loads)


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
