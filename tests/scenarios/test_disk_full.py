"""A full disk: writes fail with a reason, acknowledged writes survive, and freed space ends the failures.

Reads go on, also for new callers. One test mounts a file system of a few MB, if the user may do so. Another test limits
the file size, which the kernel reports with a different error.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from storekeep.client import Storekeep
from storekeep.server.jobs.erasures import CLEAR_INTERVAL_S
from storekeep.v1 import orders_pb2
from tests.conftest import MakeServer
from tests.support.buyers import open_shop, verify
from tests.support.processes import ServerProcess, run_command
from tests.support.refusals import parse_refusal
from tests.support.shops import Shop, new_request_id

pytestmark = pytest.mark.engine("sqlite", reason="PostgreSQL has its own disk and handles a full one itself")
DISK_MIB = 8
FREE_BYTES = 256 * 1024
ORDERS_MAX = 2_000
"""Far more orders than fit into `FREE_BYTES`."""
REFUSALS = 10
PAGE_BYTES = 4096
"""The growth limit of a file on a full tmpfs: the rest of its last page."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of a few MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, *, except_bytes: int) -> Path:
    """Fill a file system except for the given number of bytes."""
    filler = folder / "filler"
    disk = os.statvfs(folder)
    filler.write_bytes(bytes(disk.f_bavail * disk.f_frsize - except_bytes))
    return filler


def top_up(filler: Path) -> None:
    """Fill what has become free since."""
    disk = os.statvfs(filler.parent)
    with filler.open("ab") as file:
        file.write(bytes(disk.f_bavail * disk.f_frsize))


def new_request(shop: Shop) -> orders_pb2.PlaceOrderRequest:
    """Build a request for an order with a long note."""
    return shop.order_request((shop.variant(stock=1_000_000).sku, 1), note="x" * 1_500)


def copy_with_new_id(request: orders_pb2.PlaceOrderRequest) -> orders_pb2.PlaceOrderRequest:
    """Return a copy of the request with a new request id."""
    again = orders_pb2.PlaceOrderRequest()
    again.CopyFrom(request)
    again.request_id = new_request_id()
    return again


def order_until_refused(shop: Shop, request: orders_pb2.PlaceOrderRequest) -> tuple[list[orders_pb2.Order], str]:
    """Place orders until one fails. Return the acknowledged orders and the reason of the failure."""
    placed: list[orders_pb2.Order] = []
    for _ in range(ORDERS_MAX):
        try:
            placed.append(shop.orders.PlaceOrder(copy_with_new_id(request)))
        except grpc.RpcError as error:
            return placed, parse_refusal(error).reason
    raise AssertionError("the disk never got full")


def list_refusal_reasons(shop: Shop, request: orders_pb2.PlaceOrderRequest) -> set[str]:
    """Send a request repeatedly and return the reasons of its failures."""
    reasons = set()
    for _ in range(REFUSALS):
        with pytest.raises(grpc.RpcError) as refused:
            shop.orders.PlaceOrder(request)
        reasons.add(parse_refusal(refused.value).reason)
    return reasons


def check_reads(shop: Shop, placed: list[orders_pb2.Order]) -> None:
    for order in placed[-100:]:
        assert shop.orders.GetOrder(orders_pb2.GetOrderRequest(name=order.name)) == order
    sku = placed[0].lines[0].sku
    assert shop.level(sku).allocated == len(placed)


def check_new_callers(server: ServerProcess, placed: list[orders_pb2.Order]) -> None:
    """Check that an API key still opens reads, also once no session can be written, which needs less room."""
    with Storekeep(server.address, api_key="") as nobody:
        tokens = nobody.auth.issue_token(server.admin_key)
        for _ in range(ORDERS_MAX):
            if not tokens.refresh_token:
                break
            tokens = nobody.auth.issue_token(server.admin_key)
    assert not tokens.refresh_token
    for caller in (
        Storekeep(server.address, tokens=tokens),
        Storekeep(server.address, api_key=server.admin_key),
    ):
        with caller:
            assert caller.orders.get(placed[-1].name).number == placed[-1].number


