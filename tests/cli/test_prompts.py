"""What is missing on a command line is asked for on a terminal, and comes from the login if it has a default."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from storekeep.cli import prompts
from tests.support.command_line import CommandLine
from tests.support.processes import ServerProcess


@pytest.fixture
def login(bare_cli: CommandLine, server: ServerProcess, tmp_path: Path) -> CommandLine:
    (tmp_path / "admin.key").write_text(server.admin_key)
    run = bare_cli("login", "--address", server.address, "--api-key-file", str(tmp_path / "admin.key"))
    assert run.code == 0, run.err
    return bare_cli


@pytest.fixture
def sku(login: CommandLine) -> str:
    """Return a SKU with 10 units at each of two locations; the customer `prompted` exists too."""
    if login("products", "show", "prompted").code:
        login.json("products", "create", "--id", "prompted", "--name", "Prompted")
        login.json("variants", "create", "prompted", "--id", "v", "--sku", "PROMPTED", "--price", "EUR=2")
        login.json("locations", "create", "--id", "prompted", "--name", "North", "--priority", "9")
        login.json("stock", "set", "PROMPTED", "10")
        login.json("stock", "set", "PROMPTED", "10", "--location", "prompted")
        login.json("customers", "create", "--id", "prompted", "--name", "Ernst")
    return "PROMPTED"


def test_defaults_of_the_login_are_used(login: CommandLine, sku: str) -> None:
    order = ("orders", "place", "--customer", "prompted", "--line", f"{sku}=1", "--dry-run")
    run = login(*order)
    assert run.code == 2
    assert "missing option --currency; storekeep login --currency EUR stores a default" in run.err
    assert login("login", "--currency", "eur", "--location", "prompted").code == 0
    placed = login.json(*order)
    assert (placed["total"]["currencyCode"], placed["location"]) == ("EUR", "locations/prompted")
    assert login.json(*order, "--location", "")["location"] == "locations/main"
    assert login.json("stock", "adjust", sku, "--by", "1", "--dry-run")["name"].startswith("locations/prompted/")
    assert login("login", "--location", "").code == 0
    assert login.json("stock", "adjust", sku, "--by", "1", "--dry-run")["name"].startswith("locations/main/")
    assert login.json(*order)["total"]["currencyCode"] == "EUR"


def test_defaults_are_those_of_the_address_of_the_login(login: CommandLine, server: ServerProcess, sku: str) -> None:
    assert login("login", "--currency", "EUR").code == 0
    other = server.address.replace("127.0.0.1", "localhost")
    run = login("orders", "place", "--customer", "prompted", "--line", f"{sku}=1", "--dry-run", "--address", other)
    assert run.code == 2
    assert "missing option --currency" in run.err


@pytest.mark.parametrize(
    ("options", "code", "problem"),
    [
        (("--currency", "euro"), 2, "is not a currency code of three letters"),
        (("--location", "nowhere"), 1, "LOCATION_NOT_FOUND"),
    ],
)
def test_default_that_is_wrong_is_not_stored(
    login: CommandLine, tmp_path: Path, options: tuple[str, ...], code: int, problem: str
) -> None:
    file = tmp_path / "config" / "storekeep" / "login.json"
    before = file.read_text()
    run = login("login", *options)
    assert run.code == code
    assert problem in run.err
    assert file.read_text() == before


def test_missing_values_are_asked_for_in_turn(
    login: CommandLine, sku: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prompts, "can_prompt", lambda: True)
    monkeypatch.setattr("storekeep.cli.sessions.can_prompt", lambda: True)
    asked, answers = list[str](), iter(["prompted", f"{sku}=1", f"{sku}=2", "", "eur"])
    monkeypatch.setattr(
        prompts.typer, "prompt", lambda text, **_options: (asked.append(text.partition(" ")[0]), next(answers))[1]
    )
    placed = login.json("orders", "place", "--dry-run")
    assert [line["quantity"] for line in placed["lines"]] == ["1", "2"]
    assert asked == ["--customer", "--line", "--line,", "--line,", "--currency"]


def test_answers_that_look_like_options_are_values(
    login: CommandLine, sku: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "can_prompt", lambda: True)
    answers = iter([sku, "-5"])
    monkeypatch.setattr(prompts.typer, "prompt", lambda _text, **_options: next(answers))
    run = login("stock", "set", "--dry-run")
    assert run.code == 2
    assert "too small" in run.err


def test_prompt_is_on_the_terminal_and_not_in_the_result(server: ServerProcess) -> None:
    ours, theirs = pty.openpty()
    access = {"STOREKEEP_ADDRESS": server.address, "STOREKEEP_API_KEY": server.admin_key, "HOME": "/nonexistent"}
    command = [sys.executable, "-m", "storekeep.cli", "products", "create", "--dry-run", "--json"]
    environment = {"PATH": os.environ["PATH"], "TERM": "dumb", **access}
    program = subprocess.Popen(command, env=environment, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    os.write(ours, b"Chai\n")
    result, _ = program.communicate(timeout=60)
    os.close(ours)
    assert (program.returncode, json.loads(result)["displayName"]) == (0, "Chai")
