"""The page of results: every benchmark has a section, and handwritten text stays unchanged."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import latency, report
from benchmarks.loads.load import Load
from benchmarks.plots import Curve, Plot, render_svg
from benchmarks.results import Bar, Figure, Section, format_json, read_json
from benchmarks.rounds import Spread
from benchmarks.suite import BENCHMARKS
from benchmarks.workers import compute_scaling
from tests.support.checkout import text

PLOT = Plot(
    "growth-getorder",
    "GetOrder & more",
    x_label="orders",
    y_label="times",
    curves=[Curve("SQLite", [(1_000.0, Spread(1.0, 1.0, 1.0)), (100_000.0, Spread(1.2, 1.1, 1.3))])],
    x_ticks=[(1_000.0, "1,000"), (100_000.0, "100,000")],
    log_x=True,
    bound=1.5,
)
BAR = Bar("time", Spread(1.2, 1.1, 1.3), 1.5, at_most=True)
SECTION = Section("Growth", [Figure("GetOrder", {"calls/s": "5"})], [BAR], ["A note."], [PLOT], name="growth")
FACTS = {"date": "2026-11-24", "cores": "2", "processor": "one", "python": "3.11.2", "pace": "5 turns of 6 s"}


def test_results_written_are_read_back(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(format_json([SECTION], FACTS))
    assert read_json(file) == ([SECTION], FACTS)


def test_bar_that_was_not_measured_says_why_and_is_not_missed(tmp_path: Path) -> None:
    late = Bar("p99", None, 3.0, at_most=True, problem="the load was late")
    assert (late.build_cells(), late.missed) == (("", "<= 3", "not measured: the load was late"), False)
    assert (BAR.build_cells(), BAR.missed) == (("1.20 (1.10-1.30)", "<= 1.5", "met"), False)
    assert replace(BAR, bound=1.0).missed
    assert replace(BAR, at_most=False).missed
    file = tmp_path / "results.json"
    file.write_text(format_json([replace(SECTION, bars=[late])], FACTS))
    assert read_json(file)[0][0].bars == [late]


def test_latency_without_rounds_has_every_bar_and_names_the_problem() -> None:
    bars = list(latency._build_bars(latency.Rounds("GetProduct", 3.0, problem="the load was late")))
    assert [bar.what for bar in bars if "3 x" in bar.what and "GetProduct" in bar.what]
    assert all(bar.found is None and bar.problem == "the load was late" for bar in bars)


def test_report_writes_between_the_marks_only(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    marks = [f"<!-- generated: {name} -->old<!-- /generated -->" for name in ("machine", "bars", "growth", "memory")]
    page.write_text("Prose.\n\n" + "\n\nMore prose.\n\n".join(marks))
    other = replace(SECTION, name="growth_postgresql")
    with pytest.raises(ValueError, match="substring"):
        report.write_page(page, {"growth_postgresql": (other, FACTS)})
    written = report.write_page(page, {"growth": (SECTION, FACTS)})
    assert [path.name for path in written] == ["performance.md", "growth-getorder.svg"]
    said = page.read_text()
    assert said.count("prose.") == 3
    assert said.count("old") == 1
    assert "| `growth` | time | 1.20 (1.10-1.30) | <= 1.5 | met |" in said
    assert "![GetOrder & more](performance/growth-getorder.svg)" in said


def test_plots_of_one_name_share_a_picture() -> None:
    on_postgresql = replace(PLOT, curves=[replace(PLOT.curves[0], name="PostgreSQL")])
    results = {"a": (SECTION, FACTS), "b": (replace(SECTION, plots=[on_postgresql]), FACTS)}
    (merged,) = report.merge_plots(results).values()
    assert [curve.name for curve in merged.curves] == ["SQLite", "PostgreSQL"]


def test_svg_of_the_same_plot_is_the_same_and_well_formed() -> None:
    svg = render_svg(PLOT, footer="2026-11-24")
    assert svg == render_svg(Plot.from_json(asdict(PLOT)), footer="2026-11-24")
    root = ElementTree.fromstring(svg)
    texts = {each.text for each in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"GetOrder & more", "SQLite", "1,000", "bar: 1.5", "2026-11-24"} <= texts


def test_svg_on_a_logarithmic_scale_leaves_out_what_is_zero() -> None:
    nothing = Curve("refused", [(0.0, Spread(0.0, 0.0, 0.0))])
    assert "refused" not in render_svg(replace(PLOT, curves=[*PLOT.curves, nothing], log_y=True), footer="")


def test_scaling_of_workers_is_about_the_cores_that_the_load_left() -> None:
    one = Load(1_000, 1.0, server_cpu_s=1.0, client_cpu_s=0.5)
    two = Load(1_500, 1.0, server_cpu_s=1.5, client_cpu_s=0.5)
    assert compute_scaling(one, two) == pytest.approx(2.0)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark_has_its_place_in_the_docs(name: str) -> None:
    assert f"<!-- generated: {name} -->" in text(Path("docs/performance.md"))
    assert f"`{name}`" in text(Path("benchmarks/README.md"))
