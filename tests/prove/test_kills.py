"""Hundreds of kills of the server and its commands at random moments: acknowledged changes are never lost."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeServer
from tests.support.budgets import ROUNDS, SEED
from tests.support.buyers import Buyers, kill_while_buying, open_shop, verify
from tests.support.processes import COMMAND, ServerProcess, run_command, server_environment

CHECK_EVERY = 50
LOAD_MAX_S = 0.5
OTHER_ROUNDS = max(3, ROUNDS // 10)
END_TIMEOUT_S = 60.0


@pytest.fixture
def chance() -> random.Random:
    return random.Random(SEED)


def report(buyers: Buyers) -> None:
    account = buyers.account
    print(  # noqa: T201 - the result
        f"\n{len(account.asked)} orders requested, {len(account.acknowledged)} acknowledged and all present, "
        f"{account.broken_off} calls interrupted, {account.retried} retried, none done twice"
    )


def start_command(*arguments: str, data_dir: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [COMMAND, *arguments],
        env=server_environment(data_dir),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_after(process: subprocess.Popen[bytes], after_s: float) -> bool:
    """Kill a command after some seconds. Return whether it was still running."""
    time.sleep(after_s)
    process.kill()
    return process.wait(END_TIMEOUT_S) != 0


def measure_duration(action: Callable[[], object]) -> float:
    """Return how long an action takes in seconds: the range of the random moments of the kills."""
    begun_s = time.monotonic()
    action()
    return time.monotonic() - begun_s


def migrated(data_dir: Path) -> Path:
    done = run_command("migrate", data_dir=data_dir)
    assert done.returncode == 0, done.stderr
    return data_dir


def test_kill_under_load(make_server: MakeServer):
    buyers = Buyers(make_server(), seed=SEED)
    for number in range(1, ROUNDS + 1):
        kill_while_buying(buyers, after_s=buyers.random.uniform(0, LOAD_MAX_S))
        if number % CHECK_EVERY == 0:
            buyers.check()
    buyers.check()
    report(buyers)


def test_kill_during_drain(make_server: MakeServer):
    buyers = Buyers(make_server(), seed=SEED)
    for _ in range(OTHER_ROUNDS):
        with buyers.buying():
            buyers.server.process.send_signal(signal.SIGTERM)
            time.sleep(buyers.random.uniform(0, 0.3))
            buyers.server.kill()
        buyers.server.start()
    buyers.check()
    report(buyers)


def test_stop_under_load_ends_in_order_and_loses_nothing(make_server: MakeServer):
    buyers = Buyers(make_server(), seed=SEED)
    for _ in range(OTHER_ROUNDS):
        with buyers.buying():
            assert buyers.server.stop() == 0
        buyers.server.start()
    buyers.check()
    report(buyers)


def test_kill_while_starting(make_server: MakeServer):
    buyers = Buyers(make_server(), seed=SEED)
    with buyers.buying():
        buyers.server.kill()
    start_s = measure_duration(buyers.server.start)
    for _ in range(OTHER_ROUNDS):
        buyers.server.kill()
        kill_after(start_command("serve", data_dir=buyers.server.data_dir), buyers.random.uniform(0, start_s))
        buyers.server.start()
    buyers.check()


def test_kill_on_the_first_start_leaves_a_server_that_can_be_called(tmp_path: Path, chance: random.Random):
    start_s = measure_duration(lambda: ServerProcess(tmp_path / "first").kill())
    for number in range(OTHER_ROUNDS):
        data_dir = migrated(tmp_path / str(number))
        kill_after(start_command("serve", data_dir=data_dir), chance.uniform(start_s / 3, start_s))
        server = ServerProcess(data_dir)
        try:
            with open_shop(server) as shop:
                assert shop.subject
        finally:
            server.kill()
        verify(server)


def test_kill_during_migrate(tmp_path: Path, chance: random.Random):
    migrate_s = measure_duration(lambda: migrated(tmp_path / "whole"))
    outcomes: Counter[bool] = Counter()
    for number in range(OTHER_ROUNDS):
        data_dir = tmp_path / str(number)
        moment_s = chance.uniform(migrate_s / 2, migrate_s)
        outcomes[kill_after(start_command("migrate", data_dir=data_dir), moment_s)] += 1
        migrated(data_dir)
        verified = run_command("verify", data_dir=data_dir)
        assert verified.returncode == 0, verified.stdout + verified.stderr
    assert outcomes[True], "no migration was killed"


@pytest.mark.engine("sqlite", reason="PostgreSQL is copied by its own programs")
def test_kill_during_backup_leaves_no_half_copy(make_server: MakeServer, tmp_path: Path):
    buyers = Buyers(make_server(), seed=SEED)
    data_dir = buyers.server.data_dir
    backup_s = measure_duration(lambda: run_command("backup", str(tmp_path / "whole.db"), data_dir=data_dir))
    with buyers.buying():
        for number in range(OTHER_ROUNDS):
            copy = tmp_path / f"{number}.db"
            moment_s = buyers.random.uniform(backup_s / 2, backup_s)
            kill_after(start_command("backup", str(copy), data_dir=data_dir), moment_s)
            if not copy.exists():
                assert run_command("backup", str(copy), data_dir=data_dir).returncode == 0
            check_copy(copy, data_dir=tmp_path / f"restored-{number}")
        buyers.server.kill()
    buyers.server.start()
    buyers.check()


def check_copy(copy: Path, *, data_dir: Path) -> None:
    """Check that a backup can be restored and verified."""
    data_dir.mkdir()
    restored = run_command("restore", str(copy), data_dir=data_dir)
    assert restored.returncode == 0, restored.stderr
    verified = run_command("verify", data_dir=data_dir)
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.engine("sqlite", reason="PostgreSQL is copied by its own programs")
def test_kill_during_restore_leaves_the_old_database_or_the_new(make_server: MakeServer, tmp_path: Path):
    buyers = Buyers(make_server(), seed=SEED)
    data_dir, copy = buyers.server.data_dir, tmp_path / "copy.db"
    with buyers.buying():
        time.sleep(0.5)
        assert run_command("backup", str(copy), data_dir=data_dir).returncode == 0
        buyers.server.kill()
    restore_s = measure_duration(lambda: run_command("restore", str(copy), data_dir=data_dir))
    for _ in range(OTHER_ROUNDS):
        kill_after(
            start_command("restore", str(copy), data_dir=data_dir), buyers.random.uniform(restore_s / 2, restore_s)
        )
        verified = run_command("verify", data_dir=data_dir)
        assert verified.returncode == 0, verified.stdout + verified.stderr
