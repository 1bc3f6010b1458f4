"""200 cycles with a disk whose syncs and writes fail, are delayed, truncated or faked, followed by a kill.

`tests/support/faults/disks.py` describes the simulated faults. After each cycle, the replies to callers are compared
with the database, and `storekeep-server verify` checks all of it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.support.budgets import ROUNDS, SEED
from tests.support.buyers import Buyers
from tests.support.faults.cycles import FAULTS, MAY_FAIL, run_cycle
from tests.support.faults.disks import FaultyDisk

CYCLES = max(len(FAULTS), ROUNDS * 2 // 3)
CYCLES_PER_DATABASE = 10
"""Cycles before a new database is used, because every cycle compares all orders."""
GOES_ON_MAX_S = 1.5
"""How long callers continue after a fault: long enough for the log to restart."""


@pytest.mark.engine("sqlite", reason="PostgreSQL has files of its own")
def test_faulty_disk_loses_nothing_acknowledged(make_server: MakeServer, tmp_path: Path):
    disk = FaultyDisk(tmp_path / "disk")
    outcomes: Counter[str] = Counter()
    acknowledged = 0
    for first in range(0, CYCLES, CYCLES_PER_DATABASE):
        server = make_server(environment=disk.environment)
        buyers = Buyers(server, seed=SEED + first, no_answer=MAY_FAIL)
        for number in range(first, min(CYCLES, first + CYCLES_PER_DATABASE)):
            fault = FAULTS[number % len(FAULTS)]
            cycle = run_cycle(buyers, disk, fault, goes_on_max_s=GOES_ON_MAX_S)
            buyers.check()
            name = f"{fault.kind.name} {fault.call.name} {fault.file}"
            outcomes[f"{name}: {'hit' if cycle.is_hit else 'not reached'}, exit code {cycle.exit_code}"] += 1
        acknowledged += len(buyers.account.acknowledged)
        server.kill()
    print(f"\n{CYCLES} cycles, {acknowledged} orders acknowledged and all present")  # noqa: T201 - the result
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:4} {outcome}")  # noqa: T201 - the result
    fatal = [fault for fault, _ in zip(itertools.cycle(FAULTS), range(CYCLES), strict=False) if fault.is_fatal]
    assert len(fatal) <= sum(count for outcome, count in outcomes.items() if outcome.endswith(", exit code 74"))
