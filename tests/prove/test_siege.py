"""All attacks without a token at once for PROVE_SECONDS. Afterwards the server uses no more resources than before."""

from __future__ import annotations

import gzip
import itertools
import multiprocessing
import os
import struct
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from tests.conftest import MakeServer
from tests.support.hostile.callers import HonestCallers
from tests.support.hostile.usage import descriptors, list_processes, memory_mib, threads
from tests.support.hostile.wire import (
    CHECK,
    GET,
    ISSUE,
    PLACE,
    REFLECT,
    UNKNOWN,
    WATCH,
    Attacker,
    frame_message,
    wait_until,
)

SECONDS = float(os.environ.get("PROVE_SECONDS", "600"))
MEMORY_MIB = 32
CALLS = 200
WARM_CALLS = 20_000
"""After so many calls, the caches of replies, tokens and database pages are full: 12 MiB on SQLite."""
BOMB = frame_message(gzip.compress(bytes(16_000_000)), compressed=True)
PATHS = (GET, PLACE, ISSUE, CHECK, WATCH, REFLECT, UNKNOWN)


def hold_headers(attacker: Attacker) -> None:
    for path in itertools.islice(itertools.cycle(PATHS), 100):
        attacker.open(path)


def hold_bytes(attacker: Attacker) -> None:
    for _ in range(50):
        stream = attacker.open(GET, struct.pack(">BI", 0, 2 * 1024 * 1024))
        attacker.data(stream, bytes(60_000))


def send_bombs(attacker: Attacker) -> None:
    for path in PATHS:
        attacker.open(path, BOMB, ends=True, extra=[("grpc-encoding", "gzip")])


def hold_streams(attacker: Attacker) -> None:
    for path in itertools.islice(itertools.cycle((WATCH, REFLECT)), 100):
        attacker.open(path, frame_message(b"\x3a\x00" if path == REFLECT else b""))


def send_metadata(attacker: Attacker) -> None:
    for path in PATHS:
        attacker.open(path, frame_message(b""), ends=True, extra=[(f"x-{number}", "y" * 900) for number in range(60)])


def send_unknown(attacker: Attacker) -> None:
    for number in range(100):
        attacker.open(f"/nobody.v1.Service{number}/Get", frame_message(b""), ends=True)


def say_nothing(attacker: Attacker) -> None:
    time.sleep(1)


def reset_rapidly(attacker: Attacker) -> None:
    for _ in range(100):
        attacker.reset(attacker.open(GET))


ATTACKS: tuple[Callable[[Attacker], None], ...] = (
    hold_headers,
    hold_bytes,
    send_bombs,
    hold_streams,
    send_metadata,
    send_unknown,
    say_nothing,
    reset_rapidly,
)


def besiege_in_all_ways(address: str, stop: Any) -> None:
    """Run all attacks at once until `stop` is set. It runs in its own process to take no time from the callers."""
    attackers = [
        threading.Thread(target=besiege, args=(address, attack, stop, number), daemon=True)
        for number, attack in enumerate(ATTACKS)
    ]
    for attacker in attackers:
        attacker.start()
    for attacker in attackers:
        attacker.join()


def besiege(address: str, attack: Callable[[Attacker], None], stop: Any, number: int) -> None:
    """Repeat one attack on its own connections, some of which neither read nor acknowledge."""
    held: list[Attacker] = []
    for turn in itertools.count():
        if stop.wait(0.2):
            break
        try:
            attacker = Attacker(
                address,
                source=f"127.0.0.{2 + number}",
                reads=turn % 4 != 3,
                acknowledges=turn % 3 != 2,
            )
        except OSError:
            continue
        attacker.socket.settimeout(5)
        held.append(attacker)
        attack(attacker)
        while len(held) > 20:
            held.pop(0).close()
    for attacker in held:
        attacker.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_siege_leaves_nothing_behind(make_server: MakeServer, workers: str):
    server = make_server("--workers", workers, queue_wait_max_s="5", health_timeout_s="30", log_level="ERROR")
    callers = HonestCallers(server)
    before_s = callers.median_s(calls=CALLS)
    while callers.calls < WARM_CALLS:
        time.sleep(1)
    callers.stop()
    with ExitStack() as stack:  # opens what the first concurrent calls open
        for _ in range(100):
            stack.enter_context(Attacker(server.address)).call(CHECK)
    quiet = memory_mib(server), threads(server), descriptors(server)
    processes = len(list_processes(server))

    context = multiprocessing.get_context("spawn")  # a fork of a process in which gRPC has threads can crash
    stop = context.Event()
    attackers = context.Process(target=besiege_in_all_ways, args=(server.address, stop), daemon=True)
    attackers.start()
    callers = HonestCallers(server)
    samples_mib = []
    for _ in range(10):
        time.sleep(SECONDS / 10)
        samples_mib.append(round(memory_mib(server)))
    during_s = callers.median_s(calls=CALLS)
    besieged = memory_mib(server), threads(server), descriptors(server)
    stop.set()
    attackers.join(timeout=60)
    attackers.kill()
    callers.stop()
    print(  # noqa: T201 - the result
        f"\n{callers.calls} calls, {len(callers.errors)} errors {callers.errors[:2]}; median {before_s:.4f} s, "
        f"besieged {during_s:.4f} s; memory, threads, descriptors: {quiet}, besieged {besieged}; "
        f"memory meanwhile {samples_mib} MiB"
    )
    try:
        wait_until(lambda: threads(server) <= quiet[1] + 2 * processes, what="threads end")
        # SQLite keeps some.
        wait_until(lambda: descriptors(server) <= quiet[2] + 8 * processes, what="descriptors are closed")
        wait_until(lambda: memory_mib(server) - quiet[0] < MEMORY_MIB * processes, what="memory is given back")
    finally:
        print(f"after: {memory_mib(server), threads(server), descriptors(server)}")  # noqa: T201 - the result
    assert not callers.errors, callers.errors[:3]
