"""Scheduled backups: made when due, verified before they get their name, and deleted by number and age."""

from __future__ import annotations

import calendar
import json
import logging
import shutil
import time
from contextlib import closing
from pathlib import Path

import apsw
import msgspec
import pytest

from storekeep.client import Storekeep
from storekeep.server.jobs.backup_process import make_scheduled_backup
from storekeep.server.jobs.backups import (
    NAME_FORMAT,
    BackupJob,
    BackupPlan,
    BackupRequest,
    find_expired,
    find_newest,
    is_due,
    list_backups,
    parse_backup_time,
)
from storekeep.server.store.backups import BackupRefused, get_keys_path
from tests.conftest import MakeServer
from tests.support.processes import ServerProcess, run_command

pytestmark = pytest.mark.engine("sqlite", reason="PostgreSQL is copied by its own programs")
DAY_S = 86_400
WAIT_S = 60.0


def plan(**changes: object) -> BackupPlan:
    made = BackupPlan(database="", folder="", interval_s=0, time_of_day="", keep=14, keep_days=0)
    return msgspec.structs.replace(made, **changes)


def at(text: str) -> float:
    return float(calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M")))


def request_backup(server: ServerProcess, folder: Path, **changes: object) -> BackupRequest:
    made = plan(database=str(server.data_dir / "storekeep.db"), folder=str(folder), interval_s=60, **changes)
    return BackupRequest(made, ((server.data_dir / "secret.key").read_text().strip(),))


@pytest.fixture
def stopped(make_server: MakeServer) -> ServerProcess:
    """Return a stopped server that has a database."""
    server = make_server()
    server.stop()
    return server


@pytest.mark.parametrize(
    ("newest", "now", "due"),
    [
        ("1970-01-01 00:00", "2026-11-29 03:29", True),
        ("2026-11-29 03:30", "2026-11-30 03:29", False),
        ("2026-11-29 03:30", "2026-11-30 03:30", True),
        ("2026-11-29 23:59", "2026-11-30 03:30", True),
        ("2026-11-30 03:31", "2026-11-30 23:59", False),
    ],
)
def test_backup_at_a_time_of_day_is_due_once_a_day_and_made_up_for(newest, now, due):
    assert is_due(plan(time_of_day="03:30"), newest_s=at(newest), now_s=at(now)) == due


def test_backup_at_an_interval_is_due_after_it():
    assert not is_due(plan(interval_s=600), newest_s=at("2026-11-29 00:00"), now_s=at("2026-11-29 00:09"))
    assert is_due(plan(interval_s=600), newest_s=at("2026-11-29 00:00"), now_s=at("2026-11-29 00:10"))


def test_old_backups_expire_by_number_and_age_but_never_the_newest():
    now_s = at("2026-11-29 12:00")
    backups = [Path(time.strftime(NAME_FORMAT, time.gmtime(now_s - day * DAY_S))) for day in (10, 11, 12, 13)]
    assert list(find_expired(backups, keep=2, keep_days=0, now_s=now_s)) == backups[2:]
    assert list(find_expired(backups, keep=9, keep_days=11.5, now_s=now_s)) == backups[2:]
    assert list(find_expired(backups, keep=1, keep_days=1, now_s=now_s)) == backups[1:]


def test_no_backup_expires_while_one_is_from_the_future():
    """The clock was set back, so ages and the order of the backups say nothing."""
    now_s = at("2026-11-29 12:00")
    backups = [Path(time.strftime(NAME_FORMAT, time.gmtime(now_s - day * DAY_S))) for day in (-400, 0, 11, 12, 13)]
    assert list(find_expired(backups, keep=1, keep_days=1, now_s=now_s)) == []
    assert list(find_expired(backups[1:], keep=1, keep_days=1, now_s=now_s)) == backups[2:]
    assert find_newest(backups, now_s=now_s) == backups[1]
    assert find_newest(backups[:1], now_s=now_s) is None


def make_job(server: ServerProcess, folder: Path, *, timeout_s: float = WAIT_S, **changes: object) -> BackupJob:
    request = request_backup(server, folder, **changes)
    secrets = tuple(secret.encode() for secret in request.secrets)
    return BackupJob(request.plan, list_secrets=lambda: secrets, timeout_s=timeout_s)


def test_after_the_clock_was_set_back_one_backup_is_made_and_none_is_deleted(stopped: ServerProcess, tmp_path, caplog):
    folder = tmp_path / "backups"
    folder.mkdir(mode=0o700)
    good = [folder / f"storekeep-2025010{day}T000000Z.db" for day in range(1, 5)]
    future = folder / "storekeep-29991231T000000Z.db"
    for path in (*good, future, folder / "storekeep-20251301T000000Z.db"):
        path.touch()
    caplog.set_level(logging.WARNING, logger="storekeep.jobs")  # another test of the process may have set a level
    job = make_job(stopped, folder, keep=1, keep_days=1)
    for _ in range(2):
        job.run_once()
    made = set(list_backups(folder)) - {*good, future}
    assert len(made) == 1
    assert {*good, future} < set(list_backups(folder))
    assert job.count_backups().newest_s == parse_backup_time(made.pop())
    assert [record.levelname for record in caplog.records if "from the future" in record.message] == ["WARNING"]


def test_backup_process_that_hangs_is_killed_and_counted(stopped: ServerProcess, tmp_path, caplog):
    caplog.set_level(logging.WARNING, logger="storekeep.jobs")
    job = make_job(stopped, tmp_path / "backups", timeout_s=0.001)
    job.run_once()
    assert job.count_backups().failures == 1
    (record,) = caplog.records
    assert "did not end within" in record.problem


def test_backup_process_may_write_more_than_a_pipe_holds(stopped: ServerProcess, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONVERBOSE", "1")
    job = make_job(stopped, tmp_path / "backups")
    job.run_once()
    assert job.count_backups().failures == 0
    assert len(list_backups(tmp_path / "backups")) == 1


def test_leader_makes_verified_backups_and_shows_them_in_metrics(make_server: MakeServer, tmp_path):
    folder = tmp_path / "backups"
    folder.mkdir(mode=0o700)
    for day in range(1, 4):
        (folder / f"storekeep-2025010{day}T000000Z.db").touch()
    (folder / "precious.db").touch()
    server = make_server("--sample", backup_interval_s="3600", backup_dir=str(folder), backup_keep="2")
    server.await_log("backup made and verified")
    line = next(json.loads(line) for line in server.log().splitlines() if "backup made and verified" in line)
    made = Path(line["file"])
    assert [path.name for path in list_backups(folder)] == [made.name, "storekeep-20250103T000000Z.db"]
    assert abs(parse_backup_time(made) - time.time()) < DAY_S
    assert (folder / "precious.db").exists()
    assert sorted(path.name for path in folder.iterdir() if path.name.endswith(("-wal", "-shm", ".unverified"))) == []
    assert made.stat().st_mode & 0o777 == 0o600
    server.kill()

    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    assert (folder / made.name).with_suffix(".keys").stat().st_mode & 0o777 == 0o600
    for name in "secret.key", "kek.key", "admin.key":
        shutil.copy(server.data_dir / name, other)
    restored = run_command("restore", str(made), data_dir=other)
    assert restored.returncode == 0, restored.stderr
    assert "not verified" not in restored.stdout
    again = make_server(data_dir=other)
    with Storekeep(again.address, api_key=server.admin_key) as client:
        assert len(list(client.products.list())) == 12


def test_copy_that_fails_a_check_is_kept_aside_and_no_backup_is_deleted(make_server: MakeServer, tmp_path):
    server = make_server("--sample")
    server.stop()
    folder = tmp_path / "backups"
    earlier = make_scheduled_backup(request_backup(server, folder))
    get_keys_path(earlier).rename(folder / "storekeep-20250101T000000Z.keys")
    earlier = earlier.rename(folder / "storekeep-20250101T000000Z.db")
    with closing(apsw.Connection(str(server.data_dir / "storekeep.db"))) as connection:
        connection.execute("UPDATE products SET display_name = 'forged'")
    with pytest.raises(BackupRefused, match="audit-rows"):
        make_scheduled_backup(request_backup(server, folder, keep=1))
    assert list_backups(folder) == [earlier]
    (failed,) = folder.glob("*.unverified")
    folder.joinpath(f"{failed.name.partition('.')[0]}.keys").rename(folder / "storekeep-20250102T000000Z.keys")
    failed = failed.rename(folder / "storekeep-20250102T000000Z.db.unverified")

    between = folder / "storekeep-20250103T000000Z.db.unverified"
    between.touch()
    with pytest.raises(BackupRefused, match="audit-rows"):
        make_scheduled_backup(request_backup(server, folder, keep=1))
    last = max(folder.glob("*.unverified"))
    assert sorted(folder.glob("*.unverified")) == [failed, last], "the first and the last one"
    assert last != between

    database = server.data_dir / "storekeep.db"
    before = database.read_bytes()
    refused = server.run("restore", str(failed))
    assert refused.returncode == 1
    assert "audit-rows" in refused.stderr
    assert database.read_bytes() == before
    assert server.run("restore", str(failed), "--unverified").returncode == 0
    assert server.run("restore", str(earlier)).returncode == 0
    assert server.run("verify").returncode == 0
    make_scheduled_backup(request_backup(server, folder))
    assert list(folder.glob("*.unverified*")) == []


def test_failed_copy_is_kept_until_there_is_a_verified_backup(stopped: ServerProcess, tmp_path):
    folder = tmp_path / "backups"
    folder.mkdir(mode=0o700)
    failed = folder / "storekeep-20250102T000000Z.db.unverified"
    failed.touch()
    request = request_backup(stopped, folder)
    database = stopped.data_dir / "storekeep.db"
    lost = database.rename(tmp_path / "lost.db")
    with pytest.raises(BackupRefused, match="does not exist"):
        make_scheduled_backup(request)
    assert failed.exists(), "it is all that is left"
    lost.rename(database)
    made = make_scheduled_backup(request)
    assert sorted(folder.iterdir()) == [made, made.with_suffix(".keys")]


def test_failed_backup_is_logged_and_the_server_goes_on(make_server: MakeServer, tmp_path):
    (tmp_path / "file").touch()
    server = make_server(backup_time="00:00", backup_dir=str(tmp_path / "file" / "backups"))
    server.await_log("the scheduled backup failed")
    with Storekeep(server.address, api_key=server.admin_key) as client:
        assert list(client.products.list()) == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"backup_interval_s": "5"}, "at least 60"),
        ({"backup_time": "24:00"}, "time of day"),
        ({"backup_time": "03:30", "backup_interval_s": "60"}, "exclude"),
        ({"backup_time": "03:30", "database_url": "postgresql://db/shop"}, "pg_dump"),
    ],
)
def test_schedule_that_cannot_work_is_refused_in_one_line(tmp_path, settings, told):
    refused = run_command("config", "check", data_dir=tmp_path, **settings)
    assert refused.returncode == 2
    assert told in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
