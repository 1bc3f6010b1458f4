"""Data keys in backups and in SQLite's files: apart from the data, and gone when they are destroyed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from storekeep.server.jobs.backups import find_expired_keys
from storekeep.server.runtime.secrets import KEY_ENCRYPTION_KEY, SECRET_FILE
from storekeep.v1 import customers_pb2
from storekeep.v1.addresses_pb2 import Address
from tests.conftest import MakeServer
from tests.support.processes import ServerProcess, run_command
from tests.support.refusals import refused
from tests.support.shops import Shop

pytestmark = pytest.mark.engine("sqlite", reason="PostgreSQL is copied by its own programs")

CUSTOMERS = 60
WAIT_S = 60
NAME = "Ernst Handel"


@contextmanager
def open_shop(server: ServerProcess) -> Iterator[Shop]:
    with grpc.insecure_channel(server.address) as channel:
        yield Shop(channel, api_key=server.admin_key)


def make_customers(server: ServerProcess, count: int = CUSTOMERS) -> list[str]:
    with open_shop(server) as shop:
        return [shop.customer(display_name=NAME).name for _ in range(count)]


def get_names(server: ServerProcess, customers: list[str]) -> list[str]:
    with open_shop(server) as shop:
        return [
            shop.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=name)).display_name for name in customers
        ]


def read_wrapped_keys(path: Path) -> dict[str, bytes]:
    """Return the encrypted data keys in a database, by subject."""
    with closing(apsw.Connection(str(path))) as connection:
        rows = connection.execute("SELECT subject, wrapped_key FROM data_keys").fetchall()
    return {subject: wrapped.encode() for subject, wrapped in rows}


def read_key_numbers(path: Path) -> dict[int, str]:
    """Return the number of each data key, used or destroyed, with its subject."""
    with closing(apsw.Connection(str(path))) as connection:
        return dict(connection.execute("SELECT number, subject FROM data_keys").fetchall())


def count_in_files(keys: dict[str, bytes], *paths: Path) -> int:
    """Return how many of the keys stand anywhere in the bytes of the files."""
    content = b"".join(path.read_bytes() for path in paths if path.exists())
    return sum(key in content for key in keys.values())


def install_copy(server: ServerProcess, folder: Path, *files: Path) -> Path:
    """Return a data directory with the server's secrets, without a database."""
    folder.mkdir(mode=0o700)
    for name in (SECRET_FILE, KEY_ENCRYPTION_KEY.current, "admin.key"):
        shutil.copy(server.data_dir / name, folder / name)
    for file in files:
        shutil.copy(file, folder.parent)
    return folder


