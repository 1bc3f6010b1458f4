"""`doctor` names what is wrong with an installation, why it matters and what mends it, and changes nothing."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from storekeep.server.config import load_settings
from storekeep.server.jobs.backups import NAME_FORMAT
from storekeep.server.process.doctor import backups, databases, hosts
from storekeep.server.process.doctor.examinations import CHECKS, examine
from storekeep.server.process.doctor.findings import Finding, Installation, Severity
from storekeep.server.store.schema import list_tables
from tests.support.authorities import NOW, issue, make_authority, tls_settings, write_revoked
from tests.support.databases import Database, new_database
from tests.support.processes import ServerProcess, run_command, server_environment
from tests.support.shops import new_id

HOST_AREAS = {"backups", "clock", "disk"}
"""Areas that depend on the machine of the tests, or warn of what tests do without."""


def diagnose(data_dir: Path, **settings: str) -> dict[str, list[Finding]]:
    """Return the findings by area, without those that are OK."""
    found: dict[str, list[Finding]] = {}
    for finding in examine(load_settings(server_environment(data_dir, **settings))):
        if finding.severity is not Severity.OK:
            found.setdefault(finding.area, []).append(finding)
    return found


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return folder


def test_doctor_of_a_served_installation_finds_nothing(server: ServerProcess):
    server.data_dir.chmod(0o700)
    for name in ("server.log", "server.out", "address"):  # written by the test itself
        (server.data_dir / name).chmod(0o600)
    ran = server.run("doctor", "--json", listen=server.address)
    report = json.loads(ran.stdout)
    assert {row["area"] for row in report["findings"]} >= {check.area for check in CHECKS} | {"settings"}
    bad = [row for row in report["findings"] if row["severity"] != "OK" and row["area"] not in HOST_AREAS]
    superuser = [row for row in bad if "superuser" in row["what"]]  # the tests' own PostgreSQL has no other role
    assert bad == superuser
    assert ran.returncode in (0, 3)
    assert (ran.returncode == 0) == (report["worst"] == "OK")


def test_doctor_before_the_first_start_says_what_to_do(data_dir):
    found = diagnose(data_dir)
    (database,) = found["database"]
    assert (database.severity, database.remedy.split(";")[0]) == (Severity.ERROR, "storekeep-server migrate")
    assert not (data_dir / "storekeep.db").exists()
    assert run_command("migrate", data_dir=data_dir).returncode == 0
    found = diagnose(data_dir)
    assert set(found) - HOST_AREAS == {"secret", "kek", "server"}
    assert {finding.severity for area in ("secret", "kek", "server") for finding in found[area]} == {Severity.WARNING}
    assert sorted(path.name for path in data_dir.iterdir() if "storekeep.db" not in path.name) == []


@pytest.mark.engine("sqlite", reason="PostgreSQL has no files to be absent")
def test_doctor_does_not_praise_what_it_did_not_check(data_dir):
    sound = {finding.area: finding.what for finding in examine(load_settings(server_environment(data_dir)))}
    absent = {"log": "no database", "replicas": "none configured", "certificates": "TLS is off"}
    assert {area: sound[area] for area in absent} == absent
    assert sound["backups"] == "no database"


@pytest.mark.engine("sqlite", reason="it needs no database")
def test_doctor_does_not_take_another_program_at_the_port_for_the_server(server: ServerProcess, data_dir):
    (finding,) = diagnose(data_dir, listen=server.address)["server"]
    assert finding.severity is Severity.ERROR
    assert f"another program listens at {server.address}" in finding.what


@pytest.mark.engine("sqlite", reason="PostgreSQL is copied by its own programs")
def test_doctor_names_a_backup_directory_that_cannot_be_created(data_dir):
    found = diagnose(data_dir, backup_dir="/proc/x")
    (finding,) = found["backups"]
    assert finding.severity is Severity.ERROR
    assert "STOREKEEP_BACKUP_DIR=/proc/x" in finding.what
    assert "start" not in found
    assert list(data_dir.iterdir()) == []
    assert run_command("migrate", data_dir=data_dir).returncode == 0
    ran = run_command("config", "check", data_dir=data_dir, backup_dir="/proc/x")
    assert ran.returncode == 1
    assert "STOREKEEP_BACKUP_DIR=/proc/x" in ran.stderr


def test_doctor_prints_the_fact_the_reason_and_the_remedy(data_dir):
    ran = run_command("doctor", data_dir=data_dir)
    assert ran.returncode == 1
    lines = ran.stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("ERROR    database"))
    assert lines[start + 1].strip().startswith("why: ")
    assert lines[start + 2].strip().startswith("do:  storekeep-server migrate")
    assert lines[-1].startswith("Errors: 1. Warnings: ")


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_doctor_of_invalid_settings_names_each_and_fails(data_dir, arguments):
    ran = run_command("doctor", *arguments, data_dir=data_dir, read_threads="0", calls_max="none")
    assert ran.returncode == 1
    assert "STOREKEEP_READ_THREADS" in ran.stdout
    assert "STOREKEEP_CALLS_MAX" in ran.stdout
    if arguments:
        assert json.loads(ran.stdout)["worst"] == "ERROR"


def test_doctor_of_an_unmigrated_database_names_the_command(engine: str, data_dir, tmp_path):
    database = new_database(engine, tmp_path, migrated=False)
    (finding,) = diagnose(data_dir, database_url=database.url)["database"]
    assert finding.severity is Severity.ERROR
    assert finding.remedy.startswith("storekeep-server migrate")


@pytest.mark.parametrize(
    ("statement", "remedy"),
    [
        (
            "INSERT INTO schema_migrations (name, applied, checksum) VALUES ('9999_later', '2030-01-01', '')",
            "use the release that last served it, or a newer one",
        ),
        ("UPDATE schema_migrations SET checksum = 'other'", "use the release that applied it"),
        ("DELETE FROM schema_migrations WHERE name LIKE '0005%'", "storekeep-server migrate"),
        ("INSERT INTO encryption_steps (number, name, position) VALUES (1, 'x', '')", "storekeep-server migrate"),
    ],
)
def test_doctor_of_a_schema_of_another_release_says_what_to_do(
    database: Database, data_dir, statement: str, remedy: str
):
    with database.opened() as session:
        session.run(statement)
    (finding,) = diagnose(data_dir, database_url=database.url)["database"]
    assert finding.severity is Severity.ERROR
    assert finding.remedy.startswith(remedy)
    assert finding.remedy not in finding.what


@pytest.mark.engine("sqlite", reason="it needs no database")
def test_doctor_of_an_unreachable_postgresql_hides_the_password(data_dir):
    found = diagnose(data_dir, database_url="postgresql://shop:pa55word@127.0.0.1:1/shop?connect_timeout=2")
    (finding,) = found["database"]
    assert finding.severity is Severity.ERROR
    assert "pa55word" not in repr(found)


def test_doctor_names_a_secret_that_the_database_does_not_know(server: ServerProcess, tmp_path):
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    lost = diagnose(other, database_url=server.database.url)["secret"]
    assert Severity.ERROR in {finding.severity for finding in lost}
    changed = diagnose(other, database_url=server.database.url, secret="9b1c40f7d2e35a86e07f4c1d93b2a658")["secret"]
    assert [finding.severity for finding in changed] == [Severity.ERROR]
    assert "--new-secret" in changed[0].remedy


def test_doctor_names_an_absent_secret_once(server: ServerProcess, tmp_path):
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    shutil.copy(server.data_dir / "kek.key", other)
    found = diagnose(other, database_url=server.database.url)
    (finding,) = found["secret"]
    assert finding.severity is Severity.ERROR
    assert f"{other}/secret.key does not exist" in finding.why
    assert "start" not in found


def test_doctor_gives_no_advice_to_replace_keys_that_others_can_read(server: ServerProcess, tmp_path):
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    for name in "secret.key", "kek.key":
        shutil.copy(server.data_dir / name, other)
        (other / name).chmod(0o644)
    found = diagnose(other, database_url=server.database.url)
    for area in "secret", "kek":
        remedies = [finding.remedy for finding in found[area]]
        assert remedies == [f"chmod 600 {other}/{area}.key"]


def test_doctor_names_an_exposed_secret_with_the_command_that_mends_it(database: Database, data_dir):
    (data_dir / "secret.key").write_text("9b1c40f7d2e35a86e07f4c1d93b2a658")
    (data_dir / "secret.key").chmod(0o644)
    errors = [finding for finding in diagnose(data_dir)["secret"] if finding.severity is Severity.ERROR]
    assert f"chmod 600 {data_dir}/secret.key" in {finding.remedy for finding in errors}


@pytest.mark.engine("sqlite", reason="it needs no database")
def test_doctor_names_a_taken_port(data_dir):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        found = diagnose(data_dir, metrics_listen=address)
    assert any(address in finding.what and finding.severity is Severity.ERROR for finding in found["server"])


@pytest.mark.engine("sqlite", reason="it needs no database")
def test_doctor_names_a_certificate_that_has_expired_or_soon_will(data_dir, tmp_path):
    authority = make_authority(tmp_path, "a")
    for days, severity in (-1, Severity.ERROR), (29, Severity.WARNING):
        identity = issue(tmp_path, "localhost", by=authority, ends=datetime.timedelta(days=days))
        worst = max(finding.severity for finding in diagnose(data_dir, **tls_settings(identity))["certificates"])
        assert worst is severity


@pytest.mark.engine("sqlite", reason="it needs no database")
def test_doctor_names_a_list_of_revoked_certificates_that_was_not_replaced(data_dir, tmp_path):
    authority = make_authority(tmp_path, "a")
    identity = issue(tmp_path, "localhost", by=authority, ends=datetime.timedelta(days=90))
    settings = tls_settings(identity) | {"tls_client_ca_file": str(authority.file)}
    lists = write_revoked(tmp_path, [], by=authority)
    assert "certificates" not in diagnose(data_dir, **settings, tls_client_crl_file=str(lists))
    write_revoked(tmp_path, [], by=authority, begins=NOW - datetime.timedelta(days=2))
    (finding,) = diagnose(data_dir, **settings, tls_client_crl_file=str(lists))["certificates"]
    assert "was to be replaced by" in finding.what
    assert finding.remedy == "openssl ca -gencrl"


@pytest.mark.engine("sqlite", reason="it needs no database")
def test_doctor_of_a_key_management_service_that_is_down_does_not_blame_the_file(server: ServerProcess, tmp_path):
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    for name in "secret.key", "kek.key":
        shutil.copy(server.data_dir / name, other)
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("token")
    kms = {"kms_url": "https://127.0.0.1:1/v1/transit", "kms_key": "k", "kms_token_file": str(tmp_path / "token")}
    (finding,) = diagnose(other, database_url=server.database.url, **kms)["kek"]
    assert finding.severity is Severity.ERROR
    assert finding.remedy.startswith("check that the service runs")


@pytest.mark.engine("sqlite", reason="it needs no database")
def test_doctor_names_a_rotation_that_was_not_finished_and_a_switched_off_fast_path(data_dir):
    (data_dir / "secret.key").touch(mode=0o600)
    (data_dir / "secret.key").write_text("9b1c40f7d2e35a86e07f4c1d93b2a658")
    shutil.copy(data_dir / "secret.key", data_dir / "secret.previous.key")
    found = diagnose(data_dir, grpc_fast_path="off")
    assert [finding.remedy for finding in found["secret"]] == ["storekeep-server rotate-secret --finish"]
    assert "switched off" in found["grpcio"][0].what


@pytest.mark.engine("sqlite", reason="it needs no database")
def test_doctor_names_what_else_keeps_the_server_from_starting(data_dir):
    found = diagnose(data_dir, log_file="/dev/null/log")
    assert [(finding.severity, "/dev/null" in finding.what) for finding in found["start"]] == [(Severity.ERROR, True)]


@pytest.mark.engine("sqlite", reason="it needs no database")
def test_doctor_names_a_full_disk(data_dir, monkeypatch: pytest.MonkeyPatch):
    usage: Any = shutil.disk_usage(data_dir)._replace(free=hosts.FREE_BYTES_MIN - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)  # a full disk would hurt other tests
    (finding,) = diagnose(data_dir)["disk"]
    assert finding.severity is Severity.ERROR


@pytest.mark.engine("sqlite", reason="PostgreSQL keeps its own log")
def test_doctor_names_a_long_write_ahead_log(data_dir):
    assert run_command("migrate", data_dir=data_dir).returncode == 0
    log = data_dir / "storekeep.db-wal"
    log.touch(mode=0o600)
    installation = Installation(load_settings(server_environment(data_dir)))
    assert list(databases.check_log(installation)) == []
    os.truncate(log, 129 * 1024**2)
    (finding,) = databases.check_log(installation)
    assert "129 MiB" in finding.what


@pytest.mark.engine("postgresql", reason="SQLite has no settings of its own")
def test_doctor_names_postgresql_settings_that_lose_writes_and_too_many_connections(database: Database, data_dir):
    url = f"{database.url}{'&' if '?' in database.url else '?'}options=-csynchronous_commit%3Doff"
    found = diagnose(data_dir, database_url=url, database_pool_size="5000")["postgresql"]
    by_text = {finding.what: finding for finding in found}
    assert by_text["synchronous_commit is off"].severity is Severity.ERROR
    assert any("opens 5001 connections" in what for what in by_text)


@pytest.mark.engine("postgresql", reason="SQLite has no roles and no read-only databases")
def test_doctor_names_what_keeps_postgresql_from_writing(database: Database, data_dir):
    role = new_id("r").replace("-", "_")
    with database.opened() as session:
        session.run(f"CREATE ROLE {role} LOGIN")
        url = database.url.replace("postgres@", f"{role}@")
        (denied,) = diagnose(data_dir, database_url=url)["database"]
        assert "permission denied" in denied.what
        assert denied.remedy == "connect as the role that owns the tables"
        session.run(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
        session.run(f"REVOKE UPDATE, DELETE ON audit_entries FROM {role}")
        assert "postgresql" not in diagnose(data_dir, database_url=url), "no role changes the ledger"
        session.run(f"REVOKE UPDATE ON orders FROM {role}")
        (lacking,) = diagnose(data_dir, database_url=url)["postgresql"]
        assert lacking.severity is Severity.ERROR
        assert lacking.what == f"the role {role} lacks rights on 1 tables, such as orders"
        session.run(f"REVOKE INSERT ON audit_entries FROM {role}")
        (lacking,) = diagnose(data_dir, database_url=url)["postgresql"]
        assert lacking.remedy == (
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON public.orders TO {role}; "
            f"GRANT SELECT, INSERT ON public.audit_entries TO {role};"
        )
        for grant in lacking.remedy.split(";")[:-1]:
            session.run(grant)
        assert "postgresql" not in diagnose(data_dir, database_url=url)
        session.run(f"DROP OWNED BY {role}")
        session.run(f"DROP ROLE {role}")
    read_only = f"{database.url}{'&' if '?' in database.url else '?'}options=-cdefault_transaction_read_only%3Don"
    found = {finding.what: finding for finding in diagnose(data_dir, database_url=read_only)["postgresql"]}
    assert found["default_transaction_read_only is on"].severity is Severity.ERROR


@pytest.mark.engine("postgresql", reason="a file of SQLite belongs to one program")
def test_tables_of_other_programs_in_the_schema_are_no_finding(database: Database, data_dir):
    role = new_id("r").replace("-", "_")
    schema = f"{role}_Shop"
    with database.opened() as session:
        session.run(f"CREATE ROLE {role} LOGIN")
        session.run(f'CREATE SCHEMA "{schema}"')
        url = f"{database.url}{'&' if '?' in database.url else '?'}options=-csearch_path%3D%22{schema}%22"
        assert run_command("migrate", data_dir=data_dir, database_url=url).returncode == 0
        tables = {name for (name,) in session.rows("SELECT tablename FROM pg_tables WHERE schemaname = ?", schema)}
        assert len(tables) > 50
        assert tables <= list_tables()
        session.run(f'CREATE TABLE "{schema}".spatial_ref_sys (srid INTEGER PRIMARY KEY, area INTEGER)')
        session.run(f'ALTER TABLE "{schema}".spatial_ref_sys ADD CONSTRAINT areas CHECK (area > 0) NOT VALID')
        session.run(
            f'CREATE TRIGGER areas BEFORE UPDATE ON "{schema}".spatial_ref_sys FOR EACH ROW '
            "EXECUTE FUNCTION suppress_redundant_updates_trigger()"
        )
        session.run(f'GRANT USAGE ON SCHEMA "{schema}" TO {role}')
        session.run(f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "{schema}" TO {role}')
        session.run(f'REVOKE INSERT, UPDATE, DELETE ON "{schema}".spatial_ref_sys FROM {role}')
        served = url.replace("postgres@", f"{role}@")
        assert "postgresql" not in diagnose(data_dir, database_url=served)
        verified = run_command("verify", data_dir=data_dir, database_url=url)
        assert (verified.returncode, "areas" in verified.stdout + verified.stderr) == (0, False)
        session.run(f'REVOKE UPDATE ON "{schema}".orders FROM {role}')
        (lacking,) = diagnose(data_dir, database_url=served)["postgresql"]
        assert lacking.remedy == f'GRANT SELECT, INSERT, UPDATE, DELETE ON "{schema}".orders TO {role};'
        session.run(f"DROP OWNED BY {role}")
        session.run(f"DROP ROLE {role}")


@pytest.mark.engine("sqlite", reason="PostgreSQL is copied by its own programs")
def test_doctor_names_backups_that_others_can_read(data_dir, tmp_path):
    folder = tmp_path / "backups"
    folder.mkdir()
    folder.chmod(0o755)
    for name in "storekeep-20250101T000000Z.db", "storekeep-20250101T000000Z.keys", "other.db":
        (folder / name).touch()
        (folder / name).chmod(0o644)
    found = diagnose(data_dir, backup_time="03:30", backup_dir=str(folder))["files"]
    exposed = [folder, folder / "storekeep-20250101T000000Z.db", folder / "storekeep-20250101T000000Z.keys"]
    assert [finding.what.partition(" can be ")[0] for finding in found] == [str(path) for path in exposed]
    assert [finding.remedy for finding in found][:1] == [f"chmod 700 {folder}"]


@pytest.mark.engine("sqlite", reason="PostgreSQL is copied by its own programs")
def test_doctor_names_missing_old_and_unverified_backups(data_dir):
    assert run_command("migrate", data_dir=data_dir).returncode == 0

    def find(**settings: str) -> dict[str, Severity]:
        loaded = load_settings(server_environment(data_dir, **settings))
        return {finding.what: finding.severity for finding in backups.check_backups(Installation(loaded))}

    assert list(find()) == ["no backups are scheduled"]
    folder = data_dir / "backups"
    assert find(backup_interval_s="3600") == {f"{folder} has no backup yet": Severity.WARNING}
    folder.mkdir(mode=0o700)
    old = folder / "storekeep-20250101T000000Z.db"
    failed = folder / "storekeep-20250102T000000Z.db.unverified"
    for path in old, failed:
        path.touch(mode=0o600)
        os.utime(path, (0, 0))
    found = find(backup_time="03:30")
    assert [severity for what, severity in found.items() if str(old) in what] == [Severity.ERROR]
    assert [severity for what, severity in found.items() if str(failed) in what] == [Severity.ERROR]
    assert any("same disk" in what for what in found)
    future = folder / "storekeep-29991231T000000Z.db"
    future.touch(mode=0o600)
    found = find(backup_time="03:30")
    assert found[f"the backup {future} is from the future"] is Severity.ERROR
    assert any(str(old) in what for what in found), "the one from the future is not the newest"
    (folder / time.strftime(NAME_FORMAT, time.gmtime())).touch(mode=0o600)
    assert not any("hours old" in what for what in find(backup_time="03:30"))
