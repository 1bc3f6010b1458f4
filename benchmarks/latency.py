"""Measure latency at a sustainable rate, and under overload at three times the maximum rate.

Calls are sent on a schedule that is independent of the replies, and latency counts from the scheduled time. Each round
first finds the maximum rate, then sends 0.6 times (nominal) and 3 times that. If the load falls behind its schedule,
it uses fewer connections, then a lower multiple, which the names of the bars show.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import calls, stocking, subjects
from benchmarks.loads import timed
from benchmarks.loads.load import LINES, LoadFailed
from benchmarks.loads.messages import write_messages
from benchmarks.loads.order_messages import PLACE_ORDER
from benchmarks.loads.timed import Calls, Latencies, TimedLoad
from benchmarks.plots import Curve, Plot
from benchmarks.results import Bar, Figure, Section, format_spread
from benchmarks.rounds import Pace, Spread
from benchmarks.subjects import Storekeep

NOMINAL = 0.6
OVERLOADS = (3.0, 2.5, 2.0, 1.5)
"""Multiples of the maximum rate. The first at which the load keeps its schedule is measured."""
CONNECTIONS = (8, 8, 4, 2)
"""Connections in successive attempts. Fewer connections cost the load less."""
SETTLE_S = 1.0
"""Time before a load is measured, and pause after an overload."""
NOMINAL_P99_TO_P50 = 5.0
OVERLOADED_TO_NOMINAL_P99 = 3.0
REFUSED_P99_MS = 20.0
IN_FLIGHT = {PLACE_ORDER: 96}
QUANTILES = {"p50": "50", "p90": "90", "p99": "99", "p999": "99.9", "max": "all"}


Send = Callable[[float, float, int], TimedLoad]
"""Sends calls for some seconds, at a rate per second, over some connections. A rate of 0 means a closed loop."""


class LoadLate(Exception):
    """The load fell behind its schedule in every attempt, because the machine is too slow or too busy."""


@dataclass(frozen=True)
class Round:
    """The three loads of one round."""

    maximum: TimedLoad
    nominal: TimedLoad
    overloaded: TimedLoad


@dataclass(frozen=True)
class Rounds:
    """All rounds of one method.

    Attributes:
        name: name of the method.
        multiple: the overload, as a multiple of the maximum rate.
        rounds: the rounds; empty if the load was late at every multiple.
        problem: why there are no rounds.
    """

    name: str
    multiple: float
    rounds: Sequence[Round] = ()
    problem: str = ""


def measure_latency(folder: Path, pace: Pace, *, late_max_ms: float) -> Section:
    """Measure the latency of GetProduct and PlaceOrder.

    Args:
        late_max_ms: greatest allowed 99th percentile of the delay of sending.

    Raises: LoadFailed.
    """
    with subjects.run_storekeep(folder / "storekeep") as shop:
        stocking.stock_catalogue(shop)
        calls.read_product(shop)
        write_messages(folder / "product", [calls.build_get_product_message().SerializeToString()])
        results = [
            _measure(shop, called, pace, late_max_ms)
            for called in (
                Calls("GetProduct", calls.GET_PRODUCT, messages=folder / "product"),
                Calls("PlaceOrder", PLACE_ORDER, order_lines=LINES, in_flight=IN_FLIGHT[PLACE_ORDER]),
            )
        ]
    measured = [each for each in results if each.rounds]
    multiples = " and ".join(f"{multiple:g}" for multiple in sorted({each.multiple for each in results}))
    return Section(
        f"Latency on a schedule, at {NOMINAL:g} and {multiples} times the maximum rate",
        [figure for each in measured for figure in _build_figures(each)],
        [bar for each in results for bar in _build_bars(each)],
        [_describe_goodput(each) for each in measured],
        [_build_plot(each) for each in measured],
    )


def _measure(shop: Storekeep, called: Calls, pace: Pace, late_max_ms: float) -> Rounds:
    """Measure all rounds at the highest multiple at which the load keeps its schedule."""

    def send(seconds: float, rate: float, connections: int = CONNECTIONS[0]) -> TimedLoad:
        return timed.send(
            called,
            shop.server,
            token=shop.get_token(),
            seconds=seconds,
            rate=rate,
            settle_s=SETTLE_S,
            connections=connections,
        )

    def measure_round(multiple: float) -> Round:
        maximum = checked(pace.seconds / 2, 0.0, CONNECTIONS[0])
        per_s = maximum.load.per_s
        nominal = _send_in_time(checked, pace.seconds, NOMINAL * per_s, late_max_ms)
        overloaded = _send_in_time(checked, pace.seconds, multiple * per_s, late_max_ms)
        time.sleep(SETTLE_S)
        return Round(maximum, nominal, overloaded)

    checked = _verify_orders(shop, send) if called.method == PLACE_ORDER else send
    send(pace.warm_up_s, 0.0)
    problem = ""
    for multiple in OVERLOADS:
        try:
            return Rounds(called.name, multiple, [measure_round(multiple) for _ in range(pace.rounds)])
        except LoadLate as late:
            problem = str(late)
    return Rounds(called.name, OVERLOADS[0], problem=problem)


def _verify_orders(shop: Storekeep, send: Send) -> Send:
    """Return a load that checks afterwards that the database contains the accepted orders and no rejected one."""

    def send_and_count(seconds: float, rate: float, connections: int) -> TimedLoad:
        before = shop.database.count_orders()
        result = send(seconds, rate, connections)
        written = shop.database.count_orders() - before
        accepted = result.accepted_before + result.accepted.count
        if not accepted <= written <= accepted + sum(result.failed.values()):
            raise LoadFailed(f"{accepted} orders were accepted, {written} are in the database")
        return result

    return send_and_count


def _send_in_time(send: Send, seconds: float, rate: float, late_max_ms: float) -> TimedLoad:
    """Return a turn in which the load kept its schedule.

    Raises: LoadLate.
    """
    for connections in CONNECTIONS:
        result = send(seconds, rate, connections)
        if result.late.p99 <= late_max_ms and result.accepted.count:
            return result
    raise LoadLate(
        f"the load was late: {result.late.p99:.1f} ms at its 99th percentile; {result.accepted.count} accepted"
    )


def _compute_spread(rounds: Sequence[Round], number: Callable[[Round], float]) -> Spread:
    return Spread.from_numbers([number(each) for each in rounds])


def _build_figures(measured: Rounds) -> Iterator[Figure]:
    name, overload = measured.name, f"{measured.multiple:g} x that"
    turns: dict[str, tuple[Callable[[Round], TimedLoad], Callable[[TimedLoad], Latencies]]] = {
        f"{name}, as many as it can": (lambda each: each.maximum, lambda turn: turn.accepted),
        f"{name}, {NOMINAL:g} x that": (lambda each: each.nominal, lambda turn: turn.accepted),
        f"{name}, {overload}: accepted": (lambda each: each.overloaded, lambda turn: turn.accepted),
        f"{name}, {overload}: refused": (lambda each: each.overloaded, lambda turn: turn.refused),
    }
    for row, (turn, part) in turns.items():
        yield Figure(row, _build_columns([turn(each) for each in measured.rounds], part))


def _build_columns(turns: Sequence[TimedLoad], part: Callable[[TimedLoad], Latencies]) -> dict[str, str]:
    def format_column(number: Callable[[TimedLoad], float], digits: int = 1) -> str:
        return format_spread(Spread.from_numbers([number(turn) for turn in turns]), digits)

    return {
        "calls/s": format_column(lambda turn: part(turn).count / turn.load.seconds, 0),
        "p50, ms": format_column(lambda turn: part(turn).p50),
        "p99, ms": format_column(lambda turn: part(turn).p99),
        "p99.9, ms": format_column(lambda turn: part(turn).p999),
        "load late at p99, ms": format_column(lambda turn: turn.late.p99, 2),
        "load's share of its core": format_column(lambda turn: turn.busy, 2),
        "server CPU, s per 1,000 calls": format_column(lambda turn: 1000 * turn.load.server_cpu_s / turn.sent, 2),
        "client CPU, s per 1,000 calls": format_column(lambda turn: 1000 * turn.load.client_cpu_s / turn.sent, 2),
    }


NUMBERS: dict[str, tuple[Callable[[Round], float], float]] = {
    "not accepted at {nominal} x, %": (
        lambda each: 100 * (1 - each.nominal.accepted.count / each.nominal.sent),
        0.0,
    ),
    "p99 / p50 at {nominal} x": (
        lambda each: each.nominal.accepted.p99 / each.nominal.accepted.p50,
        NOMINAL_P99_TO_P50,
    ),
    "p99 of the accepted at {overload} x / nominal": (
        lambda each: each.overloaded.accepted.p99 / each.nominal.accepted.p99,
        OVERLOADED_TO_NOMINAL_P99,
    ),
    "p99 of the refusals at {overload} x, ms": (lambda each: each.overloaded.refused.p99, REFUSED_P99_MS),
    "neither accepted nor refused at {overload} x, %": (
        lambda each: 100 * sum(each.overloaded.failed.values()) / each.overloaded.sent,
        0.0,
    ),
}
"""The number of each bar in one round, and the upper bound of its median."""


def _build_bars(measured: Rounds) -> Iterator[Bar]:
    for what, (number, bound) in NUMBERS.items():
        title = f"{measured.name}, {what.format(nominal=f'{NOMINAL:g}', overload=f'{measured.multiple:g}')}"
        spread = _compute_spread(measured.rounds, number) if measured.rounds else None
        yield Bar(title, spread, bound, at_most=True, problem=measured.problem)


def _describe_goodput(measured: Rounds) -> str:
    """Return a note on the accepted share of the maximum rate under overload, and on other failures."""
    left = _compute_spread(measured.rounds, lambda each: each.overloaded.load.per_s / each.maximum.load.per_s)
    codes = sorted({code for each in measured.rounds for code in each.overloaded.failed})
    failed = f" Others failed with gRPC's code {', '.join(codes)}." if codes else ""
    overload = f"under {measured.multiple:g} x, {format_spread(left, 2)} of the maximum rate was accepted."
    return f"{measured.name}: {overload}{failed}"


def _build_plot(measured: Rounds) -> Plot:
    name, rounds, multiple = measured.name, measured.rounds, measured.multiple

    def build_curve(label: str, part: Callable[[Round], Latencies]) -> Curve:
        def compute_at(quantile: str) -> Spread:
            return _compute_spread(rounds, lambda each: getattr(part(each), quantile))

        return Curve(label, [(index, compute_at(quantile)) for index, quantile in enumerate(QUANTILES)])

    return Plot(
        f"latency-{name.lower()}",
        f"{name}: how long calls take that are sent on a schedule",
        x_label="percentile of the calls",
        y_label="ms",
        curves=[
            build_curve(f"at {NOMINAL:g} x the maximum", lambda each: each.nominal.accepted),
            build_curve(f"accepted at {multiple:g} x", lambda each: each.overloaded.accepted),
            build_curve(f"refused at {multiple:g} x", lambda each: each.overloaded.refused),
        ],
        x_ticks=list(enumerate(QUANTILES.values())),
        log_y=True,
    )
