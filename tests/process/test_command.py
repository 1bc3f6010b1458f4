"""The `storekeep-server` command: its effects, and that each error is one line with an exit code."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
from pathlib import Path

import pytest

from storekeep.client import Product, Storekeep
from storekeep.server.command import COMMANDS, run
from storekeep.server.runtime.secret_strength import BYTES_MIN
from storekeep.server.runtime.secrets import load_secret
from tests.conftest import MakeServer
from tests.support.databases import Database, new_database
from tests.support.processes import ServerProcess, run_command


def one_line(text: str) -> str:
    """Return the error, which must be a single line."""
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("storekeep-server: ")
    return lines[0].removeprefix("storekeep-server: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_ends_in_an_example(command, capsys):
    with pytest.raises(SystemExit) as ended:
        run([command, "--help"])
    assert ended.value.code == 0
    assert re.search(rf"Example: .*storekeep-server {command}", capsys.readouterr().out)


def test_serve_without_schema_is_refused(engine: str, tmp_path):
    database = new_database(engine, tmp_path, migrated=False)
    refused = run_command("serve", data_dir=tmp_path, database_url=database.url)
    assert refused.returncode == 1
    problem = "does not exist yet" if engine == "sqlite" else "has no tables yet"
    assert one_line(refused.stderr).endswith(f"{problem}; run: storekeep-server migrate")


@pytest.mark.parametrize("setting", ["listen", "metrics_listen"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_on_a_taken_port_is_refused_before_anything_is_written(
    database: Database, tmp_path, setting: str, workers: str
):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = {setting: address, "workers": workers, "database_url": database.url}
        refused = run_command("serve", "--sample", data_dir=tmp_path / "var", **settings)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert one_line(refused.stderr) == (
        f"cannot listen on {address}: address already in use; "
        f"set STOREKEEP_{setting.upper()} to another address, or stop the other program"
    )
    assert not (tmp_path / "var" / "admin.key").exists()
    assert not (tmp_path / "var" / "secret.key").exists()


@pytest.mark.engine("sqlite", reason="PostgreSQL has no file")
def test_serve_with_migrate_on_a_taken_port_creates_no_database(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = run_command("serve", "--migrate", data_dir=tmp_path, listen=f"127.0.0.1:{taken.getsockname()[1]}")
    assert refused.returncode == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data_dir", "problem"), [("/proc/nobody", "no such file or directory"), ("/dev/null", "file exists")]
)
@pytest.mark.parametrize("command", ["migrate", "serve"])
def test_data_directory_that_cannot_be_made_is_named(command: str, data_dir: str, problem: str):
    refused = run_command(command, data_dir=Path(data_dir))
    assert refused.returncode == 1
    assert one_line(refused.stderr) == f"cannot use {data_dir}: {problem}"


@pytest.mark.engine("sqlite", reason="PostgreSQL takes many servers")
def test_serve_beside_another_server_is_refused(server: ServerProcess):
    refused = server.run("serve")
    assert refused.returncode == 1
    assert f"in use by another storekeep-server, process {server.process.pid}" in one_line(refused.stderr)


def test_healthcheck_of_a_running_server_succeeds(server: ServerProcess, tmp_path):
    asked = run_command("healthcheck", "--address", server.address, data_dir=tmp_path)
    assert (asked.returncode, asked.stdout) == (0, f"{server.address}: SERVING\n")


def test_healthcheck_of_an_unknown_service_fails(server: ServerProcess, tmp_path):
    asked = run_command("healthcheck", "--address", server.address, "--service", "nobody", data_dir=tmp_path)
    assert asked.returncode == 1
    assert asked.stdout.startswith(f"{server.address}: unknown service 'nobody'; the server has: liveness, ")
    assert "storekeep.v1.OrderService" in asked.stdout


def test_bootstrap_admin_with_accounts_is_refused_unless_forced(server: ServerProcess):
    refused = server.run("bootstrap-admin")
    assert refused.returncode == 1
    assert "--force" in one_line(refused.stderr)
    old_key = server.admin_key
    assert server.run("bootstrap-admin", "--force").returncode == 0
    for key in (old_key, server.admin_key):
        with Storekeep(server.address, api_key=key) as client:
            assert client.auth.who_am_i().subject == "serviceAccounts/admin"


def test_secret_is_made_though_a_killed_process_of_the_same_id_left_half_of_one(tmp_path: Path):
    (tmp_path / f".secret.key.{os.getpid()}").write_text("half")
    assert len(load_secret((), data_dir=tmp_path)) == 2 * BYTES_MIN
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]


def test_secrets_can_be_read_by_their_owner_only(server: ServerProcess):
    assert {(server.data_dir / name).stat().st_mode & 0o777 for name in ("admin.key", "secret.key")} == {0o600}


@pytest.mark.engine("sqlite", reason="PostgreSQL keeps its own files")
def test_database_can_be_read_by_its_owner_only_wherever_it_is(tmp_path):
    tmp_path.chmod(0o755)
    assert run_command("migrate", data_dir=tmp_path).returncode == 0
    assert (tmp_path / "storekeep.db").stat().st_mode & 0o777 == 0o600


def test_migrate_makes_a_data_directory_that_others_cannot_enter(tmp_path):
    assert run_command("migrate", data_dir=tmp_path / "var").returncode == 0
    assert (tmp_path / "var").stat().st_mode & 0o077 == 0


def test_verify_of_a_served_database_holds(server: ServerProcess):
    verified = server.run("verify")
    assert verified.returncode == 0, verified.stdout
    assert verified.stdout.endswith("checks hold.\n")


def test_config_print_masks_the_secret_and_names_origins(tmp_path):
    secret = "9b1c40f7d2e35a86e07f4c1d93b2a658"
    printed = run_command("config", "print", data_dir=tmp_path, secret=secret)
    assert printed.returncode == 0
    assert secret not in printed.stdout
    assert re.search(r"^STOREKEEP_SECRET=\*+  # environment$", printed.stdout, re.MULTILINE)
    assert re.search(r"^STOREKEEP_READ_THREADS=4  # default$", printed.stdout, re.MULTILINE)


def test_config_check_has_one_line_a_problem(tmp_path):
    checked = run_command("config", "check", data_dir=tmp_path, read_threads="none", calls_max="0")
    assert checked.returncode == 2
    assert [line.split(": ")[1] for line in checked.stderr.splitlines()] == [
        "STOREKEEP_READ_THREADS",
        "STOREKEEP_CALLS_MAX",
    ]


def test_workers_that_are_no_number_are_told_by_the_name_of_the_option(tmp_path):
    refused = run_command("serve", "--workers", "x", data_dir=tmp_path)
    assert refused.returncode == 2
    assert one_line(refused.stderr) == "--workers: must be a whole number or auto, not 'x'"


@pytest.mark.parametrize("action", ["show", ""])
def test_config_of_an_unknown_action_is_wrong_use(tmp_path, action):
    assert run_command("config", action, data_dir=tmp_path).returncode == 2


def banner_commands(output: str) -> list[str]:
    """Return the commands of the startup banner."""
    return [line.strip() for line in output.splitlines() if re.match(r"  \S*storekeep ", line)]


def test_sample_can_be_ordered_from_as_it_says_and_is_kept(make_server: MakeServer, tmp_path):
    server = make_server("--sample", data_dir=tmp_path / "var")
    home = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    commands = banner_commands(server.output())
    assert len(commands) == 3
    for command in commands:
        subprocess.run(shlex.split(command), env=home, check=True, capture_output=True, timeout=60)
    server.restart()
    with Storekeep(server.address, api_key=server.admin_key) as client:
        assert len(list(client.orders.list())) == 1
        assert len(list(client.products.list())) == 12
    server.stop()
    assert server.run("verify").returncode == 0


def test_sample_is_not_put_among_products_of_ones_own(make_server: MakeServer, tmp_path):
    data_dir = tmp_path / "var"
    first = make_server(data_dir=data_dir)
    with Storekeep(first.address, api_key=first.admin_key) as client:
        client.products.create(Product(display_name="Our own"))
    first.stop()
    second = make_server("--sample", data_dir=data_dir)
    with Storekeep(second.address, api_key=second.admin_key) as client:
        assert [product.display_name for product in client.products.list()] == ["Our own"]
    assert "In another terminal" not in second.output()


def test_damaged_secret_is_refused(database: Database, tmp_path: Path):
    (tmp_path / "secret.key").write_text("secret")
    refused = run_command("serve", data_dir=tmp_path, database_url=database.url)
    assert refused.returncode == 1
    assert "secret.key" in one_line(refused.stderr)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "the following arguments are required: COMMAND (see storekeep-server --help)"),
        (["backup"], "the following arguments are required: FILE (see storekeep-server backup --help)"),
        (["migrat"], "no such command: migrat; did you mean migrate? (see storekeep-server --help)"),
        (["config", "x"], "no such action: x; choose from print, check (see storekeep-server config --help)"),
        (["serve", "--bogus"], "unrecognized arguments: --bogus (see storekeep-server --help)"),
    ],
)
def test_wrong_use_is_told_in_one_line(arguments, told, capsys):
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    assert ended.value.code == 2
    assert one_line(capsys.readouterr().err) == told


def test_setting_that_its_pattern_does_not_take_is_told_in_words(tmp_path):
    checked = run_command("config", "check", data_dir=tmp_path, order_number_format="x", rate_limits_per_key="all=1")
    lines = checked.stderr.splitlines()
    assert len(lines) == 2
    assert "must have {sequence}" in lines[0]
    assert "must be rates by class (public, read, write, bulk, admin)" in lines[1]