def test_backup_has_no_data_key_and_its_keys_file_restores_it(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server()
    customers = make_customers(server)
    backup, keys_file = tmp_path / "monday.db", tmp_path / "monday.keys"
    made = server.run("backup", str(backup))
    assert (made.returncode, str(keys_file) in made.stdout, "kek.key" in made.stdout) == (0, True, True), made.stderr
    assert keys_file.stat().st_mode & 0o777 == 0o600
    keys = read_wrapped_keys(server.data_dir / "storekeep.db")
    assert len(keys) > CUSTOMERS
    assert count_in_files(keys, backup) == 0
    assert count_in_files(keys, keys_file) == len(keys)
    data_dir = install_copy(server, tmp_path / "other")
    restored = run_command("restore", str(backup), data_dir=data_dir)
    assert restored.returncode == 0, restored.stderr
    assert read_wrapped_keys(data_dir / "storekeep.db") == keys
    other = make_server(data_dir=data_dir)
    assert get_names(other, customers) == [NAME] * CUSTOMERS
    assert other.run("verify").returncode == 0


@pytest.mark.parametrize("rotated", [False, True])
def test_restore_without_the_keys_is_refused_unless_they_are_given_up(
    make_server: MakeServer, tmp_path: Path, rotated: bool
) -> None:
    server = make_server()
    customers = make_customers(server, 3)
    for arguments in (("rotate-kek",), ("rotate-kek", "--finish")) if rotated else ():
        assert server.run(*arguments).returncode == 0
    server.run("backup", str(tmp_path / "old.db"))
    (tmp_path / "old.keys").rename(tmp_path / "hidden")
    data_dir = install_copy(server, tmp_path / "other")
    for arguments in ((), ("--keys", str(tmp_path / "none")), ("--keys", str(tmp_path / "old.db"))):
        failed = run_command("restore", str(tmp_path / "old.db"), *arguments, data_dir=data_dir)
        assert failed.returncode == 1
        assert len(failed.stderr.splitlines()) == 1, failed.stderr
        assert "--without-keys" in failed.stderr
    (tmp_path / "damaged.keys").write_bytes(b"no database")
    assert run_command("restore", str(tmp_path / "old.db"), data_dir=data_dir).returncode == 1
    restored = run_command("restore", str(tmp_path / "old.db"), "--without-keys", data_dir=data_dir)
    assert restored.returncode == 0, restored.stderr
    other = make_server(data_dir=data_dir)
    assert get_names(other, customers) == [""] * 3
    assert make_customers(other, 1)


def test_restore_is_refused_before_it_replaces_a_database_if_its_keys_need_another_kek(
    make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server()
    customers = make_customers(server, 3)
    server.run("backup", str(tmp_path / "old.db"))
    for arguments in (("rotate-kek",), ("rotate-kek", "--finish")):
        assert server.run(*arguments).returncode == 0
    server.stop()
    failed = run_command("restore", str(tmp_path / "old.db"), data_dir=server.data_dir)
    assert failed.returncode == 1
    assert len(failed.stderr.splitlines()) == 1, failed.stderr
    assert "kek.key" in failed.stderr
    assert "--without-keys" in failed.stderr
    assert get_names(make_server(data_dir=server.data_dir), customers) == [NAME] * 3


@pytest.mark.parametrize("arguments", [(), ("--unverified",)])
def test_restore_without_any_kek_is_refused_before_it_replaces_a_database(
    make_server: MakeServer, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    server = make_server()
    make_customers(server, 1)
    server.run("backup", str(tmp_path / "old.db"))
    data_dir = install_copy(server, tmp_path / "other")
    os.remove(data_dir / KEY_ENCRYPTION_KEY.current)
    failed = run_command("restore", str(tmp_path / "old.db"), *arguments, data_dir=data_dir)
    assert failed.returncode == 1
    assert len(failed.stderr.splitlines()) == 1, failed.stderr
    assert "kek.key" in failed.stderr
    assert "--without-keys" in failed.stderr
    assert not (data_dir / "storekeep.db").exists()
    assert not (data_dir / KEY_ENCRYPTION_KEY.current).exists(), "it creates no key that would hide the loss"


def test_data_of_customers_is_stored_again_after_their_keys_and_the_kek_were_given_up(
    make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server()
    customers = make_customers(server, 2)
    with open_shop(server) as shop:
        shop.customers.EraseCustomer(customers_pb2.EraseCustomerRequest(name=customers[0]))
    server.run("backup", str(tmp_path / "old.db"))
    data_dir = install_copy(server, tmp_path / "other")
    os.remove(data_dir / KEY_ENCRYPTION_KEY.current)
    restored = run_command("restore", str(tmp_path / "old.db"), "--without-keys", data_dir=data_dir)
    assert restored.returncode == 0, restored.stderr
    numbers = set(read_key_numbers(data_dir / "storekeep.db"))
    other = make_server(data_dir=data_dir)
    with open_shop(other) as shop:
        address = Address(region_code="AT", recipient=NAME)
        order = shop.order((shop.variant(stock=1).sku, 1), customer=customers[1], shipping_address=address)
        renamed = customers_pb2.Customer(name=customers[1], display_name=NAME)
        shop.customers.UpdateCustomer(
            customers_pb2.UpdateCustomerRequest(customer=renamed, update_mask=FieldMask(paths=["display_name"]))
        )
        assert shop.get_order(order).shipping_address == address
    assert get_names(other, customers) == ["", NAME]
    keys = read_key_numbers(data_dir / "storekeep.db")
    assert numbers < set(keys), "no number is used twice"
    assert customers[0] in keys.values(), "an erased customer stays without a key"
    other.kill()
    for command in ("reindex", "verify"):
        done = run_command(command, data_dir=data_dir)
        assert done.returncode == 0, done.stdout + done.stderr


def test_newest_keys_file_restores_an_older_backup_without_erased_customers(
    make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server()
    customers = make_customers(server, 3)
    server.run("backup", str(tmp_path / "old.db"))
    with open_shop(server) as shop:
        shop.customers.EraseCustomer(customers_pb2.EraseCustomerRequest(name=customers[0]))
    make_customers(server, 3)
    server.run("backup", str(tmp_path / "new.db"))
    data_dir = install_copy(server, tmp_path / "other")
    restored = run_command("restore", str(tmp_path / "old.db"), data_dir=data_dir)
    assert (restored.returncode, "Erased 1 customers again" in restored.stdout) == (0, True), restored.stderr
    assert run_command("verify", data_dir=data_dir).returncode == 0
    other = make_server(data_dir=data_dir)
    assert get_names(other, customers) == ["", NAME, NAME]
    with open_shop(other) as shop, refused("RESOURCE_DELETED"):
        shop.order(customer=customers[0])
    os.remove(tmp_path / "new.keys")
    data_dir = install_copy(server, tmp_path / "third")
    lacking = run_command("restore", str(tmp_path / "new.db"), data_dir=data_dir)
    assert (lacking.returncode, "--keys" in lacking.stderr) == (1, True)


def test_unverified_restore_leaves_the_erasures_to_the_start(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server()
    customers = make_customers(server, 2)
    server.run("backup", str(tmp_path / "old.db"))
    with open_shop(server) as shop:
        shop.customers.EraseCustomer(customers_pb2.EraseCustomerRequest(name=customers[0]))
    server.run("backup", str(tmp_path / "new.db"))
    data_dir = install_copy(server, tmp_path / "other")
    assert run_command("restore", str(tmp_path / "old.db"), "--unverified", data_dir=data_dir).returncode == 0
    verified = run_command("verify", data_dir=data_dir)
    assert (verified.returncode, f"{customers[0]}: its data key is destroyed" in verified.stdout) == (1, True)
    other = make_server(data_dir=data_dir)
    with open_shop(other) as shop:
        erased = shop.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=customers[0]))
        assert erased.HasField("erase_time")
    assert other.run("verify").returncode == 0


def test_destroyed_key_leaves_the_database_and_its_log(make_server: MakeServer) -> None:
    server = make_server()
    customers = make_customers(server)
    path, log = server.data_dir / "storekeep.db", server.data_dir / "storekeep.db-wal"
    keys = {name: key for name, key in read_wrapped_keys(path).items() if name in customers}
    assert count_in_files(keys, path, log) == CUSTOMERS
    erased = customers[::2]
    with open_shop(server) as shop:
        for name in erased:
            shop.customers.EraseCustomer(customers_pb2.EraseCustomerRequest(name=name))
    gone = {name: keys[name] for name in erased}
    give_up_s = time.monotonic() + WAIT_S
    while count_in_files(gone, path, log) and time.monotonic() < give_up_s:
        time.sleep(0.1)
    assert count_in_files(gone, path, log) == 0
    assert get_names(server, customers) == ["", NAME] * (CUSTOMERS // 2)


def test_keys_files_expire_by_age_but_never_the_newest(tmp_path: Path) -> None:
    now_s = 1_800_000_000.0
    names = [time.strftime("storekeep-%Y%m%dT%H%M%SZ.keys", time.gmtime(now_s - days * 86_400)) for days in range(9)]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in find_expired_keys(tmp_path, keep_days=6.5, now_s=now_s)] == names[7:]
    assert [path.name for path in find_expired_keys(tmp_path, keep_days=0, now_s=now_s + 9)] == names[1:]
