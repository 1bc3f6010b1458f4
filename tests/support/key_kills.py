"""Kills of a server that erases customers, of rotations of the key-encryption key, and of `migrate`; all go on."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import grpc

from storekeep.server.domain.keys.data_keys import DataKeys
from storekeep.server.runtime.key_encryption import LocalKeyEncryption
from storekeep.server.runtime.secrets import KEY_ENCRYPTION_KEY, load_secrets
from storekeep.server.store.engine import Store
from storekeep.server.store.opening import open_store
from storekeep.v1 import customers_pb2, orders_pb2
from tests.support.older_databases import store_in_clear
from tests.support.processes import ServerProcess, server_environment
from tests.support.shops import Shop

SUBJECTS = [f"customers/{number}" for number in range(3_000)]
TIMEOUT_S = 120
PER_ROUND = 20
BATCHES, PER_BATCH = 7, 100
KILLS_PER_MIGRATION = 3
ERASURE_S = 0.003
"""How long one erasure takes."""
NAME = "Ernst Handel"
EMAIL = "ernst@example.com"


@contextmanager
def open_keys(server: ServerProcess) -> Iterator[tuple[Store, DataKeys]]:
    """Open the database of a server, beside it, with the key-encryption keys that are in its files now."""
    with closing(open_store(server.database.url)) as store:
        keys = DataKeys(
            LocalKeyEncryption(lambda: load_secrets((), data_dir=server.data_dir, files=KEY_ENCRYPTION_KEY))
        )
        store.data_keys = keys
        yield store, keys


def read_keys(server: ServerProcess) -> dict[str, bytes]:
    """Return the data keys of SUBJECTS, as far as they are comparable. The first call creates them."""
    with open_keys(server) as (store, keys):
        made = store.write(lambda tx: keys.ensure_keys(tx, SUBJECTS))
    return {subject: key.derive("test") for subject, key in made.items()}


def kill_rotations(server: ServerProcess, *, rounds: int, seed: int) -> int:
    """Kill a rotation in each round, and finish it: every third time before its first step, else halfway.

    Returns: how many were killed while some data keys were encrypted with the former key, and some with the new one.
    """
    before = read_keys(server)
    choice = random.Random(seed)
    halfway = 0
    duration_s = _time_rotation(server)
    for number in range(rounds):
        process = subprocess.Popen(
            [sys.executable, "-m", "storekeep.server", "rotate-kek"],
            env=server_environment(server.data_dir, **server._settings),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if number % 3 == 2:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=choice.uniform(0.5, 1) * duration_s)
        else:
            _await_keys(server, process, count=choice.randrange(1, len(SUBJECTS)))
        process.kill()
        process.wait(timeout=TIMEOUT_S)
        halfway += _count_rotated(server) in range(1, len(SUBJECTS))
        assert read_keys(server) == before
        rotated = server.run("rotate-kek")
        assert rotated.returncode == 0 or "--finish" in rotated.stderr, rotated.stderr
        finished = server.run("rotate-kek", "--finish")
        assert finished.returncode == 0 or "no rotation is in progress" in finished.stderr, finished.stderr
        assert read_keys(server) == before
    return halfway


def _await_keys(server: ServerProcess, process: subprocess.Popen[bytes], *, count: int) -> None:
    """Wait until some data keys are encrypted with the newest key-encryption key, or the rotation has ended."""
    give_up = time.monotonic() + TIMEOUT_S
    while process.poll() is None and not count <= _count_rotated(server) < len(SUBJECTS):
        assert time.monotonic() < give_up


def _count_rotated(server: ServerProcess) -> int:
    """Return how many data keys are encrypted with the newest key-encryption key."""
    newest = "SELECT key_id FROM key_encryption_keys ORDER BY number DESC LIMIT 1"
    with server.database.opened() as session:
        ((count,),) = session.rows(f"SELECT COUNT(*) FROM data_keys WHERE key_id = ({newest})")
    return int(count)


def _time_rotation(server: ServerProcess) -> float:
    """Rotate the key-encryption key, and return how long that took in seconds, with the start of a new process."""
    start_s = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "storekeep.server", "rotate-kek"],
        env=server_environment(server.data_dir, **server._settings),
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=TIMEOUT_S,
    )
    duration_s = time.monotonic() - start_s
    assert server.run("rotate-kek", "--finish").returncode == 0
    return duration_s


def kill_while_erasing(server: ServerProcess, *, rounds: int, seed: int) -> tuple[int, int]:
    """Kill a server in each round while it erases customers, after a random number of them.

    Each is erased or not, and those that were told stay so.

    Returns: the number of erased customers, and of all.
    """
    choice = random.Random(seed)
    orders: dict[str, orders_pb2.Order] = {}
    told: set[str] = set()
    for _ in range(rounds):
        with grpc.insecure_channel(server.address) as channel:
            shop = Shop(channel, api_key=server.admin_key)
            made = [shop.customer(display_name=NAME, email=EMAIL).name for _ in range(PER_ROUND)]
            orders |= {name: shop.cancel(shop.order(customer=name)) for name in made}
            enough = threading.Event()
            last = made[choice.randrange(PER_ROUND - 1)]
            eraser = threading.Thread(target=_erase, args=(shop, made, told), kwargs={"last": last, "enough": enough})
            eraser.start()
            assert enough.wait(timeout=TIMEOUT_S)
            time.sleep(choice.uniform(0, ERASURE_S))
            server.kill()
            eraser.join(timeout=TIMEOUT_S)
        server.restart()
    return _check(server, orders, told), len(orders)


def _erase(shop: Shop, names: list[str], told: set[str], *, last: str, enough: threading.Event) -> None:
    """Erase customers until the server is gone. Add those to `told` whose erasure was acknowledged.

    Args:
        enough: set when the erasure of `last` was acknowledged.
    """
    for name in names:
        try:
            shop.customers.EraseCustomer(customers_pb2.EraseCustomerRequest(name=name), timeout=TIMEOUT_S)
        except grpc.RpcError:
            return
        told.add(name)
        if name == last:
            enough.set()


def _check(server: ServerProcess, orders: dict[str, orders_pb2.Order], told: set[str]) -> int:
    """Check each customer and its order, and run `verify`. Return the number of erased customers."""
    erased = 0
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        for name, placed in orders.items():
            customer = shop.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=name))
            order = shop.get_order(placed)
            is_erased = customer.HasField("erase_time")
            erased += is_erased
            assert is_erased or name not in told
            assert (customer.display_name, customer.email, order.email) == (
                ("", "", "") if is_erased else (NAME, EMAIL, EMAIL)
            )
            assert (order.total, order.number, order.customer) == (placed.total, placed.number, name)
    verified = server.run("verify")
    assert verified.returncode == 0, verified.stdout
    return erased


def kill_migrations(server: ServerProcess, *, rounds: int, seed: int) -> int:
    """Kill `migrate` some times while it encrypts the rows of an older release, and let it end, in each round.

    Returns: how many were killed.
    """
    names = _create_customers(server)
    server.stop()
    choice = random.Random(seed)
    killed = 0
    store_in_clear(server.database, server.data_dir)
    start_s = time.monotonic()
    assert _migrate(server, timeout_s=TIMEOUT_S)
    duration_s = time.monotonic() - start_s
    for _ in range(rounds):
        store_in_clear(server.database, server.data_dir)
        for _ in range(KILLS_PER_MIGRATION):
            killed += not _migrate(server, timeout_s=choice.uniform(0.3, 1) * duration_s)
        assert _migrate(server, timeout_s=TIMEOUT_S)
        verified = server.run("verify")
        assert verified.returncode == 0, verified.stdout
    server.restart()
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        for name in names:
            customer = shop.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=name))
            assert (customer.display_name, customer.email) == (NAME, EMAIL)
    return killed


def _create_customers(server: ServerProcess) -> list[str]:
    """Create customers, more than one batch of `migrate` has, and return their names."""
    new = customers_pb2.CreateCustomerRequest(customer=customers_pb2.Customer(display_name=NAME, email=EMAIL))
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        request = customers_pb2.BatchCreateCustomersRequest(requests=[new] * PER_BATCH)
        replies = [shop.customers.BatchCreateCustomers(request) for _ in range(BATCHES)]
    return [result.customer.name for reply in replies for result in reply.results]


def _migrate(server: ServerProcess, *, timeout_s: float) -> bool:
    """Run `migrate`, and kill it after a time. Return whether it ended before."""
    process = subprocess.Popen(
        [sys.executable, "-m", "storekeep.server", "migrate"],
        env=server_environment(server.data_dir, **server._settings),
        stdout=subprocess.DEVNULL,
    )
    try:
        code = process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=TIMEOUT_S)
        return False
    assert code == 0
    return True
