"""Where the server's time goes: py-spy samples it, pinned and under the benchmark's own load.

    python -m benchmarks.profile reads|orders|reads_postgresql|orders_postgresql|peer [--seconds 10] [--inside TEXT]

Prints processor time by thread, which the kernel counted, then functions by their own time and by all time below them,
which are samples of whoever held the GIL. The raw stacks are kept beside, for a flame graph.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from benchmarks import calls, postgres, stocking, subjects
from benchmarks.calling_postgres import ORDERS_IN_FLIGHT
from benchmarks.loads import h2load, orders
from benchmarks.loads.load import Load
from benchmarks.machine import LOAD_CORE, ONE_OF_BOTH, ROOT, Server, threads_cpu_s
from benchmarks.subjects import Storekeep

SAMPLES_PER_S = 100
WARM_UP_S = 2.0
HEAD_START_S = 1.0
LINES = 40
PY_SPY = Path(sysconfig.get_path("scripts"), "py-spy")

THREAD = re.compile(r"thread \((?P<id>\d+)\)(?:: (?P<name>.*?)[\d_]*$)?")
"""How py-spy names a thread; a pool numbers its threads."""

Send = Callable[[float], Load]
"""Keeps the subject under load for so many seconds."""
Serve = Callable[[ExitStack, Path], Storekeep]
"""Serves Storekeep with its data in a folder."""


def on_sqlite(stack: ExitStack, folder: Path) -> Storekeep:
    """Storekeep with its defaults."""
    return stack.enter_context(subjects.storekeep(folder / "storekeep"))


def on_postgresql(stack: ExitStack, folder: Path) -> Storekeep:
    """Storekeep on a PostgreSQL that shares two cores with it and the load."""
    folder.chmod(0o755)
    database = stack.enter_context(postgres.running(folder / "postgres")).create("storekeep")
    return stack.enter_context(subjects.storekeep(folder / "storekeep", database=database, placement=ONE_OF_BOTH))


def reads(stack: ExitStack, folder: Path, serve: Serve = on_sqlite) -> tuple[Server, Send]:
    """Storekeep under GetProduct."""
    shop = serve(stack, folder)
    stocking.stock(shop)
    answer = calls.get_product(shop)
    request = calls.grpc_request(
        calls.GET_PRODUCT, calls.get_product_message(), answer=answer, token=shop.token(), folder=folder
    )
    return shop.server, lambda seconds: h2load.send(request, shop.server, seconds=seconds)


def place_orders(stack: ExitStack, folder: Path, serve: Serve = on_sqlite) -> tuple[Server, Send]:
    """Storekeep under PlaceOrder."""
    shop = serve(stack, folder)
    stocking.stock(shop)
    in_flight = orders.IN_FLIGHT if serve is on_sqlite else ORDERS_IN_FLIGHT
    return shop.server, lambda seconds: orders.send(
        orders.GRPC, shop.server, token=shop.token(), seconds=seconds, in_flight=in_flight
    )


def peer_orders(stack: ExitStack, folder: Path) -> tuple[Server, Send]:
    """The peer under its PlaceOrder."""
    peer = stack.enter_context(subjects.peer(folder / "peer", tuning="usual"))
    return peer.server, lambda seconds: orders.send(orders.HTTP, peer.server, token=peer.token, seconds=seconds)


SUBJECTS: dict[str, Callable[[ExitStack, Path], tuple[Server, Send]]] = {
    "reads": reads,
    "orders": place_orders,
    "reads_postgresql": lambda stack, folder: reads(stack, folder, on_postgresql),
    "orders_postgresql": lambda stack, folder: place_orders(stack, folder, on_postgresql),
    "peer": peer_orders,
}


def sample(pid: int, output: Path, *, seconds: int, options: list[str]) -> None:
    """Have py-spy watch a process and write its raw stacks, from the load's core.

    Raises: subprocess.CalledProcessError.
    """
    command = ["taskset", "--cpu-list", str(LOAD_CORE), str(PY_SPY), "record", "--format", "raw", "--threads"]
    command += ["--pid", str(pid), "--duration", str(seconds), "--rate", str(SAMPLES_PER_S), "--output", str(output)]
    subprocess.run([*command, *options], check=True, capture_output=True, timeout=seconds + 60)


def count(stacks: str, *, inside: str) -> tuple[Counter[str], Counter[str], int]:
    """Samples by the function that ran, by every function above it, and in all.

    Args:
        stacks: what py-spy wrote: `thread;outer (file:line);inner (file:line) samples` a line.
        inside: count only stacks that have this text in one of their frames; below that frame for "all below".
    """
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in stacks.splitlines():
        frames, _, samples = line.rpartition(" ")
        if inside not in frames:
            continue
        names = [_function(frame) for frame in frames.split(";")]
        own[names[-1]] += int(samples)
        for name in set(names):
            total[name] += int(samples)
    return own, total, sum(own.values())


def _function(frame: str) -> str:
    """A frame without its line number and without what every path begins with; threads of a pool are one."""
    if thread := THREAD.match(frame):
        return f"thread {thread['name']}"
    name, _, place = frame.partition(" (")
    file = place.rstrip(")").rpartition(":")[0] or place.rstrip(")")
    return f"{name}  {'/'.join(file.split('/')[-3:])}".rstrip()


def by_thread(before: dict[int, float], after: dict[int, float], stacks: str) -> Counter[str]:
    """Milliseconds of processor time by the threads' names in Python, or those that the kernel knows."""
    found = (THREAD.match(line.partition(";")[0]) for line in stacks.splitlines())
    names = {int(thread["id"]): thread["name"] for thread in found if thread}
    used: Counter[str] = Counter()
    for thread_id, cpu_s in after.items():
        name = names.get(thread_id) or "(no Python seen)"
        used[name] += round(1000 * (cpu_s - before.get(thread_id, 0.0)))
    return used


