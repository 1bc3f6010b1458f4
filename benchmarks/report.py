"""Write the generated sections and plots of docs/performance.md from results.

    python -m benchmarks.report [RESULTS.json ...]

Later files override earlier ones. For each benchmark in the results, the text between `<!-- generated: NAME -->` and
`<!-- /generated -->` is replaced. The rest of the page is written by hand and does not change.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.plots import Plot, render_svg
from benchmarks.results import Section, format_facts, format_section, read_json
from benchmarks.suite import BENCHMARKS, LATEST

PAGE = ROOT / "docs/performance.md"
PLOTS = "performance"
"""Folder of the plots, beside the page."""
END = "<!-- /generated -->"
MACHINE, BARS = "machine", "bars"
"""Generated sections that belong to no single benchmark."""

Results = Mapping[str, tuple[Section, Mapping[str, str]]]
"""Section and machine facts by benchmark."""


def read_results(paths: Sequence[Path]) -> Results:
    """Return the results of the files, in the order of the benchmarks."""
    results = {
        section.name: (section, facts)
        for path in paths
        for (sections, facts) in [read_json(path)]
        for section in sections
    }
    return {name: results[name] for name in BENCHMARKS if name in results}


def merge_plots(results: Results) -> dict[str, Plot]:
    """Return the plots by name. Plots with the same name are merged into one with the curves of both."""
    plots: dict[str, Plot] = {}
    for section, _ in results.values():
        for plot in section.plots:
            known = plots.get(plot.name)
            plots[plot.name] = plot if known is None else replace(known, curves=[*known.curves, *plot.curves])
    return plots


def format_footer(facts: Mapping[str, str]) -> str:
    """Return the line below a plot that describes the origin of its numbers."""
    return f"{facts['date']}, {facts['cores']} cores of {facts['processor']}, Python {facts['python']}; {facts['pace']}"


def _build_bar_lines(results: Results) -> Iterator[str]:
    yield "| `make bench ARGS=...` | what | median (least-greatest) | bar | |"
    yield "|---|---|---|---|---|"
    for name, (section, _) in results.items():
        for bar in section.bars:
            yield f"| `{name}` | {bar.what} | {' | '.join(bar.build_cells())} |"


def _build_machine_lines(results: Results) -> Iterator[str]:
    """Yield each machine once, with the benchmarks that ran on it."""
    machines: dict[str, list[str]] = {}
    for name, (_, facts) in results.items():
        machines.setdefault(format_facts(facts), []).append(f"`{name}`")
    for machine, names in machines.items():
        yield f"{', '.join(names)}: {machine}\n"


def build_parts(results: Results) -> dict[str, str]:
    """Return the generated sections by name. A plot is placed with the first benchmark that it shows."""
    placed: set[str] = set()
    parts = {MACHINE: "\n".join(_build_machine_lines(results)), BARS: "\n".join(_build_bar_lines(results)) + "\n"}
    for name, (section, _) in results.items():
        images = [f"![{plot.title}]({PLOTS}/{plot.name}.svg)\n" for plot in section.plots if plot.name not in placed]
        placed |= {plot.name for plot in section.plots}
        parts[name] = "\n".join([format_section(section), *images])
    return parts


def replace_parts(page: str, parts: Mapping[str, str]) -> str:
    """Return the page with its generated sections replaced.

    Raises: ValueError if a mark is missing.
    """
    for name, part in parts.items():
        begin = f"<!-- generated: {name} -->"
        start = page.index(begin) + len(begin)
        page = f"{page[:start]}\n\n{part.strip()}\n\n{page[page.index(END, start) :]}"
    return page


def write_page(page: Path, results: Results) -> list[Path]:
    """Write the page and its plots, and return the written files."""
    written = [page]
    page.write_text(replace_parts(page.read_text(), build_parts(results)))
    folder = page.parent / PLOTS
    folder.mkdir(exist_ok=True)
    facts = {plot.name: facts for section, facts in results.values() for plot in section.plots}
    for name, plot in merge_plots(results).items():
        path = folder / f"{name}.svg"
        path.write_text(render_svg(plot, footer=format_footer(facts[name])))
        written.append(path)
    return written


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("results", nargs="*", type=Path, default=[LATEST], help="files that `make bench` wrote")
    parser.add_argument("--page", type=Path, default=PAGE, help="docs/performance.md")
    options = parser.parse_args()
    for path in write_page(options.page, read_results(options.results)):
        print(f"written: {path}")


if __name__ == "__main__":
    main()
