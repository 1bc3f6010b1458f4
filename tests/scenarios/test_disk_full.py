"""A full disk: writes are refused with a reason, nothing acknowledged is lost, reads go on, and room heals it.

Once with a real file system of a few MB, where this user may mount one, and everywhere with a limit on the size
of files, which the kernel reports as another error than a full disk.
"""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from storekeep.v1 import orders_pb2
from tests.conftest import MakeServer
from tests.support.buyers import open_shop, verify
from tests.support.processes import ServerProcess
from tests.support.refusals import refusal_of
from tests.support.shops import Shop, new_request_id

pytestmark = pytest.mark.engine("sqlite", reason="PostgreSQL has a disk of its own, and its own ways when it is full")
DISK_MIB = 8
ROOM_BYTES = 256 * 1024
ORDERS_MAX = 2_000
"""Far more than fit into `ROOM_BYTES`."""
REFUSALS = 10
PAGE_BYTES = 4096
"""What a file of a full tmpfs can still grow by: the rest of its last page."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own that has only a few MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, *, but_bytes: int) -> Path:
    """Take all room of a file system but so much."""
    filler = folder / "filler"
    disk = os.statvfs(folder)
    filler.write_bytes(bytes(disk.f_bavail * disk.f_frsize - but_bytes))
    return filler


def new_request(shop: Shop) -> orders_pb2.PlaceOrderRequest:
    """An order that takes some room."""
    return shop.order_request((shop.variant(stock=1_000_000).sku, 1), note="x" * 1_500)


def fresh(request: orders_pb2.PlaceOrderRequest) -> orders_pb2.PlaceOrderRequest:
    """The same order once more, as another one."""
    again = orders_pb2.PlaceOrderRequest()
    again.CopyFrom(request)
    again.request_id = new_request_id()
    return again


def order_until_refused(shop: Shop, request: orders_pb2.PlaceOrderRequest) -> tuple[list[orders_pb2.Order], str]:
    """What was acknowledged before the first refusal, and its reason."""
    placed: list[orders_pb2.Order] = []
    for _ in range(ORDERS_MAX):
        try:
            placed.append(shop.orders.PlaceOrder(fresh(request)))
        except grpc.RpcError as error:
            return placed, refusal_of(error).reason
    raise AssertionError("the disk never got full")


def refused_reasons(shop: Shop, request: orders_pb2.PlaceOrderRequest) -> set[str]:
    """The reasons why one order is refused again and again."""
    reasons = set()
    for _ in range(REFUSALS):
        with pytest.raises(grpc.RpcError) as refused:
            shop.orders.PlaceOrder(request)
        reasons.add(refusal_of(refused.value).reason)
    return reasons


def check_reads(shop: Shop, placed: list[orders_pb2.Order]) -> None:
    for order in placed[-100:]:
        assert shop.orders.GetOrder(orders_pb2.GetOrderRequest(name=order.name)) == order
    sku = placed[0].lines[0].sku
    assert shop.level(sku).allocated == len(placed)


def check_recovery(server: ServerProcess, shop: Shop, placed: list[orders_pb2.Order], refused) -> None:
    """The order that was refused is placed now, once; nothing is lost; the process is the same."""
    placed.append(shop.orders.PlaceOrder(refused))
    assert shop.orders.PlaceOrder(refused) == placed[-1]
    check_reads(shop, placed)
    assert server.process.poll() is None
    server.kill()
    server.start()
    with open_shop(server) as reopened:
        check_reads(reopened, placed)
    verify(server)


def test_full_disk_refuses_writes_and_recovers_without_a_restart(small_disk: Path, make_server: MakeServer):
    server = make_server(data_dir=small_disk / "data")
    with open_shop(server) as shop:
        request = new_request(shop)
        filler = fill(small_disk, but_bytes=ROOM_BYTES)
        placed, reason = order_until_refused(shop, request)
        assert reason == "STORAGE_FULL"
        refused = fresh(request)
        assert refused_reasons(shop, refused) == {"STORAGE_FULL"}
        check_reads(shop, placed)
        filler.unlink()
        check_recovery(server, shop, placed, refused)


def test_disk_that_is_full_to_the_last_byte_does_not_end_the_server(small_disk: Path, make_server: MakeServer):
    server = make_server(data_dir=small_disk / "data")
    with open_shop(server) as shop:
        request = new_request(shop)
        placed = [shop.orders.PlaceOrder(fresh(request))]
        filler = fill(small_disk, but_bytes=0)
        logged_bytes = server.log_file.stat().st_size
        for _ in range(100):
            check_reads(shop, placed)
        assert server.log_file.stat().st_size - logged_bytes <= PAGE_BYTES
        filler.unlink()
        check_recovery(server, shop, placed, fresh(request))


def test_limit_on_file_sizes_refuses_writes_and_recovers_without_a_restart(make_server: MakeServer):
    server = make_server()
    with open_shop(server) as shop:
        request = new_request(shop)
        wal = Path(f"{server.database.path}-wal")
        unlimited = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        limit = wal.stat().st_size + ROOM_BYTES
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (limit, unlimited[1]))
        placed, reason = order_until_refused(shop, request)
        assert reason in {"STORAGE_FULL", "STORAGE_UNAVAILABLE"}
        refused = fresh(request)
        assert refused_reasons(shop, refused) <= {"STORAGE_FULL", "STORAGE_UNAVAILABLE"}
        check_reads(shop, placed)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)
        check_recovery(server, shop, placed, refused)
