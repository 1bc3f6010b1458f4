"""Compare GetProduct with two workers to one worker, corrected for the cores that the load uses.

One worker has a core to itself, and the load has the other. Two workers and the load share both cores, so the workers
have less than two. The benchmark compares calls per second for each core that the load leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import calls, stocking, subjects
from benchmarks.calling import build_figures
from benchmarks.loads import h2load
from benchmarks.loads.load import Load
from benchmarks.machine import CORES, TOGETHER
from benchmarks.results import Bar, Section, format_spread
from benchmarks.rounds import Pace, Send, Spread, measure
from benchmarks.subjects import Storekeep

ONE = "one worker, on a core of its own"
TWO = "two workers, on what the load leaves of two cores"
SCALING_MIN = 1.7
IN_FLIGHT = (16, 8)
"""Connections, and calls in flight on each. The kernel assigns connections to workers at random, so each worker gets
several."""
FORMULA = (
    "Ratio = (2 x two / (2 - load)) / one, where `two` and `one` are calls/s and `load` is the share of a core that "
    "the load used beside two workers. It compares the rate of two whole cores with that of one."
)


def measure_workers(folder: Path, pace: Pace) -> Section:
    """Measure how GetProduct scales from one worker to two."""
    with ExitStack() as stack:
        one = stack.enter_context(subjects.run_storekeep(folder / "one"))
        two = stack.enter_context(subjects.run_storekeep(folder / "two", placement=TOGETHER, workers=len(CORES)))
        for shop in (one, two):
            stocking.stock_catalogue(shop)
        contenders: dict[str, Send] = {ONE: _build_send(one, folder / "one"), TWO: _build_send(two, folder / "two")}
        turns = measure(contenders, pace)
    pairs = list(zip(turns[ONE].loads, turns[TWO].loads, strict=True))
    bars = [
        Bar(
            "GetProduct, two workers / one",
            Spread.from_numbers([compute_scaling(*pair) for pair in pairs]),
            SCALING_MIN,
        )
    ]
    notes = (FORMULA, _describe_shares([two for _, two in pairs]))
    return Section("GetProduct with two workers", build_figures(turns.values()), bars, notes)


def compute_scaling(one: Load, two: Load) -> float:
    """Return the ratio of the estimated rate of two whole cores to that of one."""
    return len(CORES) * two.per_s / count_cores_left(two) / one.per_s


def count_cores_left(load: Load) -> float:
    """Return the number of cores that the load left to the workers."""
    return len(CORES) - load.client_cpu_s / load.seconds


def _describe_shares(loads: Sequence[Load]) -> str:
    left = Spread.from_numbers([count_cores_left(load) for load in loads])
    used = Spread.from_numbers([load.server_cpu_s / load.seconds for load in loads])
    return f"Of two cores, the load left {format_spread(left, 2)} to two workers, which used {format_spread(used, 2)}."


def _build_send(shop: Storekeep, folder: Path) -> Send:
    answer = calls.read_product(shop)

    def send(seconds: float) -> Load:
        message = calls.build_get_product_message()
        request = calls.build_grpc_request(
            calls.GET_PRODUCT, message, answer=answer, token=shop.get_token(), folder=folder, in_flight=IN_FLIGHT
        )
        return h2load.send(request, shop.server, seconds=seconds)

    return send
