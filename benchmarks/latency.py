"""How long calls take at a rate that the server can sustain, and what becomes of them at three times what it can.

Calls are sent on a schedule, whatever the answers do, and each counts from when it should have been sent. Each round
finds the maximum anew, and then sends 0.6 and 3 times that. Nominal is what calls take at 0.6 times the maximum. A load
goes on for a while before it is timed: a server takes a burst for what it is until it has lasted.
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
OVERLOAD = 3.0
SETTLE_S = 1.0
"""How long a load goes on before it is timed, and how long the server rests after an overload."""
NOMINAL_P99_TO_P50 = 5.0
OVERLOADED_TO_NOMINAL_P99 = 3.0
REFUSED_P99_MS = 20.0
IN_FLIGHT = {PLACE_ORDER: 96}
QUANTILES = {"p50": "50", "p90": "90", "p99": "99", "p999": "99.9", "max": "all"}


Send = Callable[[float, float], TimedLoad]
"""Calls for so many seconds at a rate; where that is 0, as many as can be answered."""


@dataclass(frozen=True)
class Round:
    """What was measured one after the other."""

    maximum: TimedLoad
    nominal: TimedLoad
    overloaded: TimedLoad


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
        found = {
            called.name: _measure(shop, called, pace, late_max_ms)
            for called in (
                Calls("GetProduct", calls.GET_PRODUCT, messages=folder / "product"),
                Calls("PlaceOrder", PLACE_ORDER, order_lines=LINES, in_flight=IN_FLIGHT[PLACE_ORDER]),
            )
        }
    figures = [figure for name, rounds in found.items() for figure in _figures(name, rounds)]
    bars = [bar for name, rounds in found.items() for bar in _bars(name, rounds)]
    notes = [_goodput(name, rounds) for name, rounds in found.items()]
    title = f"Latency on a schedule, at {NOMINAL:g} and {OVERLOAD:g} times the maximum rate"
    return Section(title, figures, bars, notes, [_plot(name, rounds) for name, rounds in found.items()])


def _measure(shop: Storekeep, called: Calls, pace: Pace, late_max_ms: float) -> list[Round]:
    def send(seconds: float, rate: float) -> TimedLoad:
        return timed.send(called, shop.server, token=shop.token(), seconds=seconds, rate=rate, settle_s=SETTLE_S)

    def measure_round() -> Round:
        maximum = checked(pace.seconds / 2, 0.0)
        per_s = maximum.load.per_s
        nominal = _in_time(lambda: checked(pace.seconds, NOMINAL * per_s), late_max_ms)
        overloaded = _in_time(lambda: checked(pace.seconds, OVERLOAD * per_s), late_max_ms)
        time.sleep(SETTLE_S)
        return Round(maximum, nominal, overloaded)

    checked = _counted(shop, send) if called.method == PLACE_ORDER else send
    send(pace.warm_up_s, 0.0)
    return [measure_round() for _ in range(pace.rounds)]


def _counted(shop: Storekeep, send: Send) -> Send:
    """A load after which the orders that were accepted are in the database, and none that was refused."""

    def send_and_count(seconds: float, rate: float) -> TimedLoad:
        before = shop.database.count_orders()
        found = send(seconds, rate)
        written = shop.database.count_orders() - before
        accepted = found.accepted_before + found.accepted.count
        if not accepted <= written <= accepted + sum(found.failed.values()):
            raise LoadFailed(f"{accepted} orders were accepted, {written} are in the database")
        return found

    return send_and_count


def _in_time(send: Callable[[], TimedLoad], late_max_ms: float) -> TimedLoad:
    """A turn in which the load kept to its schedule, which it cannot when a hypervisor takes its core.

    Raises: LoadFailed.
    """
    for _ in range(timed.ATTEMPTS_MAX):
        found = send()
        if found.late.p99 <= late_max_ms and found.accepted.count:
            return found
    raise LoadFailed(
        f"the load was late: {found.late.p99:.1f} ms at its 99th percentile; {found.accepted.count} accepted"
    )


def _spread(rounds: Sequence[Round], number: Callable[[Round], float]) -> Spread:
    return Spread.of([number(each) for each in rounds])


def _figures(name: str, rounds: Sequence[Round]) -> Iterator[Figure]:
    turns: dict[str, tuple[Callable[[Round], TimedLoad], Callable[[TimedLoad], Latencies]]] = {
        f"{name}, as many as it can": (lambda each: each.maximum, lambda found: found.accepted),
        f"{name}, {NOMINAL:g} x that": (lambda each: each.nominal, lambda found: found.accepted),
        f"{name}, {OVERLOAD:g} x that: accepted": (lambda each: each.overloaded, lambda found: found.accepted),
        f"{name}, {OVERLOAD:g} x that: refused": (lambda each: each.overloaded, lambda found: found.refused),
    }
    for row, (turn, part) in turns.items():
        yield Figure(row, _columns([turn(each) for each in rounds], part))


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


def _bars(name: str, rounds: Sequence[Round]) -> list[Bar]:
    tail = _spread(rounds, lambda each: each.nominal.accepted.p99 / each.nominal.accepted.p50)
    slowed = _spread(rounds, lambda each: each.overloaded.accepted.p99 / each.nominal.accepted.p99)
    refused_ms = _spread(rounds, lambda each: each.overloaded.refused.p99)
    not_accepted = _spread(rounds, lambda each: 100 * (1 - each.nominal.accepted.count / each.nominal.sent))
    failed = _spread(rounds, lambda each: 100 * sum(each.overloaded.failed.values()) / each.overloaded.sent)
    return [
        Bar(f"{name}, not accepted at {NOMINAL:g} x, %", not_accepted, 0.0, at_most=True),
        Bar(f"{name}, p99 / p50 at {NOMINAL:g} x", tail, NOMINAL_P99_TO_P50, at_most=True),
        Bar(
            f"{name}, p99 of the accepted at {OVERLOAD:g} x / nominal", slowed, OVERLOADED_TO_NOMINAL_P99, at_most=True
        ),
        Bar(f"{name}, p99 of the refusals at {OVERLOAD:g} x, ms", refused_ms, REFUSED_P99_MS, at_most=True),
        Bar(f"{name}, neither accepted nor refused at {OVERLOAD:g} x, %", failed, 0.0, at_most=True),
    ]


def _goodput(name: str, rounds: Sequence[Round]) -> str:
    """What is left of the maximum rate under overload, and how calls failed that were not refused."""
    left = _spread(rounds, lambda each: each.overloaded.load.per_s / each.maximum.load.per_s)
    codes = sorted({code for each in rounds for code in each.overloaded.failed})
    failed = f" Others failed with gRPC's code {', '.join(codes)}." if codes else ""
    return f"{name}: under {OVERLOAD:g} x, {span(left, 2)} of the maximum rate was accepted.{failed}"


def _plot(name: str, rounds: Sequence[Round]) -> Plot:
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
            curve(f"accepted at {OVERLOAD:g} x", lambda each: each.overloaded.accepted),
            curve(f"refused at {OVERLOAD:g} x", lambda each: each.overloaded.refused),
        ],
        x_ticks=list(enumerate(QUANTILES.values())),
        log_y=True,
    )
