"""A login stores a valid address and API key in a file that only its owner can read."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.processes import ServerProcess


def login_file(tmp_path: Path) -> Path:
    return tmp_path / "config" / "storekeep" / "login.json"


def log_in(bare_cli: CommandLine, server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "admin.key").write_text(server.admin_key)
    run = bare_cli("login", "--address", server.address, "--api-key-file", str(tmp_path / "admin.key"))
    assert run.code == 0, run.err


def test_login_with_a_key_that_works_keeps_it_privately(
    bare_cli: CommandLine, server: ServerProcess, tmp_path: Path
) -> None:
    log_in(bare_cli, server, tmp_path)
    kept = login_file(tmp_path)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert json.loads(kept.read_text())["address"] == server.address
    assert bare_cli.json("whoami")["subject"] == "serviceAccounts/admin"


def test_login_with_a_key_that_does_not_work_keeps_nothing(
    bare_cli: CommandLine, server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("sk_wrong_key\n"))
    run = bare_cli("login", "--address", server.address, "--api-key-file", "-")
    assert run.code == 3
    assert "API_KEY_INVALID" in run.err
    assert not login_file(tmp_path).exists()


def test_stored_key_goes_to_no_other_address(bare_cli: CommandLine, server: ServerProcess, tmp_path: Path) -> None:
    log_in(bare_cli, server, tmp_path)
    other = server.address.replace("127.0.0.1", "localhost")
    run = bare_cli("whoami", "--address", other)
    assert run.code == 3
    assert "UNAUTHENTICATED" in run.err


def test_logout_forgets_the_login(bare_cli: CommandLine, server: ServerProcess, tmp_path: Path) -> None:
    log_in(bare_cli, server, tmp_path)
    assert "Logged out." in bare_cli("logout").err
    assert not login_file(tmp_path).exists()
    assert "no login" in bare_cli("logout").err


def test_damaged_login_file_is_reported(bare_cli: CommandLine, tmp_path: Path) -> None:
    login_file(tmp_path).parent.mkdir(parents=True)
    login_file(tmp_path).write_text("{")
    run = bare_cli("whoami")
    assert run.code == 2
    assert "login.json is damaged" in run.err
