"""`config check` warns of weaknesses; a server refuses to start with files that other users can use."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest

from storekeep.client import ApiKey, ServiceAccount, Storekeep
from storekeep.server.config import load_settings
from storekeep.server.process.inspections import inspect
from tests.support.authorities import CLIENTS, SERVERS, issue, make_authority, tls_settings
from tests.support.processes import ServerProcess, run_command, server_environment

SECRET = "9b1c40f7d2e35a86e07f4c1d93b2a658"


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
    (data_dir / "secret.key").chmod(0o644)
    for arguments, code in ((), 0), (("--strict",), 1):
        checked = run_command("config", "check", *arguments, data_dir=data_dir)
        assert checked.returncode == code
        assert checked.stdout == "The settings are valid.\n"
        assert checked.stderr == (
            f"storekeep-server: warning: {data_dir}/secret.key can be read by others (mode 0644); "
            f"run: chmod 600 {data_dir}/secret.key\n"
        )


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


@pytest.mark.parametrize(("name", "line"), [("a.env", "STOREKEEP_SECRET={}"), ("a.toml", 'secret = "{}"')])
def test_settings_file_with_a_secret_is_told_when_others_can_read_it(data_dir, tmp_path, name, line):
    file = tmp_path / name
    file.write_text("STOREKEEP_CALLS_MAX=5\n" if name == "a.env" else "calls_max = 5\n")
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
