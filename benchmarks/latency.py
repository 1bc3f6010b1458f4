"""How long calls take at a rate that the server can sustain, and what becomes of them at three times what it can.

Calls are sent on a schedule, whatever the answers do, and each counts from when it should have been sent. Each round
finds the maximum anew, and then sends 0.6 and 3 times that. Nominal is what calls take at 0.6 times the maximum. Where
the load cannot keep to its schedule, it uses fewer connections, then a lower multiple, which the names of the bars say.
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
from benchmarks.results import Bar, Figure, Section, span
from benchmarks.rounds import Pace, Spread
from benchmarks.subjects import Storekeep

NOMINAL = 0.6
OVERLOADS = (3.0, 2.5, 2.0, 1.5)
"""Multiples of the maximum rate: the first at which the load keeps to its schedule is measured."""
CONNECTIONS = (8, 8, 4, 2)
"""Connections of one attempt after the other: fewer cost the load less."""
SETTLE_S = 1.0
"""How long a load goes on before it is timed, and how long the server rests after an overload."""
NOMINAL_P99_TO_P50 = 5.0
OVERLOADED_TO_NOMINAL_P99 = 3.0
REFUSED_P99_MS = 20.0
IN_FLIGHT = {PLACE_ORDER: 96}
QUANTILES = {"p50": "50", "p90": "90", "p99": "99", "p999": "99.9", "max": "all"}


Send = Callable[[float, float, int], TimedLoad]
"""Calls for some seconds, at a rate per second, over some connections. At a rate of 0, as many as are answered."""


class LoadLate(Exception):
    """The load did not keep to its schedule in any attempt: this machine is too slow for it, or too busy."""


@dataclass(frozen=True)
class Round:
    """What was measured one after the other."""

    maximum: TimedLoad
    nominal: TimedLoad
    overloaded: TimedLoad


@dataclass(frozen=True)
class Rounds:
    """All rounds of one method.

    Attributes:
        name: of the method.
        multiple: the overload, in multiples of the maximum rate.
        rounds: none where the load was late at every multiple.
        problem: why there are none.
    """

    name: str
    multiple: float
    rounds: Sequence[Round] = ()
    problem: str = ""


def latency(folder: Path, pace: Pace, *, late_max_ms: float) -> Section:
    """Measure the latency of GetProduct and PlaceOrder.

    Args:
        late_max_ms: the most that the 99th percentile of sending late may be.

    Raises: LoadFailed.
    """
    with subjects.storekeep(folder / "storekeep") as shop:
        stocking.stock(shop)
        calls.get_product(shop)
        write_messages(folder / "product", [calls.get_product_message().SerializeToString()])
        found = [
            _measure(shop, called, pace, late_max_ms)
            for called in (
                Calls("GetProduct", calls.GET_PRODUCT, messages=folder / "product"),
                Calls("PlaceOrder", PLACE_ORDER, order_lines=LINES, in_flight=IN_FLIGHT[PLACE_ORDER]),
            )
        ]
    measured = [each for each in found if each.rounds]
    multiples = " and ".join(f"{multiple:g}" for multiple in sorted({each.multiple for each in found}))
    return Section(
        f"Latency on a schedule, at {NOMINAL:g} and {multiples} times the maximum rate",
        [figure for each in measured for figure in _figures(each)],
        [bar for each in found for bar in _bars(each)],
        [_goodput(each) for each in measured],
        [_plot(each) for each in measured],
    )


def _measure(shop: Storekeep, called: Calls, pace: Pace, late_max_ms: float) -> Rounds:
    """Measure every round at the highest multiple at which the load keeps to its schedule."""

    def send(seconds: float, rate: float, connections: int = CONNECTIONS[0]) -> TimedLoad:
        return timed.send(
            called,
            shop.server,
            token=shop.token(),
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

    checked = _counted(shop, send) if called.method == PLACE_ORDER else send
    send(pace.warm_up_s, 0.0)
    problem = ""
    for multiple in OVERLOADS:
        try:
            return Rounds(called.name, multiple, [measure_round(multiple) for _ in range(pace.rounds)])
        except LoadLate as late:
            problem = str(late)
    return Rounds(called.name, OVERLOADS[0], problem=problem)


def _counted(shop: Storekeep, send: Send) -> Send:
    """A load after which the orders that were accepted are in the database, and none that was refused."""

    def send_and_count(seconds: float, rate: float, connections: int) -> TimedLoad:
        before = shop.database.count_orders()
        found = send(seconds, rate, connections)
        written = shop.database.count_orders() - before
        accepted = found.accepted_before + found.accepted.count
        if not accepted <= written <= accepted + sum(found.failed.values()):
            raise LoadFailed(f"{accepted} orders were accepted, {written} are in the database")
        return found

    return send_and_count


def _send_in_time(send: Send, seconds: float, rate: float, late_max_ms: float) -> TimedLoad:
    """Return a turn in which the load kept to its schedule.

    Raises: LoadLate.
    """
    for connections in CONNECTIONS:
        found = send(seconds, rate, connections)
        if found.late.p99 <= late_max_ms and found.accepted.count:
            return found
    raise LoadLate(
        f"the load was late: {found.late.p99:.1f} ms at its 99th percentile; {found.accepted.count} accepted"
    )


def _spread(rounds: Sequence[Round], number: Callable[[Round], float]) -> Spread:
    return Spread.of([number(each) for each in rounds])


def _figures(measured: Rounds) -> Iterator[Figure]:
    name, overload = measured.name, f"{measured.multiple:g} x that"
    turns: dict[str, tuple[Callable[[Round], TimedLoad], Callable[[TimedLoad], Latencies]]] = {
        f"{name}, as many as it can": (lambda each: each.maximum, lambda found: found.accepted),
        f"{name}, {NOMINAL:g} x that": (lambda each: each.nominal, lambda found: found.accepted),
        f"{name}, {overload}: accepted": (lambda each: each.overloaded, lambda found: found.accepted),
        f"{name}, {overload}: refused": (lambda each: each.overloaded, lambda found: found.refused),
    }
    for row, (turn, part) in turns.items():
        yield Figure(row, _columns([turn(each) for each in measured.rounds], part))


def _columns(turns: Sequence[TimedLoad], part: Callable[[TimedLoad], Latencies]) -> dict[str, str]:
    def column(number: Callable[[TimedLoad], float], digits: int = 1) -> str:
        return span(Spread.of([number(turn) for turn in turns]), digits)

    return {
        "calls/s": column(lambda turn: part(turn).count / turn.load.seconds, 0),
        "p50, ms": column(lambda turn: part(turn).p50),
        "p99, ms": column(lambda turn: part(turn).p99),
        "p99.9, ms": column(lambda turn: part(turn).p999),
        "load late at p99, ms": column(lambda turn: turn.late.p99, 2),
        "load's share of its core": column(lambda turn: turn.busy, 2),
        "server CPU, s per 1,000 calls": column(lambda turn: 1000 * turn.load.server_cpu_s / turn.sent, 2),
        "client CPU, s per 1,000 calls": column(lambda turn: 1000 * turn.load.client_cpu_s / turn.sent, 2),
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
"""What each bar is about: its number in one round, and the most that its median may be."""


def _bars(measured: Rounds) -> Iterator[Bar]:
    for what, (number, bound) in NUMBERS.items():
        named = f"{measured.name}, {what.format(nominal=f'{NOMINAL:g}', overload=f'{measured.multiple:g}')}"
        found = _spread(measured.rounds, number) if measured.rounds else None
        yield Bar(named, found, bound, at_most=True, problem=measured.problem)


def _goodput(measured: Rounds) -> str:
    """Return what was left of the maximum rate under overload, and how other calls failed."""
    left = _spread(measured.rounds, lambda each: each.overloaded.load.per_s / each.maximum.load.per_s)
    codes = sorted({code for each in measured.rounds for code in each.overloaded.failed})
    failed = f" Others failed with gRPC's code {', '.join(codes)}." if codes else ""
    overload = f"under {measured.multiple:g} x, {span(left, 2)} of the maximum rate was accepted."
    return f"{measured.name}: {overload}{failed}"


def _plot(measured: Rounds) -> Plot:
    name, rounds, multiple = measured.name, measured.rounds, measured.multiple

    def curve(label: str, part: Callable[[Round], Latencies]) -> Curve:
        def at(quantile: str) -> Spread:
            return _spread(rounds, lambda each: getattr(part(each), quantile))

        return Curve(label, [(place, at(quantile)) for place, quantile in enumerate(QUANTILES)])

    return Plot(
        f"latency-{name.lower()}",
        f"{name}: how long calls take that are sent on a schedule",
        x_label="percentile of the calls",
        y_label="ms",
        curves=[
            curve(f"at {NOMINAL:g} x the maximum", lambda each: each.nominal.accepted),
            curve(f"accepted at {multiple:g} x", lambda each: each.overloaded.accepted),
            curve(f"refused at {multiple:g} x", lambda each: each.overloaded.refused),
        ],
        x_ticks=list(enumerate(QUANTILES.values())),
        log_y=True,
    )
