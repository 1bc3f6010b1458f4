"""Rotations of the key-encryption key: while the database is served, killed at any time, with a lost or wrong key."""

from __future__ import annotations

import stat

import pytest

from storekeep.server.runtime.secrets import KEY_ENCRYPTION_KEY
from tests.conftest import MakeServer
from tests.support.key_kills import SUBJECTS, kill_rotations, kill_while_erasing, read_keys

ROUNDS = 5
CURRENT, PREVIOUS = KEY_ENCRYPTION_KEY.current, KEY_ENCRYPTION_KEY.previous


def test_rotation_while_serving_keeps_every_data_key(make_server: MakeServer) -> None:
    server = make_server()
    path = server.data_dir / CURRENT
    first = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = read_keys(server)
    rotated = server.run("rotate-kek")
    assert (rotated.returncode, rotated.stderr) == (0, "")
    assert rotated.stdout.startswith(f"{len(SUBJECTS) + 1} data keys are encrypted")
    assert (server.data_dir / PREVIOUS).read_bytes() == first != path.read_bytes()
    again = server.run("rotate-kek")
    assert again.returncode == 1
    assert "rotate-kek --finish" in again.stderr
    assert read_keys(server) == before
    assert server.run("rotate-kek", "--finish").returncode == 0
    assert not (server.data_dir / PREVIOUS).exists()
    assert read_keys(server) == before
    repeated = server.run("rotate-kek", "--finish")
    assert (repeated.returncode, "no rotation is in progress" in repeated.stderr) == (1, True)
    server.stop()
    server.restart()
    assert server.run("verify").returncode == 0


@pytest.mark.engine("sqlite", reason="PostgreSQL has no keys files")
def test_finish_is_refused_while_the_newest_keys_file_needs_the_previous_kek(make_server: MakeServer) -> None:
    server = make_server()
    before = read_keys(server)
    folder = server.data_dir / "backups"
    folder.mkdir(exist_ok=True)
    assert server.run("backup", str(folder / "old.db")).returncode == 0
    assert server.run("rotate-kek").returncode == 0
    refused = server.run("rotate-kek", "--finish")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1), refused.stderr
    assert "old.keys" in refused.stderr
    assert (server.data_dir / PREVIOUS).exists()
    assert server.run("rotate-kek", "--force").returncode == 2
    assert server.run("backup", str(folder / "new.db")).returncode == 0
    finished = server.run("rotate-kek", "--finish")
    assert (finished.returncode, "old.keys" in finished.stdout) == (0, True), finished.stderr
    assert server.run("rotate-kek").returncode == 0
    assert server.run("rotate-kek", "--finish", "--force").returncode == 0
    assert not (server.data_dir / PREVIOUS).exists()
    assert read_keys(server) == before


def test_rotation_killed_at_any_time_goes_on(make_server: MakeServer) -> None:
    assert kill_rotations(make_server(), rounds=ROUNDS, seed=16)


def test_erasures_are_whole_after_kills(make_server: MakeServer) -> None:
    erased, customers = kill_while_erasing(make_server(), rounds=ROUNDS, seed=16)
    assert 0 < erased < customers


@pytest.mark.parametrize("kek", ["wrong", "missing"])
def test_start_without_the_right_kek_is_refused_in_one_line(make_server: MakeServer, kek: str) -> None:
    server = make_server()
    read_keys(server)
    server.stop()
    path = server.data_dir / CURRENT
    right = path.read_bytes()
    path.unlink()
    if kek == "wrong":
        path.write_bytes(right[:1] + right[2:-1] + b"0a\n")
        path.chmod(0o600)
    for command in (("serve",), ("config", "check"), ("doctor",)):
        refused = server.run(*command)
        assert refused.returncode == 1, refused.stdout + refused.stderr
        told = refused.stdout if command == ("doctor",) else refused.stderr
        assert "needs the key-encryption key" in told, told
        assert "Traceback" not in refused.stderr
        if command == ("serve",):
            assert len(refused.stderr.splitlines()) == 1, refused.stderr
    path.write_bytes(right)
    path.chmod(0o600)
    server.restart()
