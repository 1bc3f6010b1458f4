"""What was found: a section for each thing measured, its bars, and both as text, Markdown and JSON, and back."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import apsw

from benchmarks import postgres
from benchmarks.plots import Plot
from benchmarks.rounds import Spread

PACKAGES = ("grpcio", "protobuf", "psycopg", "fastapi", "sqlalchemy", "uvicorn", "pydantic")
VERSION_TIMEOUT_S = 10.0


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
        found: the number it is about; None where this machine could not measure it.
        bound: the limit.
        at_most: whether the bound is the most that is allowed, not the least.
        problem: why it could not be measured.
    """

    what: str
    found: Spread | None
    bound: float
    at_most: bool = False
    problem: str = ""

    @property
    def missed(self) -> bool:
        """Whether the median was measured and is on the wrong side."""
        if self.found is None:
            return False
        return self.found.median > self.bound if self.at_most else self.found.median < self.bound

    def cells(self) -> tuple[str, str, str]:
        """Return what was found, the bound, and the verdict."""
        bound = f"{'<=' if self.at_most else '>='} {self.bound:g}"
        if self.found is None:
            return "", bound, f"not measured: {self.problem}"
        return span(self.found, 2), bound, "MISSED" if self.missed else "met"

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Bar:
        """Return a bar of a file of results."""
        spread = found["found"] and Spread(**found["found"])
        return cls(found["what"], spread, found["bound"], found["at_most"], found.get("problem", ""))


@dataclass(frozen=True)
class Section:
    """One thing that was measured.

    Attributes:
        name: of the benchmark; the suite sets it.
        took: how long it was measured, and what a hypervisor took meanwhile; the suite sets it.
    """

    title: str
    figures: Sequence[Figure]
    bars: Sequence[Bar]
    notes: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    name: str = ""
    took: str = ""

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Section:
        """A section as the results have it."""
        figures = [Figure(**figure) for figure in found["figures"]]
        bars = [Bar.from_json(bar) for bar in found["bars"]]
        plots = [Plot.from_json(plot) for plot in found["plots"]]
        return cls(found["title"], figures, bars, found["notes"], plots, found["name"], found["took"])


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
        "sqlite": apsw.sqlite_lib_version(),
        "postgresql": _postgres_version(),
        **{package: version(package) for package in PACKAGES},
    }


def _postgres_version() -> str:
    program = postgres.binary("postgres")
    if program is None:
        return "none"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S)
    return said.stdout.split()[-1] if said.stdout else "unknown"


def _bar_rows(section: Section) -> Iterator[tuple[str, str, str, str]]:
    for bar in section.bars:
        yield bar.what, *bar.cells()


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
    return "\n".join([*lines, *(f"  {note}" for note in (*section.notes, section.took) if note)])


def section_as_markdown(section: Section) -> str:
    """Its tables and notes, for the documentation."""
    lines: list[str] = []
    for head, *rows in _tables(section):
        lines += [*(f"| {' | '.join(row)} |" for row in (head, tuple("---" for _ in head), *rows)), ""]
    return "\n".join([*lines, *_paragraphs(section)]).rstrip() + "\n"


def _paragraphs(section: Section) -> Iterator[str]:
    for note in (*section.notes, section.took):
        if note:
            yield f"{note}\n"


def as_markdown(sections: Sequence[Section], facts: Mapping[str, str]) -> str:
    """For the documentation."""
    parts = [facts_as_text(facts) + "\n"]
    parts += [f"### {section.title}\n\n{section_as_markdown(section)}" for section in sections]
    return "\n".join(parts)


def facts_as_text(facts: Mapping[str, str]) -> str:
    """What all of it ran on, in a line."""
    return ", ".join(f"{name} {value}" for name, value in facts.items()) + "."


def as_json(sections: Sequence[Section], facts: Mapping[str, str]) -> str:
    """For programs."""
    found = [
        {**asdict(section), "bars": [{**asdict(bar), "missed": bar.missed} for bar in section.bars]}
        for section in sections
    ]
    return json.dumps({"machine": facts, "sections": found}, indent=2) + "\n"


def read_json(path: Path) -> tuple[list[Section], dict[str, str]]:
    """What a file of results has."""
    found = json.loads(path.read_text())
    return [Section.from_json(section) for section in found["sections"]], found["machine"]
