"""GetProduct of two workers beside that of one, though the load needs a part of the two cores that there are.

One worker has a core to itself, and the load the other. Two workers and the load share both cores, so the workers are
left less than two. What counts is what a core that the load leaves is good for: calls per second, over the cores left.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import calls, stocking, subjects
from benchmarks.calling import figures
from benchmarks.loads import h2load
from benchmarks.loads.load import Load
from benchmarks.machine import CORES, TOGETHER
from benchmarks.results import Bar, Section, span
from benchmarks.rounds import Pace, Send, Spread, measure
from benchmarks.subjects import Storekeep

ONE = "one worker, on a core of its own"
TWO = "two workers, on what the load leaves of two cores"
SCALING_MIN = 1.7
IN_FLIGHT = (16, 8)
"""Connections, and calls on each: the kernel deals connections out to the workers by chance, so that there are several
for either."""
FORMULA = (
    "Ratio = (2 x two / (2 - load)) / one: `two` and `one` are calls/s, `load` is the share of a core that the load "
    "used beside the two workers. So it is what two whole cores would answer over what one whole core answers."
)


def workers(folder: Path, pace: Pace) -> Section:
    """Measure how GetProduct scales from one worker to two."""
    with ExitStack() as stack:
        one = stack.enter_context(subjects.storekeep(folder / "one"))
        two = stack.enter_context(subjects.storekeep(folder / "two", placement=TOGETHER, workers=len(CORES)))
        for shop in (one, two):
            stocking.stock(shop)
        contenders: dict[str, Send] = {ONE: _sender(one, folder / "one"), TWO: _sender(two, folder / "two")}
        turns = measure(contenders, pace)
    pairs = list(zip(turns[ONE].loads, turns[TWO].loads, strict=True))
    bars = [Bar("GetProduct, two workers / one", Spread.of([scaling(*pair) for pair in pairs]), SCALING_MIN)]
    notes = (FORMULA, _shares([two for _, two in pairs]))
    return Section("GetProduct with two workers", figures(turns.values()), bars, notes)


def scaling(one: Load, two: Load) -> float:
    """What two whole cores would answer, over what one answers."""
    return len(CORES) * two.per_s / cores_left(two) / one.per_s


def cores_left(load: Load) -> float:
    """How much of the two cores the load left to the workers."""
    return len(CORES) - load.client_cpu_s / load.seconds


def _shares(loads: Sequence[Load]) -> str:
    left = Spread.of([cores_left(load) for load in loads])
    used = Spread.of([load.server_cpu_s / load.seconds for load in loads])
    return f"Of two cores, the load left {span(left, 2)} to two workers, which used {span(used, 2)}."


def _sender(shop: Storekeep, folder: Path) -> Send:
    answer = calls.get_product(shop)

    def send(seconds: float) -> Load:
        message = calls.get_product_message()
        request = calls.grpc_request(
            calls.GET_PRODUCT, message, answer=answer, token=shop.token(), folder=folder, in_flight=IN_FLIGHT
        )
        return h2load.send(request, shop.server, seconds=seconds)

    return send
