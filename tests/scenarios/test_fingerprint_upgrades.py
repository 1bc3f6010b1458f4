"""An upgrade replaces the fingerprints of an older release in several batches, and no file keeps an old one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from storekeep.server.config import Settings
from storekeep.server.domain.keys.personal_fields import protect_fingerprint
from storekeep.server.domain.personal_data.existing_data import BATCH_ROWS
from storekeep.server.wiring.data_keys import make_data_keys
from tests.support.databases import Database, new_database
from tests.support.forks import start_fork
from tests.support.hostile.wire import wait_until
from tests.support.older_databases import NEWER_STEPS
from tests.support.processes import COMMAND, ServerProcess, server_environment
from tests.support.shops import Shop
from tests.support.stores import open_store

OLD = [hashlib.sha256(b"%d" % number).digest() for number in range(2 * BATCH_ROWS + 10)]
"""What an older release stored: three batches."""
HELD = BATCH_ROWS + 5
"""A reply of the second batch."""
STEPS_LEFT = "SELECT name, position FROM encryption_steps ORDER BY number"
FINGERPRINTS = "SELECT fingerprint FROM replies WHERE method = 'old' ORDER BY id"


def store_as_before(server: ServerProcess, steps: Sequence[str]) -> None:
    """Write the replies and the pending steps that a release before `0050_fingerprints` had."""
    with grpc.insecure_channel(server.address) as channel:
        Shop(channel, api_key=server.admin_key).customer()
    server.stop()
    rows = ", ".join(["('old', 'old', ?, ?, 0)"] * len(OLD))
    values = [value for number, old in enumerate(OLD) for value in (str(number), old)]
    with server.database.opened() as session:
        session.run("DELETE FROM replies")
        session.run(
            f"INSERT INTO replies (caller, method, request_id, fingerprint, create_time_us) VALUES {rows}", *values
        )
        for number, step in enumerate(steps, start=1):
            session.run("INSERT INTO encryption_steps (number, name, position) VALUES (?, ?, '')", number, step)
        session.run("DELETE FROM schema_migrations WHERE name LIKE '0050%'")


def protect(server: ServerProcess) -> list[bytes]:
    """Return the keyed hashes of the old fingerprints."""
    with closing(open_store(server.database.url)) as store:
        store.data_keys = make_data_keys(Settings(data_dir=server.data_dir, database_url=server.database.url))
        return store.read(lambda tx: [protect_fingerprint(tx, old) for old in OLD])


def read_table(server: ServerProcess) -> bytes:
    """Return the file that has the replies."""
    if server.database.engine == "sqlite":
        return (server.data_dir / "storekeep.db").read_bytes()
    with server.database.opened() as session:
        session.run("CHECKPOINT")
        ((folder, path),) = session.rows("SELECT current_setting('data_directory'), pg_relation_filepath('replies')")
    return (Path(folder) / path).read_bytes()


def check_upgraded(server: ServerProcess) -> None:
    """Check that each fingerprint was replaced once, and that the old ones are gone."""
    with server.database.opened() as session:
        stored = [bytes(one) for (one,) in session.rows(FINGERPRINTS)]
        assert session.rows(STEPS_LEFT) == []
    assert stored == protect(server)
    data = read_table(server)
    assert stored[0] in data
    assert [number for number, old in enumerate(OLD) if old in data] == []


@pytest.mark.parametrize("steps", [(), NEWER_STEPS, ("files",)], ids=["none", "of 0033", "files"])
def test_upgrade_with_pending_steps_leaves_no_old_fingerprint_in_a_file(
    make_server: Callable[..., ServerProcess], steps: Sequence[str]
) -> None:
    server = make_server()
    store_as_before(server, steps)
    assert OLD[0] in read_table(server)
    migrated = server.run("migrate")
    assert (migrated.returncode, migrated.stderr) == (0, "")
    check_upgraded(server)


@contextmanager
def hold_update(database: Database) -> Iterator[None]:
    """Let an update of the reply `HELD` wait until the end of the context. End it then, if its process was killed."""
    with database.opened() as session:
        if database.engine == "sqlite":
            session.run(
                "CREATE VIEW endless AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT x FROM n"
            )
            session.run(
                f"CREATE TRIGGER held BEFORE UPDATE ON replies WHEN old.request_id = '{HELD}'"
                " BEGIN SELECT COUNT(*) FROM endless; END"
            )
            yield
            session.run("DROP TRIGGER held")
            session.run("DROP VIEW endless")
        else:
            session.run("BEGIN")
            session.rows("SELECT id FROM replies WHERE request_id = ? FOR UPDATE", str(HELD))
            yield
            session.rows(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            session.run("ROLLBACK")


def test_upgrade_killed_within_fingerprints_continues_and_replaces_each_once(
    make_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    server = make_server()
    store_as_before(server, ())

    def list_steps() -> list[tuple[str, bool]]:
        with server.database.opened() as session:
            return [(name, position != "") for name, position in session.rows(STEPS_LEFT)]

    with hold_update(server.database):
        with (tmp_path / "output").open("ab") as output:
            environment = server_environment(server.data_dir, database_url=server.database.url)
            process = start_fork([COMMAND, "migrate"], environment=environment, stdout=output, stderr=output)
        wait_until(lambda: list_steps()[:1] == [("fingerprints", True)], what="the first batch is complete")
        process.kill()
        process.wait()
    assert list_steps() == [("fingerprints", True), ("files", False)]
    with server.database.opened() as session:
        stored = [bytes(one) for (one,) in session.rows(FINGERPRINTS)]
    assert [one in OLD for one in stored] == [number >= BATCH_ROWS for number in range(len(OLD))]
    migrated = server.run("migrate")
    assert (migrated.returncode, migrated.stderr) == (0, "")
    check_upgraded(server)


@contextmanager
def read_before(server: ServerProcess) -> Iterator[None]:
    """Keep a transaction open that reads the database as it is."""
    with server.database.opened() as session:
        session.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
        session.rows("SELECT 1 FROM replies LIMIT 1")
        yield
        session.run("COMMIT")


@contextmanager
def write_elsewhere(_server: ServerProcess) -> Iterator[None]:
    """Keep a transaction open that writes another database of the same PostgreSQL."""
    other = new_database("postgresql", Path(), migrated=False)
    with other.opened() as session:
        session.run("BEGIN")
        session.run("CREATE TABLE others (id BIGINT)")
        yield
        session.run("COMMIT")
    other.remove()


@pytest.mark.engine("postgresql", reason="SQLite writes its whole file anew, and only with no other transaction open")
@pytest.mark.parametrize("hold", [read_before, write_elsewhere])
def test_upgrade_waits_for_transactions_for_which_rows_are_kept(
    make_server: Callable[..., ServerProcess], tmp_path: Path, hold: Callable[[ServerProcess], Any]
) -> None:
    server = make_server()
    store_as_before(server, ())

    def is_waiting() -> bool:
        with server.database.opened() as session:
            return [name for name, _ in session.rows(STEPS_LEFT)] == ["files"]

    with hold(server):
        with (tmp_path / "output").open("ab") as output:
            environment = server_environment(server.data_dir, database_url=server.database.url)
            process = start_fork([COMMAND, "migrate"], environment=environment, stdout=output, stderr=output)
        wait_until(is_waiting, what="only the files are left")
    assert process.wait() == 0, (tmp_path / "output").read_text()
    check_upgraded(server)
