"""The benchmarks by name, the command that runs them, and where their results go."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import calling, lists, memory
from benchmarks.loads import h2load
from benchmarks.machine import ROOT
from benchmarks.results import Section, Ticks, as_json, as_markdown, as_text, machine
from benchmarks.rounds import Pace

CORES_MIN = 2
LATEST = ROOT / "benchmarks/results/latest.json"


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        orders: in the larger of the two databases that are listed.
        calls: before memory is looked at, early and late.
    """

    pace: Pace
    orders: int
    calls: tuple[int, int]


FULL = Size(Pace(rounds=5, seconds=6.0, warm_up_s=3.0), orders=1_000_000, calls=(20_000, 200_000))
QUICK = Size(Pace(rounds=2, seconds=2.0, warm_up_s=1.0), orders=50_000, calls=(2_000, 8_000))

BENCHMARKS: dict[str, Callable[[Path, Size], Section]] = {
    "get_product": lambda folder, size: calling.get_product(folder, size.pace),
    "place_order": lambda folder, size: calling.place_order(folder, size.pace),
    "list_orders": lambda folder, size: lists.list_orders(folder, size.pace, many=size.orders),
    "memory": lambda folder, size: memory.memory(folder, early=size.calls[0], late=size.calls[1]),
}


def main() -> None:
    """Run the command line; the exit code is 1 when a bar is missed."""
    options = _parser().parse_args()
    _check_machine()
    size = _size(options)
    began = Ticks.now()
    options.folder.mkdir(parents=True, exist_ok=True)
    sections = []
    for name in options.benchmarks or BENCHMARKS:
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=options.folder))
        section = BENCHMARKS[name](folder, size)
        shutil.rmtree(folder)
        print(as_text(section), flush=True)
        sections.append(section)
    pace = f"{size.pace.rounds} turns of {size.pace.seconds:g} s"
    facts = {**machine(), "pace": pace, "stolen time": f"{Ticks.now().stolen_since(began):.0%}"}
    _write(options.json or (options.folder / "quick.json" if options.quick else LATEST), as_json(sections, facts))
    if options.markdown:
        _write(options.markdown, as_markdown(sections, facts))
    sys.exit(not all(bar.met for section in sections for bar in section.bars))


def _size(options: argparse.Namespace) -> Size:
    size = QUICK if options.quick else FULL
    pace = replace(size.pace, rounds=options.rounds or size.pace.rounds, seconds=options.seconds or size.pace.seconds)
    return replace(size, pace=pace)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Storekeep beside its floors and a peer. Needs two cores that do nothing else.",
    )
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help=f"which of {', '.join(BENCHMARKS)}; all")
    parser.add_argument("--quick", action="store_true", help="a minute or two, to see that all of it works")
    parser.add_argument("--rounds", type=int, help="turns of each contender")
    parser.add_argument("--seconds", type=float, help="of one turn")
    parser.add_argument(
        "--json",
        type=Path,
        help="where the results go; benchmarks/results/latest.json, or the folder after a quick run",
    )
    parser.add_argument("--markdown", type=Path, help="where they also go, as tables")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/bench", help="for databases: on a real disk")
    return parser


def _check_machine() -> None:
    if not h2load.is_installed():
        sys.exit(h2load.INSTALL)
    if len(os.sched_getaffinity(0)) < CORES_MIN:
        sys.exit("the servers and the load need a core each, and there is only one")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(f"written: {path}")
