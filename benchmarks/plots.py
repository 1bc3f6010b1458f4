"""SVG plots without a plotting library. The same numbers give the same file."""

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
    """One curve of a plot: the spread of the rounds at each x."""

    name: str
    points: Sequence[tuple[float, Spread]]


@dataclass(frozen=True)
class Plot:
    """The content of a plot.

    Attributes:
        name: name of the file, without extension.
        x_ticks: labels below the x axis.
        log_x: whether the x axis is logarithmic.
        log_y: whether the y axis is logarithmic.
        bound: a limit to draw as a horizontal line, if any.
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
    def from_json(cls, data: Mapping[str, Any]) -> Plot:
        """Return a plot from a file of results."""
        curves = [
            Curve(curve["name"], [(x, Spread(**spread)) for x, spread in curve["points"]]) for curve in data["curves"]
        ]
        return cls(**{**data, "curves": curves, "x_ticks": [(x, label) for x, label in data["x_ticks"]]})


Scale = Callable[[float], float]
"""Maps a number to a coordinate."""


def _build_scale(numbers: Sequence[float], first: float, last: float, *, log: bool) -> Scale:
    """Return the scale that maps the range of `numbers` to the coordinates from `first` to `last`."""
    turn = math.log10 if log else float
    low, high = turn(min(numbers)), turn(max(numbers))
    width = (high - low) or 1.0
    return lambda number: first + (turn(number) - low) / width * (last - first)


def _choose_y_ticks(plot: Plot, greatest: float, least: float) -> list[float]:
    """Return round numbers for the y axis: powers of ten, or multiples of a round step from 0."""
    if plot.log_y:
        return [10.0**power for power in range(math.floor(math.log10(least)), math.ceil(math.log10(greatest)) + 1)]
    rough = greatest / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * step for step in STEPS if power * step >= rough)
    return [step * number for number in range(math.ceil(greatest / step) + 1)]


def _draw_text(x: float, y: float, content: str, *, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(content)}</text>'


def _draw_line(x1: float, y1: float, x2: float, y2: float, *, colour: str = "#ddd", more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'


def _draw_curve(curve: Curve, colour: str, x_scale: Scale, y_scale: Scale) -> Iterator[str]:
    """Yield the line through the medians, with a bar from the least to the greatest value at each."""
    positions = [(x_scale(x), y_scale(spread.median)) for x, spread in curve.points]
    for (x1, y1), (x2, y2) in pairwise(positions):
        yield _draw_line(x1, y1, x2, y2, colour=colour, more='stroke-width="2"')
    for (x, y), (_, spread) in zip(positions, curve.points, strict=True):
        yield _draw_line(x, y_scale(spread.low), x, y_scale(spread.high), colour=colour)
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'


def _draw_axes(plot: Plot, x_scale: Scale, y_scale: Scale, y_ticks: Sequence[float]) -> Iterator[str]:
    for tick in y_ticks:
        yield _draw_line(LEFT, y_scale(tick), WIDTH - RIGHT, y_scale(tick))
        yield _draw_text(LEFT - 8, y_scale(tick) + 4, f"{tick:g}", anchor="end")
    for x, label in plot.x_ticks:
        yield _draw_text(x_scale(x), HEIGHT - BOTTOM + 20, label)
    yield _draw_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 40, plot.x_label)
    yield _draw_text(LEFT - 8, TOP - 14, plot.y_label, anchor="start")
    if plot.bound is not None:
        y = y_scale(plot.bound)
        yield _draw_line(LEFT, y, WIDTH - RIGHT, y, colour="#b91c1c", more='stroke-dasharray="6 4"')
        yield _draw_text(WIDTH - RIGHT, y - 5, f"bar: {plot.bound:g}", anchor="end")


def _draw_legend(curves: Sequence[Curve]) -> Iterator[str]:
    width = (WIDTH - LEFT - RIGHT) / max(1, len(curves))
    for index, (curve, colour) in enumerate(zip(curves, COLOURS, strict=False)):
        x = LEFT + index * width
        yield f'<rect x="{x:.1f}" y="40" width="12" height="12" fill="{colour}"/>'
        yield _draw_text(x + 18, 50, curve.name, anchor="start")


def render_svg(plot: Plot, *, footer: str) -> str:
    """Return the plot as SVG.

    Args:
        footer: one line that describes the origin of the numbers.
    """
    curves = [Curve(each.name, [at for at in each.points if at[1].low > 0 or not plot.log_y]) for each in plot.curves]
    curves = [curve for curve in curves if curve.points]
    numbers = [number for curve in curves for _, at in curve.points for number in (at.low, at.high)]
    numbers += [] if plot.bound is None else [plot.bound]
    y_ticks = _choose_y_ticks(plot, max(numbers), min(numbers))
    x_scale = _build_scale([x for x, _ in plot.x_ticks], LEFT + 30, WIDTH - RIGHT - 30, log=plot.log_x)
    y_scale = _build_scale(y_ticks, HEIGHT - BOTTOM, TOP, log=plot.log_y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" style="{STYLE}">',
        f"<title>{escape(plot.title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        _draw_text(LEFT - 8, 24, plot.title, anchor="start", more='font-weight="bold" font-size="15"'),
        *_draw_legend(curves),
        *_draw_axes(plot, x_scale, y_scale, y_ticks),
        *(
            part
            for curve, colour in zip(curves, COLOURS, strict=False)
            for part in _draw_curve(curve, colour, x_scale, y_scale)
        ),
        _draw_text(LEFT - 8, HEIGHT - 10, footer, anchor="start", more='font-size="10" fill="#666"'),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"