def check_recovery(server: ServerProcess, shop: Shop, placed: list[orders_pb2.Order], refused) -> None:
    """Check that the failed order is now placed once, that no order is lost, and that the process still runs."""
    placed.append(shop.orders.PlaceOrder(refused))
    assert shop.orders.PlaceOrder(refused) == placed[-1]
    check_reads(shop, placed)
    assert server.process.poll() is None
    server.kill()
    server.start()
    with open_shop(server) as reopened:
        check_reads(reopened, placed)
    verify(server)


def test_doctor_of_a_full_disk_advises_no_restore(engine: str, small_disk: Path):
    data_dir = small_disk / "data"
    assert run_command("migrate", data_dir=data_dir).returncode == 0
    fill(small_disk, except_bytes=0)
    found = find_errors(data_dir)
    assert found["database"]["remedy"] == "make room on its disk, or remount it for writing"
    assert "0 MiB are free" in found["disk"]["what"]


def test_read_only_disk_is_named_by_doctor_and_backup(engine: str, small_disk: Path):
    data_dir = small_disk / "data"
    assert run_command("migrate", data_dir=data_dir).returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    found = find_errors(data_dir)
    assert found["database"]["remedy"] == "make room on its disk, or remount it for writing"
    assert found["files"]["what"] == f"{data_dir} is on a read-only file system"
    refused = run_command("backup", str(small_disk.parent / "copy.db"), data_dir=data_dir)
    assert (refused.returncode, refused.stderr.partition("cannot be ")[2]) == (
        1,
        "copied: unable to open database file\n",
    )


def find_errors(data_dir: Path) -> dict[str, dict[str, str]]:
    """Return the last error of each area that `doctor` reports."""
    findings = json.loads(run_command("doctor", "--json", data_dir=data_dir).stdout)["findings"]
    return {finding["area"]: finding for finding in findings if finding["severity"] == "ERROR"}


def test_full_disk_refuses_writes_and_recovers_without_a_restart(small_disk: Path, make_server: MakeServer):
    server = make_server(data_dir=small_disk / "data")
    with open_shop(server) as shop:
        request = new_request(shop)
        filler = fill(small_disk, except_bytes=FREE_BYTES)
        placed, reason = order_until_refused(shop, request)
        assert reason == "STORAGE_FULL"
        refused = copy_with_new_id(request)
        assert list_refusal_reasons(shop, refused) == {"STORAGE_FULL"}
        check_reads(shop, placed)
        check_new_callers(server, placed)
        filler.unlink()
        check_recovery(server, shop, placed, refused)


def test_disk_that_is_full_to_the_last_byte_does_not_end_the_server(small_disk: Path, make_server: MakeServer):
    server = make_server(data_dir=small_disk / "data")
    with open_shop(server) as shop:
        request = new_request(shop)
        placed = [shop.orders.PlaceOrder(copy_with_new_id(request))]
        filler = fill(small_disk, except_bytes=0)
        wait_s = time.monotonic() + 3 * CLEAR_INTERVAL_S
        while time.monotonic() < wait_s:  # after its start, the server empties the write-ahead log once
            top_up(filler)
            time.sleep(0.05)
        logged_bytes = server.log_file.stat().st_size
        for _ in range(100):
            check_reads(shop, placed)
        assert server.log_file.stat().st_size - logged_bytes <= PAGE_BYTES
        filler.unlink()
        check_recovery(server, shop, placed, copy_with_new_id(request))


def test_limit_on_file_sizes_refuses_writes_and_recovers_without_a_restart(make_server: MakeServer):
    server = make_server()
    with open_shop(server) as shop:
        request = new_request(shop)
        wal = Path(f"{server.database.path}-wal")
        unlimited = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        limit = wal.stat().st_size + FREE_BYTES
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (limit, unlimited[1]))
        placed, reason = order_until_refused(shop, request)
        assert reason in {"STORAGE_FULL", "STORAGE_UNAVAILABLE"}
        refused = copy_with_new_id(request)
        assert list_refusal_reasons(shop, refused) <= {"STORAGE_FULL", "STORAGE_UNAVAILABLE"}
        check_reads(shop, placed)
        check_new_callers(server, placed)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)
        check_recovery(server, shop, placed, refused)
