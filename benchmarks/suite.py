"""The table of benchmarks and the command line that runs them."""

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

from benchmarks import (
    before,
    calling,
    calling_postgres,
    console,
    events,
    gateway,
    growth,
    imports,
    latency,
    lists,
    memory,
    migration,
    personal,
    postgres,
    pricing,
    webhooks,
    workers,
)
from benchmarks.loads import h2load
from benchmarks.loads.load import LoadFailed
from benchmarks.machine import CORES, ROOT
from benchmarks.results import Section, Ticks, format_json, format_markdown, format_text, read_machine
from benchmarks.rounds import Pace

ON_POSTGRESQL = "_postgresql"
BEFORE = "before"
"""The benchmark that needs a commit, and does not run without one."""
LATEST = ROOT / "benchmarks/results/latest.json"


@dataclass(frozen=True)
class Size:
    """The size of the measurements.

    Attributes:
        orders: orders in the larger database of the benchmarks of lists and of the console.
        calls: calls before the early and the late reading of memory.
        shops: orders in the databases of the growth benchmarks.
        late_max_ms: greatest allowed 99th percentile of the delay of a load on a schedule.
        idle: idle connections to the gateway.
        kept: events to replay.
        unmet: promotions that do not apply to an order.
        persons: customers that `migrate` encrypts.
        revision: the commit to compare with.
    """

    pace: Pace
    orders: int
    calls: tuple[int, int]
    shops: tuple[int, ...]
    late_max_ms: float
    idle: int
    kept: int
    unmet: int
    persons: int
    revision: str = ""


FULL = Size(
    Pace(rounds=5, seconds=6.0, warm_up_s=3.0),
    orders=1_000_000,
    calls=(20_000, 200_000),
    shops=(1_000, 100_000, 1_000_000),
    late_max_ms=3.0,
    idle=2_000,
    kept=1_000_000,
    unmet=10_000,
    persons=1_000_000,
)
QUICK = Size(
    Pace(rounds=2, seconds=2.0, warm_up_s=1.0),
    orders=50_000,
    calls=(2_000, 8_000),
    shops=(1_000, 10_000, 50_000),
    late_max_ms=500.0,
    idle=200,
    kept=20_000,
    unmet=500,
    persons=20_000,
)

BENCHMARKS: dict[str, Callable[[Path, Size], Section]] = {
    "get_product": lambda folder, size: calling.measure_get_product(folder, size.pace),
    "place_order": lambda folder, size: calling.measure_place_order(folder, size.pace),
    "get_product_postgresql": lambda folder, size: calling_postgres.measure_get_product(folder, size.pace),
    "place_order_postgresql": lambda folder, size: calling_postgres.measure_place_order(folder, size.pace),
    "workers": lambda folder, size: workers.measure_workers(folder, size.pace),
    "latency": lambda folder, size: latency.measure_latency(folder, size.pace, late_max_ms=size.late_max_ms),
    "growth": lambda folder, size: growth.measure_sqlite(folder, size.pace, sizes=size.shops),
    "growth_postgresql": lambda folder, size: growth.measure_postgresql(folder, size.pace, sizes=size.shops),
    "list_orders": lambda folder, size: lists.measure_list_orders(folder, size.pace, many=size.orders),
    "imports": lambda folder, size: imports.measure_imports(folder, size.pace),
    "pricing": lambda folder, size: pricing.measure_pricing(folder, size.pace, unmet=size.unmet),
    "webhooks": lambda folder, size: webhooks.measure_webhooks(folder, size.pace),
    "gateway": lambda folder, size: gateway.measure_gateway(
        folder, size.pace, idle=size.idle, early=size.calls[0], late=size.calls[1]
    ),
    "console": lambda folder, size: console.measure_console(folder, size.pace, many=size.orders),
    "events": lambda folder, size: events.measure_events(folder, size.pace, kept=size.kept),
    BEFORE: lambda folder, size: before.measure_before(folder, size.pace, revision=size.revision),
    "personal": lambda folder, size: personal.measure_personal(folder, size.pace),
    "migration": lambda folder, size: migration.measure_migration(folder, customers=size.persons),
    "memory": lambda folder, size: memory.measure_memory(folder, early=size.calls[0], late=size.calls[1]),
}


