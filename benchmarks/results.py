"""What was found: a section for each thing measured, its bars, and both as text, Markdown and JSON."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from pysqlite3 import dbapi2 as sqlite

from benchmarks.plots import Plot
from benchmarks.rounds import Spread

PACKAGES = ("grpcio", "protobuf", "fastapi", "sqlalchemy", "uvicorn", "pydantic")


@dataclass(frozen=True)
class Figure:
    """One line of a section's table: a name and its columns."""

    name: str
    columns: dict[str, str]


@dataclass(frozen=True)
class Bar:
    """What has to hold.

    Attributes:
        what: such as `GetProduct / bare grpcio echo`.
        found: the number it is about.
        bound: the limit.
        at_most: whether the bound is the most that is allowed, not the least.
    """

    what: str
    found: Spread
    bound: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the median is on the right side."""
        return self.found.median <= self.bound if self.at_most else self.found.median >= self.bound


@dataclass(frozen=True)
class Section:
    """One thing that was measured.

    Attributes:
        name: of the benchmark; the suite sets it.
    """

    title: str
    figures: Sequence[Figure]
    bars: Sequence[Bar]
    notes: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    name: str = ""


def span(spread: Spread, digits: int = 0) -> str:
    """A median with the least and the greatest, such as `2,900 (2,850-3,010)`."""
    return f"{spread.median:,.{digits}f} ({spread.low:,.{digits}f}-{spread.high:,.{digits}f})"


@dataclass(frozen=True)
class Ticks:
    """What the cores did since boot, in ticks.

    Attributes:
        stolen: waited for a hypervisor that gave them to others.
        busy: worked.
    """

    stolen: int
    busy: int

    @classmethod
    def now(cls) -> Ticks:
        """As the kernel has it (proc(5))."""
        user, nice, system, _idle, _waiting, irq, soft_irq, stolen = map(
            int, Path("/proc/stat").read_text().split()[1:9]
        )
        return cls(stolen, user + nice + system + irq + soft_irq)

    def stolen_since(self, earlier: Ticks) -> float:
        """The share that was stolen of the time in which there was work."""
        stolen, busy = self.stolen - earlier.stolen, self.busy - earlier.busy
        return stolen / max(1, stolen + busy)


def machine() -> dict[str, str]:
    """What all of it ran on."""
    names = (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": str(os.cpu_count()),
        "processor": next(names, ": unknown").partition(": ")[2],
        "python": platform.python_version(),
        "sqlite": sqlite.sqlite_version,
        **{package: version(package) for package in PACKAGES},
    }


def _bar_rows(section: Section) -> Iterator[tuple[str, str, str, str]]:
    for bar in section.bars:
        bound = f"{'<=' if bar.at_most else '>='} {bar.bound:g}"
        yield bar.what, span(bar.found, 2), bound, "met" if bar.met else "MISSED"


def _tables(section: Section) -> Iterator[list[tuple[str, ...]]]:
    if section.figures:
        yield [("", *section.figures[0].columns), *((f.name, *f.columns.values()) for f in section.figures)]
    if section.bars:
        yield [("bar", "median (least-greatest)", "wanted", ""), *_bar_rows(section)]


def as_text(section: Section) -> str:
    """For a terminal."""
    lines = [f"\n{section.title}"]
    for table in _tables(section):
        widths = [max(len(row[place]) for row in table) for place in range(len(table[0]))]
        lines += ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
        lines.append("")
    return "\n".join([*lines, *(f"  {note}" for note in section.notes)])


def as_markdown(sections: Sequence[Section], facts: dict[str, str]) -> str:
    """For the documentation."""
    lines = [", ".join(f"{name} {value}" for name, value in facts.items()) + "."]
    for section in sections:
        lines += ["", f"### {section.title}"]
        for table in _tables(section):
            head, *rows = table
            lines += ["", *(f"| {' | '.join(row)} |" for row in (head, tuple("---" for _ in head), *rows))]
        lines += ["", *section.notes] if section.notes else []
    return "\n".join(lines) + "\n"


def as_json(sections: Sequence[Section], facts: dict[str, str]) -> str:
    """For programs."""
    found = [
        {**asdict(section), "bars": [{**asdict(bar), "met": bar.met} for bar in section.bars]} for section in sections
    ]
    return json.dumps({"machine": facts, "sections": found}, indent=2) + "\n"
