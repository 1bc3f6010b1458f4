"""Write the measured parts of docs/performance.md, and its plots, from results.

    python -m benchmarks.report [RESULTS.json ...]

Of several files the later ones count. What stands between `<!-- generated: NAME -->` and `<!-- /generated -->` is
written anew, for each benchmark that the results have; all else on the page is people's, and stays.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.plots import Plot, as_svg
from benchmarks.results import Section, facts_as_text, read_json, section_as_markdown
from benchmarks.suite import BENCHMARKS, LATEST

PAGE = ROOT / "docs/performance.md"
PLOTS = "performance"
"""The plots' folder, beside the page."""
END = "<!-- /generated -->"
MACHINE, BARS = "machine", "bars"
"""Parts of the page besides those of the benchmarks."""

Results = Mapping[str, tuple[Section, Mapping[str, str]]]
"""Benchmark -> what was found, and on what machine."""


def read_results(paths: Sequence[Path]) -> Results:
    """What the files have, in the order of the benchmarks."""
    found = {
        section.name: (section, facts)
        for path in paths
        for (sections, facts) in [read_json(path)]
        for section in sections
    }
    return {name: found[name] for name in BENCHMARKS if name in found}


def merge_plots(results: Results) -> dict[str, Plot]:
    """Plots by their names; those of one name show their curves together."""
    plots: dict[str, Plot] = {}
    for section, _ in results.values():
        for plot in section.plots:
            known = plots.get(plot.name)
            plots[plot.name] = plot if known is None else replace(known, curves=[*known.curves, *plot.curves])
    return plots


def footer(facts: Mapping[str, str]) -> str:
    """Where a plot's numbers come from."""
    return f"{facts['date']}, {facts['cores']} cores of {facts['processor']}, Python {facts['python']}; {facts['pace']}"


def _bar_lines(results: Results) -> Iterator[str]:
    yield "| `make bench ARGS=...` | what | median (least-greatest) | bar | |"
    yield "|---|---|---|---|---|"
    for name, (section, _) in results.items():
        for bar in section.bars:
            yield f"| `{name}` | {bar.what} | {' | '.join(bar.cells())} |"


def _machine_lines(results: Results) -> Iterator[str]:
    """Each machine once, with what was measured on it."""
    machines: dict[str, list[str]] = {}
    for name, (_, facts) in results.items():
        machines.setdefault(facts_as_text(facts), []).append(f"`{name}`")
    for machine, names in machines.items():
        yield f"{', '.join(names)}: {machine}\n"


def parts(results: Results) -> dict[str, str]:
    """The page's measured parts by their names. A plot stands with the first benchmark that it shows."""
    shown: set[str] = set()
    found = {MACHINE: "\n".join(_machine_lines(results)), BARS: "\n".join(_bar_lines(results)) + "\n"}
    for name, (section, _) in results.items():
        images = [f"![{plot.title}]({PLOTS}/{plot.name}.svg)\n" for plot in section.plots if plot.name not in shown]
        shown |= {plot.name for plot in section.plots}
        found[name] = "\n".join([section_as_markdown(section), *images])
    return found


def with_parts(page: str, found: Mapping[str, str]) -> str:
    """The page with these parts as they are now.

    Raises: ValueError where a mark is missing.
    """
    for name, part in found.items():
        begin = f"<!-- generated: {name} -->"
        start = page.index(begin) + len(begin)
        page = f"{page[:start]}\n\n{part.strip()}\n\n{page[page.index(END, start) :]}"
    return page


def write(page: Path, results: Results) -> list[Path]:
    """Write the page and its plots.

    Returns: what was written.
    """
    written = [page]
    page.write_text(with_parts(page.read_text(), parts(results)))
    folder = page.parent / PLOTS
    folder.mkdir(exist_ok=True)
    facts = {plot.name: facts for section, facts in results.values() for plot in section.plots}
    for name, plot in merge_plots(results).items():
        path = folder / f"{name}.svg"
        path.write_text(as_svg(plot, footer=footer(facts[name])))
        written.append(path)
    return written


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("results", nargs="*", type=Path, default=[LATEST], help="files that `make bench` wrote")
    parser.add_argument("--page", type=Path, default=PAGE, help="docs/performance.md")
    options = parser.parse_args()
    for path in write(options.page, read_results(options.results)):
        print(f"written: {path}")


if __name__ == "__main__":
    main()
