"""`config check` warns of weaknesses; a server refuses to start with files that other users can use."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest

from storekeep.client import ApiKey, ServiceAccount, Storekeep
from storekeep.server.config import load_settings
from storekeep.server.process.inspections import inspect
from storekeep.server.process.obstacles import find_obstacles
from storekeep.server.store.schema import migrate
from tests.support.authorities import CLIENTS, SERVERS, issue, make_authority, tls_settings
from tests.support.processes import ServerProcess, run_command, server_environment

SECRET = "9b1c40f7d2e35a86e07f4c1d93b2a658"


def obstacles(data_dir: Path, **settings: str) -> list[str]:
    return find_obstacles(load_settings(server_environment(data_dir, **settings)))


def findings(data_dir: Path, **settings: str) -> list[str]:
    return inspect(load_settings(server_environment(data_dir, **settings)))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("served") / "data")
    server.data_dir.chmod(0o700)
    yield server
    server.kill()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    (folder / "secret.key").touch(mode=0o600)
    (folder / "secret.key").write_text(SECRET)
    return folder


def test_server_as_it_is_installed_has_no_findings(served):
    for name in ("server.log", "server.out", "address"):  # written by the test itself
        (served.data_dir / name).chmod(0o600)
    assert findings(served.data_dir) == []
    checked = served.run("config", "check", "--strict")
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "The settings are valid.\n", "")


def test_warnings_go_to_standard_error_and_only_strict_makes_them_a_failure(data_dir):
    migrate(f"sqlite:///{data_dir}/storekeep.db")
    (data_dir / "backup.db").touch(mode=0o644)
    (data_dir / "backup.db").chmod(0o644)
    for arguments, code in ((), 0), (("--strict",), 1):
        checked = run_command("config", "check", *arguments, data_dir=data_dir)
        assert checked.returncode == code
        assert checked.stdout == "The settings are valid.\n"
        assert checked.stderr == (
            f"storekeep-server: warning: {data_dir}/backup.db can be read by others (mode 0644); "
            f"run: chmod 600 {data_dir}/backup.db\n"
        )


# -- obstacles


@pytest.fixture
def ready_dir(data_dir: Path) -> Path:
    """Return a data directory with a migrated database."""
    migrate(f"sqlite:///{data_dir}/storekeep.db")
    return data_dir


@pytest.mark.parametrize(
    ("settings", "obstacle"),
    [
        ({"tls_certificate_file": "/no/cert.pem", "tls_private_key_file": "/no/key.pem"}, "No such file or directory"),
        ({"tls_certificate_file": "{file}", "tls_private_key_file": "{file}"}, "contains no PEM certificates"),
        ({"listen": "192.0.2.7:50051", "insecure_listen": "yes-plaintext"}, "STOREKEEP_LISTEN: 192.0.2.7:50051 is not"),
        ({"metrics_listen": "nowhere.invalid:1", "metrics_insecure_listen": "yes-public"}, "METRICS_LISTEN: nowhere"),
        ({"data_dir": "{file}"}, "{file}"),
        ({"database_url": "sqlite:///{file}"}, "cannot be opened as a database"),
        ({"database_url": "sqlite:////no/where.db"}, "does not exist yet"),
        ({"database_url": "postgresql://127.0.0.1:1/shop"}, "cannot be opened as a database"),
        ({"log_file": "/dev/null/log"}, "Not a directory"),
        ({"log_file": "{folder}"}, "is a directory"),
        ({"pin_cpu": "99999"}, "the core 99999 (STOREKEEP_PIN_CPU)"),
    ],
    ids=str,
)
def test_what_serve_would_refuse_is_found(ready_dir, tmp_path, settings, obstacle):
    """`config check` called settings valid whose files did not exist."""
    places = {"file": str(tmp_path / "text"), "folder": str(tmp_path / "folder")}
    Path(places["file"]).write_text("this is text\n" * 100)
    Path(places["file"]).chmod(0o600)
    Path(places["folder"]).mkdir()
    made = {"data_dir": str(ready_dir)} | {name: value.format(**places) for name, value in settings.items()}
    found, *_ = obstacles(Path(made.pop("data_dir")), **made)
    assert obstacle.format(**places).lower() in found.lower()


def test_secret_of_another_database_is_found(served, data_dir):
    (data_dir / "secret.key").write_text(SECRET)
    found = " ".join(obstacles(data_dir, database_url=served.database.url))
    assert "not the one that the database uses" in found
    (data_dir / "secret.key").unlink()
    found = " ".join(obstacles(data_dir, database_url=served.database.url))
    assert "not the one that the database uses" in found
    assert not (data_dir / "secret.key").exists()


def test_obstacle_makes_config_check_fail_as_serve_does(ready_dir):
    (ready_dir / "secret.key").chmod(0o644)
    checked, served = (run_command(*words, data_dir=ready_dir) for words in (("config", "check"), ("serve",)))
    assert (checked.returncode, checked.stdout) == (1, "")
    assert served.returncode == 1
    assert served.stderr in checked.stderr


def test_fresh_installation_has_only_its_migration_before_it(tmp_path):
    (found,) = obstacles(tmp_path / "new")
    assert "run: storekeep-server migrate" in found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["secret.key", "admin.key", "storekeep.db", "storekeep.db.before-restore", "backup.db"]
)
def test_file_of_the_data_directory_that_others_can_read_is_told(data_dir, name):
    (data_dir / name).touch(mode=0o600)
    assert not any("can be" in finding for finding in findings(data_dir))
    (data_dir / name).chmod(0o604)
    assert any(f"{name} can be read by others (mode 0604)" in finding for finding in findings(data_dir))


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_data_directory_that_others_can_look_into_is_told(data_dir, mode):
    data_dir.chmod(mode)
    (finding,) = findings(data_dir)
    assert finding.endswith(f"run: chmod 700 {data_dir}")


@pytest.mark.parametrize(
    ("name", "line"), [("a.env", "STOREKEEP_SECRET={}"), ("a.toml", 'secret = "{}"'), ("b.env", "STOREKEEP_KEK={}")]
)
def test_settings_file_with_a_secret_is_told_when_others_can_read_it(data_dir, tmp_path, name, line):
    file = tmp_path / name
    file.write_text("STOREKEEP_CALLS_MAX=5\n" if name.endswith(".env") else "calls_max = 5\n")
    file.chmod(0o644)
    assert findings(data_dir, config_file=str(file)) == []
    file.write_text(line.format(SECRET))
    (finding,) = findings(data_dir, config_file=str(file))
    assert finding.startswith(f"{file} can be read by others")


@pytest.mark.parametrize(
    ("days", "told"), [(-1, "localhost expired at"), (29, "localhost expires at"), (31, ""), (400, "")]
)
def test_certificate_that_ends_soon_is_told(data_dir, tmp_path, days, told):
    identity = issue(tmp_path, "localhost", by=make_authority(tmp_path, "a"), ends=datetime.timedelta(days=days))
    found = " ".join(findings(data_dir, **tls_settings(identity)))
    assert told in found
    assert bool(found) == bool(told)


def test_certificate_that_is_not_for_servers_is_told(data_dir, tmp_path):
    authority = make_authority(tmp_path, "a")
    ends = datetime.timedelta(days=90)
    for usages, told in ([CLIENTS], True), ([SERVERS], False), ([], False):
        identity = issue(tmp_path, "localhost", by=authority, usages=usages, ends=ends)
        found = findings(data_dir, **tls_settings(identity))
        assert any("is not for servers" in finding for finding in found) == told


def test_private_key_that_others_can_read_is_told(data_dir, tmp_path):
    ends = datetime.timedelta(days=90)
    identity = issue(tmp_path, "localhost", by=make_authority(tmp_path, "a"), ends=ends)
    identity.private_key.chmod(0o640)  # if owned by root, its group may read it, as in PostgreSQL
    assert findings(data_dir, **tls_settings(identity)) == [] or identity.private_key.stat().st_uid
    identity.private_key.chmod(0o644)
    assert any(str(identity.private_key) in finding for finding in findings(data_dir, **tls_settings(identity)))


@pytest.mark.parametrize(
    "settings",
    [
        {"listen": "0.0.0.0:50051", "insecure_listen": "yes-plaintext"},
        {"metrics_listen": "0.0.0.0:9464", "metrics_insecure_listen": "yes-public"},
        {"metrics_listen": "[::]:9464", "metrics_insecure_listen": "yes-public"},
    ],
)
def test_open_listener_is_told(data_dir, settings):
    (finding,) = findings(data_dir, **settings)
    assert finding.startswith(("STOREKEEP_LISTEN", "STOREKEEP_METRICS_LISTEN"))


def test_first_key_is_reported_once_another_administrator_has_one(served):
    def told() -> bool:
        return any("admin.key: still exists" in finding for finding in findings(served.data_dir))

    with Storekeep(served.address, api_key=served.admin_key) as client:
        clerk = client.auth.create_service_account(ServiceAccount(display_name="Clerk", roles=["roles/viewer"]))
        client.auth.create_api_key(clerk.name, ApiKey(display_name="Key"))
        assert not told()
        boss = client.auth.create_service_account(ServiceAccount(display_name="Boss", roles=["roles/admin"]))
        assert not told()
        key = client.auth.create_api_key(boss.name, ApiKey(display_name="Key")).api_key
        assert told()
        client.auth.revoke_api_key(key.name)
        assert not told()


# -- startup


def test_secret_key_that_others_can_read_keeps_a_server_from_starting(data_dir):
    assert run_command("migrate", data_dir=data_dir).returncode == 0
    for mode, starts in ((0o644, False), (0o620, False), (0o602, False)):
        (data_dir / "secret.key").chmod(mode)
        refused = run_command("serve", data_dir=data_dir)
        assert (refused.returncode == 0) == starts
        assert refused.stderr.count("\n") == 1
        assert refused.stderr.endswith(f"run: chmod 600 {data_dir}/secret.key\n")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_data_directory_that_others_can_look_into_is_warned_of(data_dir, workers):
    data_dir.chmod(0o755)
    server = ServerProcess(data_dir, workers=workers)
    try:
        warning = f"{data_dir} can be read by others (mode 0755); run: chmod 700 {data_dir}"
        assert f"Warning: {warning}\n" in server.output()
        server.await_log(warning)
    finally:
        server.kill()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_data_directory_that_anybody_can_write_in_is_refused(data_dir, workers):
    assert run_command("migrate", data_dir=data_dir).returncode == 0
    data_dir.chmod(0o1777)
    refused = run_command("serve", data_dir=data_dir, workers=workers)
    assert refused.returncode == 1
    assert f"{data_dir} can be changed by others (mode 1777); run: chmod 700 {data_dir}" in refused.stderr
