"""Plots as SVG, written by hand: small, the same for the same numbers, and readable without a program of ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

from benchmarks.rounds import Spread

WIDTH, HEIGHT = 680, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 84, 74
COLOURS = ("#0b6ba8", "#c2410c", "#15803d", "#7e22ce")
STEPS = (1, 2, 2.5, 5, 10)
TICKS = 5
STYLE = "font-family:system-ui,sans-serif;font-size:12px;fill:#333"


@dataclass(frozen=True)
class Curve:
    """One line of a plot: numbers by x, each with the least and the greatest of its rounds."""

    name: str
    points: Sequence[tuple[float, Spread]]


@dataclass(frozen=True)
class Plot:
    """What is to be seen.

    Attributes:
        name: of the file, without its ending.
        x_ticks: what is written below some x.
        log_x: whether equal factors are equal distances.
        bound: a limit that is drawn across, where there is one.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    x_ticks: Sequence[tuple[float, str]]
    log_x: bool = False
    log_y: bool = False
    bound: float | None = None

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Plot:
        """A plot as the results have it."""
        curves = [
            Curve(curve["name"], [(x, Spread(**spread)) for x, spread in curve["points"]]) for curve in found["curves"]
        ]
        return cls(**{**found, "curves": curves, "x_ticks": [(x, label) for x, label in found["x_ticks"]]})


Scale = Callable[[float], float]
"""From a number to its place."""


def _scale(numbers: Sequence[float], first: float, last: float, *, log: bool) -> Scale:
    """From the range of some numbers to that of places."""
    turn = math.log10 if log else float
    low, high = turn(min(numbers)), turn(max(numbers))
    width = (high - low) or 1.0
    return lambda number: first + (turn(number) - low) / width * (last - first)


def _y_ticks(plot: Plot, greatest: float, least: float) -> list[float]:
    """Round numbers: powers of ten, or some steps from 0."""
    if plot.log_y:
        return [10.0**power for power in range(math.floor(math.log10(least)), math.ceil(math.log10(greatest)) + 1)]
    rough = greatest / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * step for step in STEPS if power * step >= rough)
    return [step * number for number in range(math.ceil(greatest / step) + 1)]


def _text(x: float, y: float, content: str, *, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(content)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, *, colour: str = "#ddd", more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'


def _curve(curve: Curve, colour: str, x_of: Scale, y_of: Scale) -> Iterator[str]:
    """The line through the medians, with a bar from the least to the greatest at each."""
    places = [(x_of(x), y_of(spread.median)) for x, spread in curve.points]
    for (x1, y1), (x2, y2) in pairwise(places):
        yield _line(x1, y1, x2, y2, colour=colour, more='stroke-width="2"')
    for (x, y), (_, spread) in zip(places, curve.points, strict=True):
        yield _line(x, y_of(spread.low), x, y_of(spread.high), colour=colour)
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'


def _axes(plot: Plot, x_of: Scale, y_of: Scale, y_ticks: Sequence[float]) -> Iterator[str]:
    for tick in y_ticks:
        yield _line(LEFT, y_of(tick), WIDTH - RIGHT, y_of(tick))
        yield _text(LEFT - 8, y_of(tick) + 4, f"{tick:g}", anchor="end")
    for x, label in plot.x_ticks:
        yield _text(x_of(x), HEIGHT - BOTTOM + 20, label)
    yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 40, plot.x_label)
    yield _text(LEFT - 8, TOP - 14, plot.y_label, anchor="start")
    if plot.bound is not None:
        y = y_of(plot.bound)
        yield _line(LEFT, y, WIDTH - RIGHT, y, colour="#b91c1c", more='stroke-dasharray="6 4"')
        yield _text(WIDTH - RIGHT, y - 5, f"bar: {plot.bound:g}", anchor="end")


def _legend(curves: Sequence[Curve]) -> Iterator[str]:
    width = (WIDTH - LEFT - RIGHT) / max(1, len(curves))
    for place, (curve, colour) in enumerate(zip(curves, COLOURS, strict=False)):
        x = LEFT + place * width
        yield f'<rect x="{x:.1f}" y="40" width="12" height="12" fill="{colour}"/>'
        yield _text(x + 18, 50, curve.name, anchor="start")


def as_svg(plot: Plot, *, footer: str) -> str:
    """The plot as a file.

    Args:
        footer: one line of where the numbers come from.
    """
    curves = [Curve(each.name, [at for at in each.points if at[1].low > 0 or not plot.log_y]) for each in plot.curves]
    curves = [curve for curve in curves if curve.points]
    numbers = [number for curve in curves for _, at in curve.points for number in (at.low, at.high)]
    numbers += [] if plot.bound is None else [plot.bound]
    y_ticks = _y_ticks(plot, max(numbers), min(numbers))
    x_of = _scale([x for x, _ in plot.x_ticks], LEFT + 30, WIDTH - RIGHT - 30, log=plot.log_x)
    y_of = _scale(y_ticks, HEIGHT - BOTTOM, TOP, log=plot.log_y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" style="{STYLE}">',
        f"<title>{escape(plot.title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        _text(LEFT - 8, 24, plot.title, anchor="start", more='font-weight="bold" font-size="15"'),
        *_legend(curves),
        *_axes(plot, x_of, y_of, y_ticks),
        *(part for curve, colour in zip(curves, COLOURS, strict=False) for part in _curve(curve, colour, x_of, y_of)),
        _text(LEFT - 8, HEIGHT - 10, footer, anchor="start", more='font-size="10" fill="#666"'),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"
