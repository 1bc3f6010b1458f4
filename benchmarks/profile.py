"""Profile the server with py-spy, pinned and under the load of the benchmarks.

    python -m benchmarks.profile reads|orders|reads_postgresql|orders_postgresql|peer [--seconds 10] [--inside TEXT]

Prints the processor time of each thread, as counted by the kernel, then the functions with the most own time and total
time, from samples of the thread that holds the GIL. The raw stacks are kept for a flame graph.
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
from benchmarks.machine import LOAD_CORE, ONE_OF_BOTH, ROOT, Server, read_threads_cpu_s
from benchmarks.subjects import Storekeep

SAMPLES_PER_S = 100
WARM_UP_S = 2.0
HEAD_START_S = 1.0
LINES = 40
PY_SPY = Path(sysconfig.get_path("scripts"), "py-spy")

THREAD = re.compile(r"thread \((?P<id>\d+)\)(?:: (?P<name>.*?)[\d_]*$)?")
"""The form of thread names in py-spy. Thread pools append a number."""

Send = Callable[[float], Load]
"""Keeps the subject under load for some seconds."""
Serve = Callable[[ExitStack, Path], Storekeep]
"""Serves Storekeep with its data in a folder."""


def serve_on_sqlite(stack: ExitStack, folder: Path) -> Storekeep:
    """Run Storekeep with its defaults."""
    return stack.enter_context(subjects.run_storekeep(folder / "storekeep"))


def serve_on_postgresql(stack: ExitStack, folder: Path) -> Storekeep:
    """Run Storekeep on PostgreSQL, with both and the load on the same two cores."""
    folder.chmod(0o755)
    database = stack.enter_context(postgres.run_postgres(folder / "postgres")).create("storekeep")
    return stack.enter_context(subjects.run_storekeep(folder / "storekeep", database=database, placement=ONE_OF_BOTH))


def load_reads(stack: ExitStack, folder: Path, serve: Serve = serve_on_sqlite) -> tuple[Server, Send]:
    """Return Storekeep and its load of GetProduct."""
    shop = serve(stack, folder)
    stocking.stock_catalogue(shop)
    answer = calls.read_product(shop)
    request = calls.build_grpc_request(
        calls.GET_PRODUCT, calls.build_get_product_message(), answer=answer, token=shop.get_token(), folder=folder
    )
    return shop.server, lambda seconds: h2load.send(request, shop.server, seconds=seconds)


def load_orders(stack: ExitStack, folder: Path, serve: Serve = serve_on_sqlite) -> tuple[Server, Send]:
    """Return Storekeep and its load of PlaceOrder."""
    shop = serve(stack, folder)
    stocking.stock_catalogue(shop)
    in_flight = orders.IN_FLIGHT if serve is serve_on_sqlite else ORDERS_IN_FLIGHT
    return shop.server, lambda seconds: orders.send(
        orders.GRPC, shop.server, token=shop.get_token(), seconds=seconds, in_flight=in_flight
    )


def load_peer_orders(stack: ExitStack, folder: Path) -> tuple[Server, Send]:
    """Return the peer and its load of orders."""
    peer = stack.enter_context(subjects.run_peer(folder / "peer", tuning="usual"))
    return peer.server, lambda seconds: orders.send(orders.HTTP, peer.server, token=peer.token, seconds=seconds)


SUBJECTS: dict[str, Callable[[ExitStack, Path], tuple[Server, Send]]] = {
    "reads": load_reads,
    "orders": load_orders,
    "reads_postgresql": lambda stack, folder: load_reads(stack, folder, serve_on_postgresql),
    "orders_postgresql": lambda stack, folder: load_orders(stack, folder, serve_on_postgresql),
    "peer": load_peer_orders,
}


def sample(pid: int, output: Path, *, seconds: int, options: list[str]) -> None:
    """Sample a process with py-spy on the load's core, and write the raw stacks to `output`.

    Raises: subprocess.CalledProcessError if py-spy fails.
    """
    command = ["taskset", "--cpu-list", str(LOAD_CORE), str(PY_SPY), "record", "--format", "raw", "--threads"]
    command += ["--pid", str(pid), "--duration", str(seconds), "--rate", str(SAMPLES_PER_S), "--output", str(output)]
    subprocess.run([*command, *options], check=True, capture_output=True, timeout=seconds + 60)


def count_samples(stacks: str, *, inside: str) -> tuple[Counter[str], Counter[str], int]:
    """Return the samples by running function, the samples by every function on the stack, and the total.

    Args:
        stacks: py-spy's raw output, with lines `thread;outer (file:line);inner (file:line) samples`.
        inside: count only stacks that contain this text.
    """
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in stacks.splitlines():
        frames, _, samples = line.rpartition(" ")
        if inside not in frames:
            continue
        names = [_shorten_frame(frame) for frame in frames.split(";")]
        own[names[-1]] += int(samples)
        for name in set(names):
            total[name] += int(samples)
    return own, total, sum(own.values())


def _shorten_frame(frame: str) -> str:
    """Return a frame without its line number and with a short path. Threads of a pool get the same name."""
    if thread := THREAD.match(frame):
        return f"thread {thread['name']}"
    name, _, location = frame.partition(" (")
    file = location.rstrip(")").rpartition(":")[0] or location.rstrip(")")
    return f"{name}  {'/'.join(file.split('/')[-3:])}".rstrip()


def sum_by_thread(before: dict[int, float], after: dict[int, float], stacks: str) -> Counter[str]:
    """Return the processor time between two readings in milliseconds, by thread name."""
    matches = (THREAD.match(line.partition(";")[0]) for line in stacks.splitlines())
    names = {int(thread["id"]): thread["name"] for thread in matches if thread}
    used: Counter[str] = Counter()
    for thread_id, cpu_s in after.items():
        name = names.get(thread_id) or "(no Python frames)"
        used[name] += round(1000 * (cpu_s - before.get(thread_id, 0.0)))
    return used


def show(title: str, counter: Counter[str], samples: int) -> None:
    """Print the entries with the most samples, as percentages of all samples."""
    print(f"\n{title}")
    for name, number in counter.most_common(LINES):
        print(f"  {100 * number / samples:5.1f} %  {name}")


def run(options: argparse.Namespace) -> None:
    """Start the subject, warm it up, sample it under load, and print the result."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    options.keep.mkdir(parents=True, exist_ok=True)
    raw = options.keep / f"{options.subject}.raw"
    flags = [flag for flag in ("--gil", "--native", "--nonblocking") if getattr(options, flag[2:])]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.keep)))
        server, send = SUBJECTS[options.subject](stack, folder)
        send(WARM_UP_S)
        with ThreadPoolExecutor(1) as pool:
            pid, before = server.find_worker(), read_threads_cpu_s(server.find_worker())
            load = pool.submit(send, options.seconds + 2 * HEAD_START_S)
            sample(pid, raw, seconds=options.seconds, options=flags)
            rate, after = load.result().per_s, read_threads_cpu_s(pid)
    stacks = raw.read_text()
    own, total, samples = count_samples(stacks, inside=options.inside)
    print(f"{samples} samples at {rate:.0f} calls/s; raw stacks: {raw}")
    used = sum_by_thread(before, after, stacks)
    show("Processor time by thread", used, used.total() or 1)
    show("Own time", own, samples or 1)
    show("Total time", total, samples or 1)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument(
        "--gil",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="sample only threads that hold the GIL; --no-gil includes those that run C code or wait for the disk",
    )
    parser.add_argument(
        "--nonblocking",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="do not pause the server for each sample; it keeps its rate, but a few stacks are inconsistent",
    )
    parser.add_argument("--native", action="store_true", help="include the frames of C extensions")
    parser.add_argument("--inside", default="", help="count only stacks that contain this text, such as place_order")
    parser.add_argument("--keep", type=Path, default=ROOT / "build/profiles", help="folder for the raw stacks")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
