"""A user logs in with a password: the session is stored, shared by commands, refreshed, and ended by a logout."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import stat
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from storekeep.cli import logins
from storekeep.cli.logins import StoredSessions, read_login
from storekeep.client import ServerUnreachable, Storekeep, TokenRevoked
from storekeep.client.users import Users
from tests.support.command_line import CommandLine
from tests.support.people import PASSWORD, SECRET, Person, make_code, make_person
from tests.support.processes import ServerProcess


@pytest.fixture(scope="module")
def person(server: ServerProcess) -> Iterator[Person]:
    with Storekeep(server.address, api_key=server.admin_key) as client:
        yield make_person(client, roles=("roles/admin",))


def log_in(cli: CommandLine, person: Person, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{person.password}\n"))
    login = cli("login", "--address", person.address, "--email", person.email, "--password-file", "-", *options)
    return login.code


def get_folder(tmp_path: Path) -> Path:
    return tmp_path / "config" / "storekeep"


def test_login_with_a_password_stores_a_session_and_no_password(
    bare_cli: CommandLine, person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert log_in(bare_cli, person, monkeypatch) == 0
    assert bare_cli.json("whoami")["subject"] == person.name
    files = list(get_folder(tmp_path).iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert not any(PASSWORD in file.read_text() for file in files)
    sessions = bare_cli.json("users", "sessions", person.name)
    assert sessions[0]["program"] == "storekeep (command line)"


def test_logout_ends_the_session_at_the_server(
    bare_cli: CommandLine, person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert log_in(bare_cli, person, monkeypatch) == 0
    login = read_login()
    assert login is not None
    session = StoredSessions(login).load()
    assert session is not None
    assert "Logged out." in bare_cli("logout").err
    assert not (get_folder(tmp_path) / "session.json").exists()
    StoredSessions(login).save(session)
    with Storekeep(person.address, session_store=StoredSessions(login)) as client, pytest.raises(TokenRevoked):
        client.auth.who_am_i()


def test_commands_at_once_refresh_an_expired_session_once(
    bare_cli: CommandLine, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert log_in(bare_cli, person, monkeypatch) == 0
    login = read_login()
    assert login is not None
    session = StoredSessions(login).load()
    assert session is not None
    StoredSessions(login).save(replace(session, expire_time_s=0.0))

    def ask(_number: int) -> str:
        with Storekeep(person.address, session_store=StoredSessions(login)) as client:
            return client.auth.who_am_i().subject

    with ThreadPoolExecutor(6) as threads:
        assert set(threads.map(ask, range(6))) == {person.name}
    refreshed = StoredSessions(login).load()
    assert refreshed is not None
    assert refreshed.refresh_token != session.refresh_token


def expire_session() -> StoredSessions:
    """Let the access token of the stored session expire, so that the next command refreshes it."""
    login = read_login()
    assert login is not None
    store = StoredSessions(login)
    session = store.load()
    assert session is not None
    store.save(replace(session, expire_time_s=0.0))
    return store


def test_logout_removes_all_files_also_those_of_a_refresh(
    bare_cli: CommandLine, person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert log_in(bare_cli, person, monkeypatch) == 0
    expire_session()
    assert bare_cli("whoami").code == 0
    assert (get_folder(tmp_path) / "session.lock").exists()
    assert bare_cli("logout").code == 0
    assert list(get_folder(tmp_path).iterdir()) == []


IMPATIENT = """
from storekeep.cli import logins
from storekeep.cli.app import main
logins.LOCK_WAIT_MAX_S = 0.1
main()
"""


def test_lock_that_is_never_released_ends_the_command_with_its_name(
    bare_cli: CommandLine, person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert log_in(bare_cli, person, monkeypatch) == 0
    expire_session()
    with (get_folder(tmp_path) / "session.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for command in ("whoami", "logout"):
            run = subprocess.run([sys.executable, "-c", IMPATIENT, command], capture_output=True, text=True)
            assert run.returncode == 1
            assert "session.lock: another command has locked it for more than 0.1 s" in run.stderr
            assert len(run.stderr.splitlines()) == 1
    assert bare_cli("whoami").code == 0


def test_command_that_waited_while_the_lock_was_removed_locks_the_new_file(
    bare_cli: CommandLine, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert log_in(bare_cli, person, monkeypatch) == 0
    store, inside = expire_session(), list[int]()

    def use(number: int) -> None:
        if number % 3:
            with store.lock():
                inside.append(number)
                time.sleep(0.01)
                assert inside == [number]
                inside.clear()
        else:
            logins.remove_session()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(60)))


def test_invited_user_without_a_link_is_named_with_the_command_for_one(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ServerUnreachable("127.0.0.1:1 is unreachable")

    monkeypatch.setattr(Users, "create_password_link", fail)
    run = cli("users", "invite", "--id", "lone", "--name", "Lone", "--email", "lone@example.com")
    assert run.code == 4
    assert "run: storekeep users link users/lone" in run.err


def test_stored_session_goes_to_no_other_address(
    bare_cli: CommandLine, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert log_in(bare_cli, person, monkeypatch) == 0
    run = bare_cli("whoami", "--address", person.address.replace("127.0.0.1", "localhost"))
    assert run.code == 3
    assert "UNAUTHENTICATED" in run.err


def test_login_with_a_key_replaces_the_session(
    bare_cli: CommandLine, person: Person, server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert log_in(bare_cli, person, monkeypatch) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{server.admin_key}\n"))
    assert bare_cli("login", "--api-key-file", "-").code == 0
    assert bare_cli.json("whoami")["subject"] == "serviceAccounts/admin"
    assert not (get_folder(tmp_path) / "session.json").exists()


def test_login_with_a_wrong_password_keeps_nothing(
    bare_cli: CommandLine, person: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert log_in(bare_cli, replace(person, password="not this one at all"), monkeypatch) == 3
    assert not get_folder(tmp_path).exists()
    run = bare_cli("login", "--address", person.address, "--email", person.email)
    assert run.code == 2
    assert "--password-file FILE" in run.err
    run = bare_cli("login", "--email", person.email, "--api-key-file", "-")
    assert run.code == 2


def test_defaults_of_a_login_with_a_session_change_without_a_password(
    bare_cli: CommandLine, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert log_in(bare_cli, person, monkeypatch) == 0
    assert bare_cli("login", "--currency", "EUR").code == 0
    login = read_login()
    assert login is not None
    assert (login.email, login.currency_code) == (person.email, "EUR")
    assert bare_cli.json("whoami")["subject"] == person.name


def test_password_and_code_are_asked_for_on_a_terminal(server: ServerProcess, tmp_path: Path) -> None:
    with Storekeep(server.address, api_key=server.admin_key) as client:
        person = make_person(client)
    with person.sign_in() as session:
        session.users.enable_totp(PASSWORD, totp_secret=SECRET, code=make_code())
    terminal, other_end = pty.openpty()
    command = (sys.executable, "-m", "storekeep.cli", "login", "--address", person.address, "--email", person.email)
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    with subprocess.Popen(command, stdin=other_end, stdout=other_end, stderr=other_end, env=environment) as process:
        os.close(other_end)
        shown = b""
        for prompt, answer in ((b"Password:", PASSWORD), (b"without one", make_code(1))):
            while prompt not in shown:
                shown += os.read(terminal, 1024)
            while answer == PASSWORD and termios.tcgetattr(terminal)[3] & termios.ECHO:
                time.sleep(0.01)  # what is typed before the terminal hides it, is discarded
            os.write(terminal, f"{answer}\n".encode())
        assert process.wait(60) == 0
    assert PASSWORD.encode() not in shown
    os.close(terminal)
    assert json.loads((tmp_path / "storekeep" / "login.json").read_text())["email"] == person.email


def test_sessions_of_nobody_are_an_error(
    bare_cli: CommandLine, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert log_in(bare_cli, person, monkeypatch) == 0
    run = bare_cli("users", "sessions", "nobody")
    assert run.code != 0
    assert "USER_NOT_FOUND" in run.err
