"""The encryption of an existing database is killed in the middle and goes on where it was."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from storekeep.v1 import customers_pb2
from tests.support.forks import start_fork
from tests.support.hostile.wire import wait_until
from tests.support.older_databases import store_in_clear
from tests.support.processes import COMMAND, ServerProcess, server_environment
from tests.support.shops import Shop

pytestmark = pytest.mark.engine("sqlite", reason="each batch is one transaction with its position, on either engine")
CUSTOMERS = 1_100
"""Three batches of the encryption."""
MARK = "planted"


def create_customers(shop: Shop) -> None:
    for first in range(0, CUSTOMERS, 1_000):
        requests = [
            customers_pb2.CreateCustomerRequest(
                customer=customers_pb2.Customer(display_name=f"{MARK} {number}", email=f"{MARK}{number}@example.com"),
                customer_id=f"c{number:04}",
            )
            for number in range(first, min(CUSTOMERS, first + 1_000))
        ]
        shop.customers.BatchCreateCustomers(customers_pb2.BatchCreateCustomersRequest(requests=requests))


def read_step(server: ServerProcess) -> tuple[str, str]:
    """Return the name of the next step and its position; empty after the last one."""
    with server.database.opened() as session:
        rows = session.rows("SELECT name, position FROM encryption_steps ORDER BY number LIMIT 1")
    return rows[0] if rows else ("", "")


def test_migrate_killed_within_each_long_step_goes_on(server: ServerProcess, tmp_path: Path) -> None:
    with grpc.insecure_channel(server.address) as channel:
        create_customers(Shop(channel, api_key=server.admin_key))
    server.stop()
    store_in_clear(server.database, server.data_dir)
    for step in ("customers", "audit_entries"):
        with (tmp_path / "output").open("ab") as output:
            environment = server_environment(server.data_dir)
            process = start_fork([COMMAND, "migrate"], environment=environment, stdout=output, stderr=output)

        def is_within(step: str = step) -> bool:
            name, position = read_step(server)
            assert name, "the run ended before it was killed"
            return name == step and position != ""

        wait_until(is_within, what=f"some rows of the step {step} are encrypted")
        process.kill()
        process.wait()
        name, position = read_step(server)
        assert (name, bool(position)) == (step, True)
    migrated = server.run("migrate")
    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert read_step(server) == ("", "")
    for path in server.data_dir.rglob("storekeep.db*"):
        assert MARK.encode() not in path.read_bytes(), path
    verified = server.run("verify")
    assert verified.returncode == 0, verified.stdout
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        names = [f"customers/c{number:04}" for number in (0, CUSTOMERS // 2, CUSTOMERS - 1)]
        read = shop.customers.BatchGetCustomers(customers_pb2.BatchGetCustomersRequest(names=names)).customers
        assert [one.display_name for one in read] == [
            f"{MARK} 0",
            f"{MARK} {CUSTOMERS // 2}",
            f"{MARK} {CUSTOMERS - 1}",
        ]