def show(title: str, counter: Counter[str], samples: int) -> None:
    """Print the functions with the most samples, as shares of all."""
    print(f"\n{title}")
    for name, number in counter.most_common(LINES):
        print(f"  {100 * number / samples:5.1f} %  {name}")


def run(options: argparse.Namespace) -> None:
    """Start the subject, warm it up, watch it under load, and print what was seen."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    options.keep.mkdir(parents=True, exist_ok=True)
    raw = options.keep / f"{options.subject}.raw"
    flags = [flag for flag in ("--gil", "--native", "--nonblocking") if getattr(options, flag[2:])]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.keep)))
        server, send = SUBJECTS[options.subject](stack, folder)
        send(WARM_UP_S)
        with ThreadPoolExecutor(1) as pool:
            pid, before = server.worker(), threads_cpu_s(server.worker())
            load = pool.submit(send, options.seconds + 2 * HEAD_START_S)
            sample(pid, raw, seconds=options.seconds, options=flags)
            rate, after = load.result().per_s, threads_cpu_s(pid)
    stacks = raw.read_text()
    own, total, samples = count(stacks, inside=options.inside)
    print(f"{samples} samples at {rate:.0f} calls/s; raw stacks: {raw}")
    used = by_thread(before, after, stacks)
    show("Processor time by thread", used, used.total() or 1)
    show("Own time", own, samples or 1)
    show("All time below", total, samples or 1)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument(
        "--gil",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="only threads that hold the GIL; without it also those that run C code or wait for the disk",
    )
    parser.add_argument(
        "--nonblocking",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="do not stop the server for each sample: it keeps its rate, but a few stacks are mixed up",
    )
    parser.add_argument("--native", action="store_true", help="with the frames of C extensions")
    parser.add_argument("--inside", default="", help="only stacks in which this text occurs, such as place_order")
    parser.add_argument("--keep", type=Path, default=ROOT / "build/profiles", help="where the stacks are kept")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
