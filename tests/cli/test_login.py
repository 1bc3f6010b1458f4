"""A login stores a valid address and API key in a file that only its owner can read."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path

import pytest

from storekeep.cli.sessions import Session, Settings
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


def test_commands_after_a_login_share_one_access_token(
    bare_cli: CommandLine, server: ServerProcess, tmp_path: Path
) -> None:
    log_in(bare_cli, server, tmp_path)
    bare_cli.json("whoami")
    kept = login_file(tmp_path).with_name("token.json")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    token = kept.read_text()
    assert bare_cli.json("whoami")["subject"] == "serviceAccounts/admin"
    assert kept.read_text() == token
    for useless in (token.replace('"access_token": "', '"access_token": "x'), "{", ""):
        kept.write_text(useless)
        assert bare_cli.json("whoami")["subject"] == "serviceAccounts/admin"
        assert json.loads(kept.read_text())["access_token"] != json.loads(token)["access_token"]
    bare_cli("logout")
    assert not kept.exists()


def test_access_token_of_a_key_in_the_environment_is_not_stored(cli: CommandLine, tmp_path: Path) -> None:
    cli.json("whoami")
    assert not (tmp_path / "config").exists()


def test_login_without_a_terminal_and_a_key_says_how_to_give_one(
    bare_cli: CommandLine, server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    run = bare_cli("login", "--address", server.address)
    assert run.code == 2
    assert run.err.startswith("storekeep: no API key: use --api-key-file FILE")


def test_file_of_a_login_with_a_relative_path_works_elsewhere(
    bare_cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login_file(tmp_path).parent.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    session = Session(Settings(ca_file=Path("ca.pem")))
    assert session.login.ca_file == str(tmp_path / "ca.pem")


def test_run_without_a_login_says_that_the_address_is_the_default(
    bare_cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storekeep.cli.sessions.DEFAULT_ADDRESS", "127.0.0.1:1")
    run = bare_cli("products", "list", "--timeout", "8")
    assert run.code == 4
    assert "127.0.0.1:1: the server cannot be reached" in run.err
    assert "there is no login, so this is the default address; use --address, STOREKEEP_ADDRESS or" in run.err


@pytest.mark.parametrize("kind", ["pipe", "directory", "device"])
def test_login_file_that_is_no_file_is_refused(bare_cli: CommandLine, tmp_path: Path, kind: str) -> None:
    """A pipe made every command hang."""
    stored = login_file(tmp_path)
    stored.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(stored)
    elif kind == "device":
        stored.symlink_to("/dev/tty")
    else:
        stored.mkdir()
    run = bare_cli("whoami")
    assert run.code != 0
    assert f"{stored} cannot be read: not a regular file" in " ".join(run.err.split())


@pytest.mark.parametrize("endless", ["--api-key-file", "--ca-file"])
def test_device_without_an_end_is_refused(
    bare_cli: CommandLine, server: ServerProcess, tmp_path: Path, endless: str
) -> None:
    (tmp_path / "admin.key").write_text(server.admin_key)
    files = {"--api-key-file": str(tmp_path / "admin.key")} | {endless: "/dev/zero"}
    run = bare_cli("login", "--address", server.address, *(word for pair in files.items() for word in pair))
    assert run.code != 0
    assert "larger than 4194304 bytes" in " ".join(run.err.split())