def main() -> None:
    """Run the command line. The exit code is 1 if a bar is missed or a benchmark fails."""
    options = _parse_options()
    size = _choose_size(options)
    options.folder.mkdir(parents=True, exist_ok=True)
    facts = {**read_machine(), "pace": f"{size.pace.rounds} turns of {size.pace.seconds:g} s"}
    results = options.json or (options.folder / "quick.json" if options.quick else LATEST)
    sections: list[Section] = []
    failed = []
    for name in options.benchmarks:
        try:
            sections.append(_run(name, options.folder, size))
        except (LoadFailed, OSError, RuntimeError, ValueError, grpc.RpcError, subprocess.SubprocessError) as error:
            failed.append(name)  # the other benchmarks still run
            print(f"\n{name} FAILED, its files remain in {options.folder}: {error}", flush=True)
        _write(results, format_json(sections, facts))
        if options.markdown:
            _write(options.markdown, format_markdown(sections, facts))
    print(f"\nwritten: {results}" + (f", without {', '.join(failed)}" if failed else ""))
    sys.exit(bool(failed) or any(bar.missed for section in sections for bar in section.bars))


def _run(name: str, parent: Path, size: Size) -> Section:
    """Run one benchmark in its own folder, which remains if the benchmark fails."""
    began, ticks = time.monotonic(), Ticks.read_now()
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
    folder.chmod(0o755)  # another user runs PostgreSQL
    section = BENCHMARKS[name](folder, size)
    shutil.rmtree(folder)
    stolen = Ticks.read_now().compute_stolen_share(ticks)
    took = f"Measured in {time.monotonic() - began:.0f} s; stolen time: {stolen:.0%}."
    section = replace(section, name=name, took=took)
    print(format_text(section), flush=True)
    return section


def _choose_size(options: argparse.Namespace) -> Size:
    size = QUICK if options.quick else FULL
    pace = replace(size.pace, rounds=options.rounds or size.pace.rounds, seconds=options.seconds or size.pace.seconds)
    return replace(size, pace=pace, revision=options.before)


def _parse_options() -> argparse.Namespace:
    """Parse the command line, and exit if this machine cannot run the selected benchmarks."""
    parser = _build_parser()
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    options.benchmarks = options.benchmarks or [name for name in BENCHMARKS if name != BEFORE or options.before]
    names = options.benchmarks
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}; choose from {', '.join(BENCHMARKS)}")
    if BEFORE in names and not options.before:
        parser.error(f"{BEFORE} needs a commit to compare with: --before COMMIT")
    if not h2load.is_installed():
        sys.exit(h2load.INSTALL)
    if any(name.endswith(ON_POSTGRESQL) for name in names) and (hint := postgres.find_missing()):
        sys.exit(hint)
    if not set(CORES) <= os.sched_getaffinity(0):
        sys.exit(f"the servers and the load need the cores {', '.join(map(str, CORES))}")
    return options


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Storekeep against its floors and a peer. Needs two otherwise idle cores.",
    )
    parser.add_argument(
        "benchmarks", nargs="*", metavar="BENCHMARK", help=f"any of {', '.join(BENCHMARKS)}; default: all"
    )
    parser.add_argument("--quick", action="store_true", help="take a few minutes, to check that everything works")
    parser.add_argument("--rounds", type=int, help="number of turns of each contender")
    parser.add_argument("--before", metavar="COMMIT", default="", help="also compare with the program at this commit")
    parser.add_argument("--seconds", type=float, help="duration of one turn")
    parser.add_argument(
        "--json",
        type=Path,
        help="file for the results; default: benchmarks/results/latest.json, or quick.json in the folder with --quick",
    )
    parser.add_argument("--markdown", type=Path, help="file for the results as tables")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "build/bench", help="folder for databases, on a real disk"
    )
    return parser


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
