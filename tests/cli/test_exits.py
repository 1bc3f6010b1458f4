"""A failed run reports the reason in one line on stderr and in its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from storekeep.cli.exits import MEANINGS, Exit
from tests.support.command_line import CommandLine
from tests.support.processes import ServerProcess


def one_line(err: str) -> bool:
    return err.startswith("storekeep: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["products", "show", "nope"], Exit.REFUSED, "[PRODUCT_NOT_FOUND, request id "),
        (["stock", "show", "NEVER-1"], Exit.REFUSED, "no such SKU: NEVER-1"),
        (["fulfillments", "show", "nope"], Exit.REFUSED, "ORDER_NOT_FOUND"),
        (["fulfillments", "restock", "nope"], Exit.REFUSED, "ORDER_NOT_FOUND"),
        (["products", "list", "--filter", "bogus ="], Exit.REFUSED, "INVALID_FILTER"),
        (["products", "show", "no spaces"], Exit.REFUSED, "INVALID_FIELD"),
        (["products", "show"], Exit.USAGE, "missing argument"),
        (["products", "list", "--bogus"], Exit.USAGE, "--bogus"),
        (["products", "list", "--limt", "5"], Exit.USAGE, "no such option: --limt; did you mean --limit? (see "),
        (["events", "--since=foo"], Exit.USAGE, "after the command, as in: storekeep events list --since (see "),
        (["products", "list", "--page-size", "5"], Exit.USAGE, "no such option: --page-size (see storekeep products"),
        (["orders", "list", "--since"], Exit.USAGE, "option --since needs a value"),
        (["products", "create", "--name"], Exit.USAGE, "option --name needs a value"),
        (["products", "list", "-o"], Exit.USAGE, "option -o needs a value"),
        (["products", "list", "--plaintext=3"], Exit.USAGE, "'--plaintext' does not take a value"),
        (["customers", "create", "--name", "A", "--country"], Exit.USAGE, "option --country needs a value"),
        (["customers", "list", "--filter"], Exit.USAGE, "option --filter needs a value"),
        (
            ["import", "products", "a.csv", "--format", "shopify-product", "--yes"],
            Exit.USAGE,
            "did you mean shopify-products?",
        ),
        (["login", "--api-key-file", "/nowhere.key"], Exit.USAGE, "cannot read /nowhere.key: no such file or dir"),
        (["products", "update", "a"], Exit.USAGE, "name at least one field to change"),
        (["products", "update", "a", "--name", "A"], Exit.REFUSED, "PRODUCT_NOT_FOUND"),
        (
            ["orders", "place", "--customer", "a", "--line", "A", "--currency", "EUR"],
            Exit.USAGE,
            "SKU=UNITS, such as A=1",
        ),
        (["orders", "place", "--customer", "a", "--line", "A=x", "--currency", "EUR"], Exit.USAGE, "whole number"),
        (["orders", "place", "--customer", "a", "--line", f"A={10**19}", "--currency", "EUR"], Exit.USAGE, "64 bits"),
        (
            ["orders", "place", "--customer", "a", "--line", f"A={10**17}", "--currency", "EUR"],
            Exit.REFUSED,
            "--line",
        ),
        (["variants", "create", "a", "--sku", "A", "--price", "EUR=x"], Exit.USAGE, "not an amount"),
        (["variants", "create", "a", "--sku", "A", "--price", "EUR=5,50"], Exit.USAGE, "decimals after a point"),
        (["quote", "--line", "A=1"], Exit.USAGE, "storekeep: missing option --currency; storekeep login"),
        (["stock", "adjust", "A", "--by", "3", "--cause", "write-off"], Exit.REFUSED, "--by: must be negative"),
        (["stock", "adjust", "A", "--by", "-3", "--cause", "return"], Exit.REFUSED, "--by: must be positive"),
        (["variants", "create", "a", "--sku", "A", "--weight-g", "3000000000"], Exit.USAGE, "--weight-g"),
        (["variants", "update", "a/b", "--weight-g", "-1"], Exit.USAGE, "--weight-g"),
        (["stock", "set", "A", f"{10**19}"], Exit.USAGE, "64 bits"),
        (["products", "list", "--limit", "many"], Exit.USAGE, "'--limit': 'many' is not a whole number"),
        (["products", "list", "--limit", "-+5"], Exit.USAGE, "'-+5' is not a whole number"),
        (["orders", "fulfill", "SK-1", "--line", "9" * 99], Exit.USAGE, "9... does not fit in 64 bits"),
        (["products", "list", "--limit", "-1"], Exit.USAGE, "-1 is too small; it must be at least 0"),
        (["products", "list", "--timeout", "soon"], Exit.USAGE, "'soon' is not a number"),
        (["stock", "adjust", "A", "--by", "1", "--cause", "recieve"], Exit.USAGE, "did you mean receive?"),
        (["orders", "list", "--state", "plased"], Exit.USAGE, "no such state: plased; did you mean placed?"),
        (["fulfillments", "list", "--state", "x"], Exit.USAGE, "the states are pending, shipped, delivered, cancelled"),
        (["order", "list"], Exit.USAGE, "no such command 'order'. Did you mean 'orders'"),
        (["orders", "plase"], Exit.USAGE, "no such command 'plase'. Did you mean 'place'"),
        (["--address", "x:1", "orders", "list"], Exit.USAGE, "put --address after the command"),
        (["products", "delete", "a", "--yes", "--dry-run"], Exit.USAGE, "--yes applies the changes and --dry-run does"),
        (["customers", "create", "--name", "A", "--city", "Graz"], Exit.USAGE, "an address needs --country"),
        (["customers", "create", "--name", "A", "--country", "Atlantis"], Exit.USAGE, "'Atlantis' is not a country"),
        (["variants", "show", "NEVER-1"], Exit.REFUSED, "no such SKU: NEVER-1"),
        (
            ["login", "--api-key-file", __file__],
            Exit.USAGE,
            "does not contain an API key, which is one line",
        ),
        (["orders", "fulfill", "SK-1", "--line", "x=1"], Exit.USAGE, "'x' is not a whole number"),
        (["stock", "set", "A", "1", "--expect", f"{10**19}"], Exit.USAGE, "--expect"),
        (["stock", "adjust", "A", "--by", f"-{10**19}"], Exit.USAGE, "--by"),
        (["keys", "create", "admin", "--days", f"{10**9}"], Exit.USAGE, "--days"),
        (["products", "create", "--name", "Th\udce9"], Exit.USAGE, "is not UTF-8"),
        (
            ["whoami", "--address", "127.0.0.1:1", "--timeout", "8"],
            Exit.UNREACHABLE,
            "127.0.0.1:1: the server cannot be reached: nothing listens there; start the server, or use",
        ),
        (["whoami", "--ca-file", "/nowhere.pem"], Exit.USAGE, "/nowhere.pem"),
        (["import", "stock", "/nowhere.csv", "--yes"], Exit.USAGE, "/nowhere.csv"),
    ],
)
def test_failed_run_tells_why_in_one_line(arguments: list[str], code: Exit, expected: str, cli: CommandLine) -> None:
    run = cli(*arguments)
    assert run.code == code
    assert expected in run.err
    assert one_line(run.err)
    assert run.out == ""


def test_run_without_a_login_is_not_authenticated(bare_cli: CommandLine, server: ServerProcess) -> None:
    run = bare_cli("products", "list", "--address", server.address)
    assert run.code == Exit.NOT_ALLOWED
    expected = (
        f"not logged in at {server.address}; run: storekeep login --address {server.address} --api-key-file FILE ["
    )
    assert expected in run.err
    assert one_line(run.err)


def test_run_without_the_permission_is_not_allowed(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.json("accounts", "create", "--id", "watcher", "--name", "Watcher", "--role", "viewer")
    secret = cli.json("keys", "create", "watcher")["secret"]
    monkeypatch.setenv("STOREKEEP_API_KEY", secret)
    run = cli("products", "create", "--name", "Tea")
    assert run.code == Exit.NOT_ALLOWED
    assert "PERMISSION_DENIED" in run.err


def test_every_code_is_in_the_help(bare_cli: CommandLine) -> None:
    text = " ".join(bare_cli("--help").out.split())
    assert [code for code, meaning in MEANINGS.items() if f"{code.value} {meaning}" not in text] == []


def as_program(server: ServerProcess, **more: str) -> dict[str, str]:
    """Return the environment of a process that runs the command line."""
    return {**os.environ, "STOREKEEP_ADDRESS": server.address, "STOREKEEP_API_KEY": server.admin_key, **more}


@pytest.mark.parametrize("form", ["--json", ""])
def test_output_that_cannot_be_written_is_told_in_one_line(form: str, server: ServerProcess) -> None:
    command = f"{Path(sys.executable).parent}/storekeep roles list {form} > /dev/full"
    env = as_program(server, PYTHONUNBUFFERED="")  # so that the output is written at exit
    run = subprocess.run(command, shell=True, env=env, stderr=subprocess.PIPE, text=True, timeout=60)
    assert run.returncode == Exit.REFUSED
    assert run.stderr == "storekeep: cannot use standard output: no space left on device\n"


def test_closed_stdout_is_told_before_anything_is_sent(server: ServerProcess) -> None:
    command = f"{Path(sys.executable).parent}/storekeep roles create --id closed --name Closed --permission orders.read"
    run = subprocess.run(
        f"{command} >&-", shell=True, env=as_program(server), stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert (run.returncode, run.stderr) == (Exit.REFUSED, "storekeep: cannot use standard output: it is closed\n")
    created = subprocess.run(
        f"{command} -o name <&- 2>&-", shell=True, env=as_program(server), stdout=subprocess.PIPE, text=True, timeout=60
    )
    assert (created.returncode, created.stdout) == (0, "roles/closed\n")


def test_character_that_stdout_cannot_take_ends_no_run(cli: CommandLine, server: ServerProcess) -> None:
    cli.json("products", "create", "--id", "gruener", "--name", "Grüner Tee")
    command = [f"{Path(sys.executable).parent}/storekeep", "products", "show", "gruener"]
    env = as_program(server, PYTHONIOENCODING="ascii")
    shown = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "Gr?ner Tee" in shown
    document = subprocess.run([*command, "--json"], env=env, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(document.stdout)["displayName"] == "Grüner Tee"


@pytest.mark.parametrize("form", ["--json", ""])
def test_reader_that_stops_reading_is_no_failure(form: str, server: ServerProcess) -> None:
    command = f"{Path(sys.executable).parent}/storekeep audit list {form}"
    shell = f"{command} | true; exit ${{PIPESTATUS[0]}}"
    run = subprocess.run(
        ["bash", "-c", shell], env=as_program(server), capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")


ENDS = [(signal.SIGINT, Exit.INTERRUPTED, "interrupted"), (signal.SIGTERM, Exit.TERMINATED, "terminated")]


@pytest.mark.parametrize(("number", "code", "word"), ENDS)
def test_run_that_a_signal_ends_has_its_exit_code(tmp_path: Path, number: int, code: Exit, word: str) -> None:
    rows = tmp_path / "rows.csv"
    os.mkfifo(rows)
    env = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "STOREKEEP_API_KEY": ""}
    command = [f"{Path(sys.executable).parent}/storekeep", "import", "stock", str(rows), "--yes"]
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    with rows.open("w"):  # opens once the command reads its rows, and keeps it waiting for them
        process.send_signal(number)
        assert process.communicate(timeout=60)[1] == f"storekeep: {word}\n"
    assert process.returncode == code


@pytest.mark.parametrize("module", ["signal", "typer"])
@pytest.mark.parametrize(("number", "code", "word"), ENDS)
def test_signal_during_the_imports_ends_in_one_line(
    tmp_path: Path, number: int, code: Exit, word: str, module: str
) -> None:
    # Python imports this module instead of the real one: `signal` is among the first, `typer` in the middle.
    (tmp_path / f"{module}.py").write_text(f"import os\nos.kill(os.getpid(), {int(number)})\nraise AssertionError")
    command = [f"{Path(sys.executable).parent}/storekeep", "products", "list"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", f"storekeep: {word}\n")


def test_error_repeats_only_the_ends_of_a_long_word(bare_cli: CommandLine) -> None:
    for arguments in (["9" * 5_000], ["products", "list", "--limit", "9" * 5_000], ["products", "9 " * 5_000]):
        run = bare_cli(*arguments)
        assert run.code == 2
        assert len(run.err) < 5_000
    assert "9..." in bare_cli("9" * 5_000).err
