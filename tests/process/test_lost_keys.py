"""The command `give-up-keys`: the way on after the key-encryption key was lost, and what it refuses to lose."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from storekeep.client import InvalidField, Storekeep, User
from storekeep.server.runtime.secrets import KEY_ENCRYPTION_KEY
from storekeep.v1 import customers_pb2, orders_pb2
from tests.conftest import MakeServer
from tests.support.processes import COMMAND_TIMEOUT_S, ServerProcess, server_environment
from tests.support.refusals import refused
from tests.support.shops import Shop

NAME = "Ernst Handel"
CURRENT = KEY_ENCRYPTION_KEY.current
KILL = """
import importlib, os, signal, sys
from storekeep.server.__main__ import main
module, name = sys.argv.pop(1).split(":")
setattr(importlib.import_module(module), name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
sys.argv[0] = "storekeep-server"
main()
"""
"""Runs a command that kills itself where it would call a function."""
GIVING_UP = "storekeep.server.domain.personal_data.lost_keys"
STEPS = (
    "storekeep.server.process.lost_keys:give_up_keys",
    f"{GIVING_UP}:_replace_kek",
    f"{GIVING_UP}:_give_up_batch",
    f"{GIVING_UP}:install_index_key",
    "storekeep.server.process.lost_keys:rebuild_documents",
    "storekeep.server.domain.integrity.search_documents:_rebuild_page",
)
"""The functions that the command calls, one after the other."""


@contextmanager
def open_shop(server: ServerProcess) -> Iterator[Shop]:
    with grpc.insecure_channel(server.address) as channel:
        yield Shop(channel, api_key=server.admin_key)


def read_names(shop: Shop, names: list[str]) -> list[str]:
    return [shop.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=name)).display_name for name in names]


def rename(shop: Shop, name: str) -> None:
    renamed = customers_pb2.Customer(name=name, display_name=NAME)
    shop.customers.UpdateCustomer(
        customers_pb2.UpdateCustomerRequest(customer=renamed, update_mask=FieldMask(paths=["display_name"]))
    )


def search(shop: Shop) -> set[str]:
    request = customers_pb2.SearchCustomersRequest(query=NAME)
    return {one.name for one in shop.customers.SearchCustomers(request).customers}


@pytest.fixture
def customers() -> list[str]:
    return []


@pytest.fixture
def stopped(make_server: MakeServer, customers: list[str]) -> ServerProcess:
    """A server that is stopped, with two customers and an erased one with an open order."""
    server = make_server()
    with open_shop(server) as shop:
        customers += [shop.customer(display_name=NAME).name for _ in range(3)]
        shop.order(customer=customers[2])
        shop.customers.EraseCustomer(customers_pb2.EraseCustomerRequest(name=customers[2], force=True))
    server.stop()
    return server


def check_served(server: ServerProcess, customers: list[str]) -> None:
    """Check that the personal data is lost, that new data is stored, and that erased customers stay erased."""
    server.restart()
    with open_shop(server) as shop:
        assert read_names(shop, customers) == ["", "", ""]
        assert search(shop) == set()
        rename(shop, customers[0])
        assert read_names(shop, customers) == [NAME, "", ""]
        assert search(shop) == {customers[0]}
        (order,) = shop.orders.ListOrders(orders_pb2.ListOrdersRequest()).orders
        with refused("PERSONAL_DATA_ERASED"):
            shop.orders.AddOrderNote(orders_pb2.AddOrderNoteRequest(parent=order.name, content="x"))
    verified = server.run("verify")
    assert verified.returncode == 0, verified.stdout


def test_lost_kek_is_given_up_after_what_it_loses_was_shown(stopped: ServerProcess, customers: list[str]) -> None:
    path = stopped.data_dir / CURRENT
    right = path.read_bytes()
    os.remove(path)
    shown = stopped.run("give-up-keys")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "the personal data of 2 customers" in shown.stdout
    assert "--yes" in shown.stdout
    assert not path.exists()
    path.write_bytes(right)
    path.chmod(0o600)
    useless = stopped.run("give-up-keys", "--yes")
    assert "nothing was given up" in useless.stdout
    stopped.restart()
    with open_shop(stopped) as shop:
        assert read_names(shop, customers) == [NAME, NAME, ""]
    stopped.stop()
    os.remove(path)
    given_up = stopped.run("give-up-keys", "--yes")
    assert (given_up.returncode, "Gave up" in given_up.stdout) == (0, True), given_up.stderr
    assert path.read_bytes() != right
    check_served(stopped, customers)


def test_lost_kek_is_reported_once_by_doctor_and_verify_says_that_nothing_was_decrypted(stopped: ServerProcess) -> None:
    os.remove(stopped.data_dir / CURRENT)
    report = json.loads(stopped.run("doctor", "--json").stdout)
    (finding,) = [finding for finding in report["findings"] if finding["area"] == "kek"]
    assert finding["severity"] == "ERROR"
    assert finding["remedy"] == "restore kek.key from its backup; if it is lost: storekeep-server give-up-keys"
    verified = stopped.run("verify").stdout
    assert "no data key was decrypted" in verified
    assert "can be decrypted" not in verified


def test_keys_under_the_known_kek_stay_if_a_rotation_was_half_done(
    stopped: ServerProcess, customers: list[str]
) -> None:
    stopped.restart()
    previous = stopped.data_dir / KEY_ENCRYPTION_KEY.previous
    assert stopped.run("rotate-kek").returncode == 0
    stopped.stop()
    with stopped.database.opened() as session:
        ((newer, older),) = session.rows("SELECT MAX(key_id), MIN(key_id) FROM key_encryption_keys")
        current = session.rows("SELECT key_id FROM key_encryption_keys ORDER BY number")[1][0]
        former = older if current == newer else newer
        session.run("UPDATE data_keys SET key_id = ? WHERE subject = ?", former, customers[0])
    os.remove(previous)
    given_up = stopped.run("give-up-keys", "--yes")
    assert "the personal data of 1 customers" in given_up.stdout, given_up.stderr
    stopped.restart()
    with open_shop(stopped) as shop:
        assert read_names(shop, customers) == ["", NAME, ""]
    assert stopped.run("verify").returncode == 0


def kill_at(server: ServerProcess, step: str) -> None:
    """Run `give-up-keys --yes` until it calls a function."""
    killed = subprocess.run(
        [sys.executable, "-c", KILL, step, "give-up-keys", "--yes"],
        env=server_environment(server.data_dir, **server._settings),
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
    )
    assert killed.returncode == -signal.SIGKILL, (step, killed.stdout, killed.stderr)


def test_run_that_was_killed_between_any_two_steps_is_finished_by_the_next(
    stopped: ServerProcess, customers: list[str]
) -> None:
    os.remove(stopped.data_dir / CURRENT)
    for step in STEPS:
        kill_at(stopped, step)
    assert "interrupted" in stopped.run("give-up-keys").stdout
    assert "Rebuilt" in stopped.run("give-up-keys", "--yes").stdout
    assert "nothing was given up" in stopped.run("give-up-keys", "--yes").stdout
    check_served(stopped, customers)


@pytest.mark.engine("postgresql", reason="a backup of SQLite is restored with its keys or with --without-keys")
def test_database_without_the_rows_of_its_keys_goes_on(stopped: ServerProcess, customers: list[str]) -> None:
    with stopped.database.opened() as session:
        session.run("DELETE FROM data_keys")
        session.run("DELETE FROM key_encryption_keys")
    os.remove(stopped.data_dir / CURRENT)
    assert "without a data key" in stopped.run("give-up-keys").stdout
    kill_at(stopped, f"{GIVING_UP}:_give_up_batch")
    given_up = stopped.run("give-up-keys", "--yes")
    assert given_up.returncode == 0, given_up.stderr
    check_served(stopped, customers)


@pytest.mark.engine("sqlite", reason="the names of users have nothing to do with the database")
def test_lost_name_of_a_user_is_set_again_together_with_the_address(make_server: MakeServer) -> None:
    server = make_server()
    with Storekeep(server.address, api_key=server.admin_key) as client:
        user = client.users.create_user(User(display_name="Ann", email="ann@example.com")).name
    server.stop()
    os.remove(server.data_dir / CURRENT)
    assert server.run("give-up-keys", "--yes").returncode == 0
    server.restart()
    with Storekeep(server.address, api_key=server.admin_key) as client:
        with pytest.raises(InvalidField, match="lost with its data key"):
            client.users.update_user(User(name=user, display_name=NAME), update_mask=["display_name"])
        again = User(name=user, display_name=NAME, email="ann@example.com")
        assert client.users.update_user(again, update_mask=["display_name", "email"]).email == again.email
        assert client.users.update_user(User(name=user, display_name="Ann")).display_name == "Ann"


@pytest.mark.engine("sqlite", reason="PostgreSQL has no lock of a server")
def test_running_server_is_not_given_up(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server()
    running = server.run("give-up-keys", "--yes")
    assert running.returncode == 1
    assert len(running.stderr.splitlines()) == 1
