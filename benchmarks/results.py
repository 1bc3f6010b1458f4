"""Results of the benchmarks: sections with figures and bars, written as text, Markdown and JSON."""

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
    """One row of a section's table: a name and its columns."""

    name: str
    columns: dict[str, str]


@dataclass(frozen=True)
class Bar:
    """A requirement on a measured number.

    Attributes:
        what: description, such as `GetProduct / bare grpcio echo`.
        found: the measured number; None if this machine could not measure it.
        bound: the limit.
        at_most: whether the bound is an upper limit instead of a lower one.
        problem: why the number could not be measured.
    """

    what: str
    found: Spread | None
    bound: float
    at_most: bool = False
    problem: str = ""

    @property
    def missed(self) -> bool:
        """Whether the median was measured and violates the bound."""
        if self.found is None:
            return False
        return self.found.median > self.bound if self.at_most else self.found.median < self.bound

    def build_cells(self) -> tuple[str, str, str]:
        """Return the measured number, the bound, and the verdict."""
        bound = f"{'<=' if self.at_most else '>='} {self.bound:g}"
        if self.found is None:
            return "", bound, f"not measured: {self.problem}"
        return format_spread(self.found, 2), bound, "MISSED" if self.missed else "met"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Bar:
        """Return a bar from a file of results."""
        spread = data["found"] and Spread(**data["found"])
        return cls(data["what"], spread, data["bound"], data["at_most"], data.get("problem", ""))


@dataclass(frozen=True)
class Section:
    """The result of one benchmark.

    Attributes:
        name: name of the benchmark, set by the suite.
        took: duration and share of stolen time, set by the suite.
    """

    title: str
    figures: Sequence[Figure]
    bars: Sequence[Bar]
    notes: Sequence[str] = ()
    plots: Sequence[Plot] = ()
    name: str = ""
    took: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Section:
        """Return a section from a file of results."""
        figures = [Figure(**figure) for figure in data["figures"]]
        bars = [Bar.from_json(bar) for bar in data["bars"]]
        plots = [Plot.from_json(plot) for plot in data["plots"]]
        return cls(data["title"], figures, bars, data["notes"], plots, data["name"], data["took"])


def format_spread(spread: Spread, digits: int = 0) -> str:
    """Return the median with the least and the greatest value, such as `2,900 (2,850-3,010)`."""
    return f"{spread.median:,.{digits}f} ({spread.low:,.{digits}f}-{spread.high:,.{digits}f})"


@dataclass(frozen=True)
class Ticks:
    """The time of all cores since boot, in ticks.

    Attributes:
        stolen: time that a hypervisor gave to other guests.
        busy: time at work.
    """

    stolen: int
    busy: int

    @classmethod
    def read_now(cls) -> Ticks:
        """Return the kernel's current counts (proc(5))."""
        user, nice, system, _idle, _waiting, irq, soft_irq, stolen = map(
            int, Path("/proc/stat").read_text().split()[1:9]
        )
        return cls(stolen, user + nice + system + irq + soft_irq)

    def compute_stolen_share(self, earlier: Ticks) -> float:
        """Return the stolen share of the time with work, since an earlier reading."""
        stolen, busy = self.stolen - earlier.stolen, self.busy - earlier.busy
        return stolen / max(1, stolen + busy)


def read_machine() -> dict[str, str]:
    """Return the facts about this machine and its software."""
    names = (line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": str(os.cpu_count()),
        "processor": next(names, ": unknown").partition(": ")[2],
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "postgresql": _read_postgres_version(),
        **{package: version(package) for package in PACKAGES},
    }


def _read_postgres_version() -> str:
    program = postgres.find_binary("postgres")
    if program is None:
        return "none"
    result = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S)
    return result.stdout.split()[-1] if result.stdout else "unknown"


def _build_bar_rows(section: Section) -> Iterator[tuple[str, str, str, str]]:
    for bar in section.bars:
        yield bar.what, *bar.build_cells()


def _build_tables(section: Section) -> Iterator[list[tuple[str, ...]]]:
    if section.figures:
        yield [("", *section.figures[0].columns), *((f.name, *f.columns.values()) for f in section.figures)]
    if section.bars:
        yield [("bar", "median (least-greatest)", "bound", ""), *_build_bar_rows(section)]


def format_text(section: Section) -> str:
    """Return a section as text for a terminal."""
    lines = [f"\n{section.title}"]
    for table in _build_tables(section):
        widths = [max(len(row[index]) for row in table) for index in range(len(table[0]))]
        lines += ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
        lines.append("")
    return "\n".join([*lines, *(f"  {note}" for note in (*section.notes, section.took) if note)])


def format_section(section: Section) -> str:
    """Return the tables and notes of a section as Markdown."""
    lines: list[str] = []
    for head, *rows in _build_tables(section):
        lines += [*(f"| {' | '.join(row)} |" for row in (head, tuple("---" for _ in head), *rows)), ""]
    return "\n".join([*lines, *_list_paragraphs(section)]).rstrip() + "\n"


def _list_paragraphs(section: Section) -> Iterator[str]:
    for note in (*section.notes, section.took):
        if note:
            yield f"{note}\n"


def format_markdown(sections: Sequence[Section], facts: Mapping[str, str]) -> str:
    """Return all sections as Markdown."""
    parts = [format_facts(facts) + "\n"]
    parts += [f"### {section.title}\n\n{format_section(section)}" for section in sections]
    return "\n".join(parts)


def format_facts(facts: Mapping[str, str]) -> str:
    """Return the facts about a machine in one line."""
    return ", ".join(f"{name} {value}" for name, value in facts.items()) + "."


def format_json(sections: Sequence[Section], facts: Mapping[str, str]) -> str:
    """Return all sections as JSON."""
    content = [
        {**asdict(section), "bars": [{**asdict(bar), "missed": bar.missed} for bar in section.bars]}
        for section in sections
    ]
    return json.dumps({"machine": facts, "sections": content}, indent=2) + "\n"


def read_json(path: Path) -> tuple[list[Section], dict[str, str]]:
    """Return the sections and the machine facts of a file of results."""
    content = json.loads(path.read_text())
    return [Section.from_json(section) for section in content["sections"]], content["machine"]
