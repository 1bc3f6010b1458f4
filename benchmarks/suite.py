"""The benchmarks by name, the command that runs them, and where their results go."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import grpc

from benchmarks import before, calling, calling_postgres, growth, imports, latency, lists, memory, postgres, workers
from benchmarks.loads import h2load
from benchmarks.loads.load import LoadFailed
from benchmarks.machine import CORES, ROOT
from benchmarks.results import Section, Ticks, as_json, as_markdown, as_text, machine
from benchmarks.rounds import Pace

ON_POSTGRESQL = "_postgresql"
BEFORE = "before"
"""The benchmark that needs to be told a commit, and is left out without one."""
LATEST = ROOT / "benchmarks/results/latest.json"


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        orders: in the larger of the two databases that are listed.
        calls: before memory is looked at, early and late.
        shops: orders in the databases of which it is measured how cost grows.
        late_max_ms: the most that a load on a schedule may be late, at its 99th percentile.
        revision: the commit that the program is compared with.
    """

    pace: Pace
    orders: int
    calls: tuple[int, int]
    shops: tuple[int, ...]
    late_max_ms: float
    revision: str = ""


FULL = Size(
    Pace(rounds=5, seconds=6.0, warm_up_s=3.0),
    orders=1_000_000,
    calls=(20_000, 200_000),
    shops=(1_000, 100_000, 1_000_000),
    late_max_ms=3.0,
)
QUICK = Size(
    Pace(rounds=2, seconds=2.0, warm_up_s=1.0),
    orders=50_000,
    calls=(2_000, 8_000),
    shops=(1_000, 10_000, 50_000),
    late_max_ms=500.0,
)

BENCHMARKS: dict[str, Callable[[Path, Size], Section]] = {
    "get_product": lambda folder, size: calling.get_product(folder, size.pace),
    "place_order": lambda folder, size: calling.place_order(folder, size.pace),
    "get_product_postgresql": lambda folder, size: calling_postgres.get_product(folder, size.pace),
    "place_order_postgresql": lambda folder, size: calling_postgres.place_order(folder, size.pace),
    "workers": lambda folder, size: workers.workers(folder, size.pace),
    "latency": lambda folder, size: latency.latency(folder, size.pace, late_max_ms=size.late_max_ms),
    "growth": lambda folder, size: growth.on_sqlite(folder, size.pace, sizes=size.shops),
    "growth_postgresql": lambda folder, size: growth.on_postgresql(folder, size.pace, sizes=size.shops),
    "list_orders": lambda folder, size: lists.list_orders(folder, size.pace, many=size.orders),
    "imports": lambda folder, size: imports.imports(folder, size.pace),
    BEFORE: lambda folder, size: before.before(folder, size.pace, revision=size.revision),
    "memory": lambda folder, size: memory.memory(folder, early=size.calls[0], late=size.calls[1]),
}


def main() -> None:
    """Run the command line; the exit code is 1 when a bar is missed or a benchmark fails."""
    options = _options()
    size = _size(options)
    options.folder.mkdir(parents=True, exist_ok=True)
    facts = {**machine(), "pace": f"{size.pace.rounds} turns of {size.pace.seconds:g} s"}
    results = options.json or (options.folder / "quick.json" if options.quick else LATEST)
    sections: list[Section] = []
    failed = []
    for name in options.benchmarks:
        try:
            sections.append(_run(name, options.folder, size))
        except (LoadFailed, OSError, RuntimeError, ValueError, grpc.RpcError, subprocess.SubprocessError) as error:
            failed.append(name)  # the others are measured all the same
            print(f"\n{name} FAILED, its files are left in {options.folder}: {error}", flush=True)
        _write(results, as_json(sections, facts))
        if options.markdown:
            _write(options.markdown, as_markdown(sections, facts))
    print(f"\nwritten: {results}" + (f", without {', '.join(failed)}" if failed else ""))
    sys.exit(bool(failed) or any(bar.missed for section in sections for bar in section.bars))


def _run(name: str, parent: Path, size: Size) -> Section:
    """Measure in a folder of its own, which is left where that fails."""
    began, ticks = time.monotonic(), Ticks.now()
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
    folder.chmod(0o755)  # PostgreSQL is run by another user
    section = BENCHMARKS[name](folder, size)
    shutil.rmtree(folder)
    took = (
        f"Measured in {time.monotonic() - began:.0f} s, of whose work {Ticks.now().stolen_since(ticks):.0%} was stolen."
    )
    section = replace(section, name=name, took=took)
    print(as_text(section), flush=True)
    return section


def _size(options: argparse.Namespace) -> Size:
    size = QUICK if options.quick else FULL
    pace = replace(size.pace, rounds=options.rounds or size.pace.rounds, seconds=options.seconds or size.pace.seconds)
    return replace(size, pace=pace, revision=options.before)


def _options() -> argparse.Namespace:
    """What the command line says, where this machine can do it."""
    parser = _parser()
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    options.benchmarks = options.benchmarks or [name for name in BENCHMARKS if name != BEFORE or options.before]
    chosen = options.benchmarks
    if unknown := set(chosen) - set(BENCHMARKS):
        parser.error(f"there is no {', '.join(sorted(unknown))}, only {', '.join(BENCHMARKS)}")
    if BEFORE in chosen and not options.before:
        parser.error(f"{BEFORE} needs a commit to compare with: --before COMMIT")
    if not h2load.is_installed():
        sys.exit(h2load.INSTALL)
    if any(name.endswith(ON_POSTGRESQL) for name in chosen) and (hint := postgres.missing()):
        sys.exit(hint)
    if not set(CORES) <= os.sched_getaffinity(0):
        sys.exit(f"the servers and the load need the cores {CORES}")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Storekeep beside its floors and a peer. Needs two cores that do nothing else.",
    )
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help=f"which of {', '.join(BENCHMARKS)}; all")
    parser.add_argument("--quick", action="store_true", help="some minutes, to see that all of it works")
    parser.add_argument("--rounds", type=int, help="turns of each contender")
    parser.add_argument("--before", metavar="COMMIT", default="", help="also compare with the program at this commit")
    parser.add_argument("--seconds", type=float, help="of one turn")
    parser.add_argument(
        "--json",
        type=Path,
        help="where the results go; benchmarks/results/latest.json, or the folder after a quick run",
    )
    parser.add_argument("--markdown", type=Path, help="where they also go, as tables")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/bench", help="for databases: on a real disk")
    return parser


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
