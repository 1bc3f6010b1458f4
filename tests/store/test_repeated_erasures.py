"""A restore keeps persons erased of whom the replaced database, or a newer keys file, says that they are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import grpc
import pytest

from storekeep.server.runtime.secrets import KEY_ENCRYPTION_KEY, SECRET_FILE
from storekeep.v1 import customers_pb2
from tests.conftest import MakeServer
from tests.support.processes import ServerProcess, run_command
from tests.support.shops import Shop

pytestmark = pytest.mark.engine("sqlite", reason="PostgreSQL is copied by its own programs")

NAME = "Ernst Handel"
AGAIN = "Erased 1 customers again"
UNKNOWN = "may not be erased again"


@contextmanager
def open_shop(server: ServerProcess) -> Iterator[Shop]:
    with grpc.insecure_channel(server.address) as channel:
        yield Shop(channel, api_key=server.admin_key)


def get_customers(server: ServerProcess, names: list[str]) -> list[customers_pb2.Customer]:
    with open_shop(server) as shop:
        return [shop.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=name)) for name in names]


def erase(server: ServerProcess, name: str) -> None:
    with open_shop(server) as shop:
        shop.customers.EraseCustomer(customers_pb2.EraseCustomerRequest(name=name, force=True))


def get_names(server: ServerProcess, names: list[str]) -> list[str]:
    return [customer.display_name for customer in get_customers(server, names)]


@pytest.fixture
def customers() -> list[str]:
    return []


@pytest.fixture
def server(make_server: MakeServer, customers: list[str], tmp_path: Path) -> ServerProcess:
    """A server that is stopped. Its first customer was erased after the backup `old.db` was made."""
    server = make_server()
    with open_shop(server) as shop:
        customers += [shop.customer(display_name=NAME, labels={"tier": "gold"}).name for _ in range(2)]
    assert server.run("backup", str(tmp_path / "old.db")).returncode == 0
    erase(server, customers[0])
    server.stop()
    return server


@pytest.mark.parametrize("arguments", [(), ("--without-keys",), ("--keys", "old.keys")])
def test_restore_erases_again_who_is_erased_in_the_replaced_database(
    server: ServerProcess, customers: list[str], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    named = [str(tmp_path / one) if one.endswith(".keys") else one for one in arguments]
    restored = server.run("restore", str(tmp_path / "old.db"), *named)
    assert restored.returncode == 0, restored.stderr
    assert (AGAIN in restored.stdout, UNKNOWN in restored.stdout) == (True, False), restored.stdout
    with closing(apsw.Connection(str(server.data_dir / "storekeep.db"))) as connection:
        wrapped = connection.execute("SELECT wrapped_key FROM data_keys WHERE subject = ?", (customers[0],)).get
    assert set(wrapped) == {"0"}
    server.restart()
    erased, other = get_customers(server, customers)
    assert (erased.display_name, dict(erased.labels), erased.HasField("erase_time")) == ("", {}, True)
    assert other.display_name == ("" if "--without-keys" in arguments else NAME)
    assert dict(other.labels) == {"tier": "gold"}
    server.stop()
    for command in ("reindex", "verify"):
        done = server.run(command)
        assert done.returncode == 0, done.stdout


def test_unverified_restore_leaves_them_to_the_next_start(
    server: ServerProcess, customers: list[str], tmp_path: Path
) -> None:
    assert server.run("restore", str(tmp_path / "old.db"), "--unverified").returncode == 0
    server.restart()
    assert get_names(server, customers) == ["", NAME]


def test_copy_with_its_own_keys_is_no_way_around_an_erasure(
    make_server: MakeServer, customers: list[str], tmp_path: Path
) -> None:
    server = make_server()
    with open_shop(server) as shop:
        customers += [shop.customer(display_name=NAME).name for _ in range(2)]
    server.stop()
    shutil.copyfile(server.data_dir / "storekeep.db", tmp_path / "own.db")
    server.restart()
    erase(server, customers[0])
    server.stop()
    restored = server.run("restore", str(tmp_path / "own.db"))
    assert (restored.returncode, AGAIN in restored.stdout) == (0, True), restored.stderr
    server.restart()
    assert get_names(server, customers) == ["", NAME]


def test_damaged_database_tells_what_can_be_read(server: ServerProcess, customers: list[str], tmp_path: Path) -> None:
    path = server.data_dir / "storekeep.db"
    with closing(apsw.Connection(str(path))) as connection:
        (root,) = (connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'audit_entries'").get,)
        size = connection.execute("PRAGMA page_size").get
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    restored = server.run("restore", str(tmp_path / "old.db"))
    assert (restored.returncode, AGAIN in restored.stdout) == (0, True), restored.stdout + restored.stderr


@pytest.mark.parametrize("content", [b"no database", None])
def test_restore_says_that_later_erasures_cannot_be_known(
    server: ServerProcess, tmp_path: Path, content: bytes | None
) -> None:
    path = server.data_dir / "storekeep.db"
    os.remove(path)
    if content:
        path.write_bytes(content)
    restored = server.run("restore", str(tmp_path / "old.db"))
    assert (restored.returncode, UNKNOWN in restored.stdout) == (0, True), restored.stdout + restored.stderr


def test_newest_keys_file_of_the_backup_directory_counts_too(
    server: ServerProcess, customers: list[str], make_server: MakeServer, tmp_path: Path
) -> None:
    server.restart()
    data_dir = tmp_path / "other"
    (data_dir / "backups").mkdir(mode=0o700, parents=True)
    data_dir.chmod(0o700)
    assert server.run("backup", str(data_dir / "backups" / "new.db")).returncode == 0
    for name in (SECRET_FILE, KEY_ENCRYPTION_KEY.current, "admin.key"):
        shutil.copy(server.data_dir / name, data_dir / name)
    restored = run_command("restore", str(tmp_path / "old.db"), data_dir=data_dir)
    assert (restored.returncode, AGAIN in restored.stdout) == (0, True), restored.stdout + restored.stderr
    assert UNKNOWN not in restored.stdout
    assert get_names(make_server(data_dir=data_dir), customers) == ["", NAME]


def test_database_of_another_shop_erases_nobody(
    server: ServerProcess, customers: list[str], make_server: MakeServer, tmp_path: Path
) -> None:
    """The same ids are other persons there."""
    other = make_server()
    with open_shop(other) as shop:
        for name in customers:
            shop.customers.CreateCustomer(
                customers_pb2.CreateCustomerRequest(
                    customer=customers_pb2.Customer(display_name=NAME), customer_id=name.removeprefix("customers/")
                )
            )
    erase(other, customers[1])
    other.stop()
    for name in (SECRET_FILE, KEY_ENCRYPTION_KEY.current, "admin.key"):
        shutil.copy(server.data_dir / name, other.data_dir / name)
    restored = other.run("restore", str(tmp_path / "old.db"))
    assert restored.returncode == 0, restored.stderr
    assert (AGAIN in restored.stdout, UNKNOWN in restored.stdout) == (False, True), restored.stdout
