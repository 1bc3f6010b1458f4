"""The cost of a refused request is bounded by its size, for every RPC and the worst request of each shape.

Costs are the kernel's figures for a real server process, so other load on the machine does not change them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from storekeep.server.interceptors.wire_bounds import WireBounds
from storekeep.server.transport.contract import read_contract
from storekeep.server.transport.errors import MalformedMessage
from storekeep.v1 import auth_pb2, customers_pb2, orders_pb2, products_pb2
from tests.support.databases import new_database
from tests.support.hostile.long_texts import (
    SCRIPTS,
    Write,
    build_address,
    build_customer,
    build_product,
    build_variant,
)
from tests.support.hostile.usage import measure_slowness, read_cpu_ms
from tests.support.patience import report_progress
from tests.support.processes import ServerProcess
from tests.support.refusals import parse_refusal, refused
from tests.support.shops import Shop, new_id
from tests.support.wire_shapes import Shape, build_shapes, fill_message, tag

METHODS = read_contract().methods
CPU_MAX_MS = 50.0
MEMORY_MAX_KIB = 32 * 1024
TRIES = 30
"""An expensive request is sent again, because the first call of a kind fills caches, and because other load on a shared
core inflates the CPU time of a call. The lowest cost counts."""
RATE_FREE = {"rate_limits_per_address": "public=0", "failed_credentials_burst": "1000000"}
ATTACK_S = 2.0
WRITES_MIN = 2
FLOOD = 8

pytestmark = pytest.mark.engine("sqlite", reason="what is refused before the database is the same on each")


@pytest.fixture(scope="module")
def target(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Start a server without rate limits, so that each request is validated."""
    folder = tmp_path_factory.mktemp("target")
    database = new_database(engine, folder)
    process = ServerProcess(folder, database=database, log_level="ERROR", **RATE_FREE)
    yield process
    process.kill()
    database.remove()


@pytest.fixture(scope="module")
def own_shop(target: ServerProcess) -> Iterator[Shop]:
    """Sign in as the administrator of that server."""
    with grpc.insecure_channel(target.address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        yield Shop(channel, api_key=target.admin_key)


def read_memory_kib(process_id: int, *, peak: bool) -> int:
    """Return the resident memory of a process in KiB, or its peak since `forget_peak`."""
    name = "VmHWM" if peak else "VmRSS"
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def forget_peak(process_id: int) -> None:
    """Reset the peak memory to the current memory (proc(5))."""
    Path(f"/proc/{process_id}/clear_refs").write_text("5")


def send(shop: Shop, path: str, raw: bytes) -> str:
    """Send raw bytes; return the error reason, or OK."""
    try:
        shop.send(path, raw, timeout=60)
    except grpc.RpcError as error:
        return parse_refusal(error).reason
    return "OK"


def measure_costs(server: ServerProcess, shop: Shop, path: str, raw: bytes) -> tuple[float, int, str]:
    """Return the CPU in ms of an idle host, the memory in KiB and the outcome of one call."""
    process_id = server.process.pid
    forget_peak(process_id)
    memory, cpu = read_memory_kib(process_id, peak=False), read_cpu_ms(process_id)
    reason = send(shop, path, raw)
    cpu, memory = read_cpu_ms(process_id) - cpu, read_memory_kib(process_id, peak=True) - memory
    return cpu if cpu <= CPU_MAX_MS else cpu / measure_slowness(), memory, reason


def measure_least_costs(server: ServerProcess, shop: Shop, path: str, shape: Shape) -> tuple[float, int, str]:
    """Return the lowest costs of a few tries; mostly one is enough."""
    report_progress()
    cpu, memory, reason = measure_costs(server, shop, path, shape.raw)
    for _ in range(TRIES):
        if cpu <= CPU_MAX_MS and memory <= MEMORY_MAX_KIB:
            break
        again = measure_costs(server, shop, path, shape.raw)
        cpu, memory = min(cpu, again[0]), min(memory, again[1])
    return cpu, memory, reason


def iterate_shapes() -> Iterator[tuple[str, Shape]]:
    """Yield each shape of each RPC; only once for a field that many requests have at the same path."""
    seen: set[bytes | tuple[str, str]] = set()
    for path, method in sorted(METHODS.items()):
        for number, shape in enumerate(build_shapes(method)):
            key = (path, shape.name) if number < 1 or shape.name.startswith("empty ") else shape.raw
            if key not in seen:
                seen.add(key)
                yield path, shape


def test_every_rpc_refuses_every_shape_at_a_bounded_cost(target: ServerProcess, own_shop: Shop):
    over = {}
    for path, shape in iterate_shapes():
        cpu, memory, reason = measure_least_costs(target, own_shop, path, shape)
        if cpu > CPU_MAX_MS or memory > MEMORY_MAX_KIB or reason in ("INTERNAL", "UNKNOWN"):
            over[path, shape.name] = f"{cpu:.0f} ms, {memory} KiB, {reason}"
    assert not over


def build_creations(_shop: Shop, write: Write) -> dict[str, Callable[[], Any]]:
    """Return functions that build a new request with the longest texts, by RPC."""
    return {
        "CreateCustomer": lambda: customers_pb2.CreateCustomerRequest(customer=build_customer(write)),
        "CreateProduct": lambda: products_pb2.CreateProductRequest(product=build_product(write)),
    }


def build_changes(shop: Shop, write: Write) -> dict[str, Callable[[], Any]]:
    """Return the same of RPCs that change a resource which has such texts, or add to it."""
    customer = shop.customers.CreateCustomer(customers_pb2.CreateCustomerRequest(customer=build_customer(write)))
    product = shop.products.CreateProduct(products_pb2.CreateProductRequest(product=build_product(write)))
    order = shop.order_request()

    def update_customer() -> Any:
        changed = build_customer(write)
        changed.name = customer.name
        return customers_pb2.UpdateCustomerRequest(customer=changed)

    def update_product() -> Any:
        changed = build_product(write)
        changed.name = product.name
        return products_pb2.UpdateProductRequest(product=changed)

    def place_order() -> Any:
        placed = orders_pb2.PlaceOrderRequest(shipping_address=build_address(write), note=write(1_000))
        placed.MergeFrom(order)
        return placed

    return {
        "UpdateCustomer": update_customer,
        "UpdateProduct": update_product,
        "CreateVariant": lambda: products_pb2.CreateVariantRequest(parent=product.name, variant=build_variant(write)),
        "PlaceOrder": place_order,
    }


@pytest.mark.parametrize("build", [build_creations, build_changes])
@pytest.mark.parametrize("script", SCRIPTS)
def test_longest_texts_of_every_script_are_searched_at_a_bounded_cost(
    target: ServerProcess, own_shop: Shop, script: str, build: Callable[[Shop, Write], dict[str, Callable[[], Any]]]
):
    over = {}
    for rpc, build_request in build(own_shop, SCRIPTS[script]).items():
        path = next(path for path in METHODS if path.endswith(f"/{rpc}"))
        for _ in range(TRIES):
            report_progress()
            cpu, memory, reason = measure_costs(target, own_shop, path, build_request().SerializeToString())
            assert reason == "OK"
            if cpu <= CPU_MAX_MS and memory <= MEMORY_MAX_KIB:
                break
        else:
            over[rpc] = f"{cpu:.0f} ms, {memory} KiB"
    assert not over


def test_batch_with_too_many_search_words_is_refused_before_it_costs_much(target: ServerProcess, own_shop: Shop):
    customers = [build_customer(SCRIPTS["han"], addresses=2) for _ in range(90)]
    items = [customers_pb2.CreateCustomerRequest(customer=one, customer_id=new_id()) for one in customers]
    shape = Shape("batch", customers_pb2.BatchCreateCustomersRequest(requests=items).SerializeToString())
    path = "/storekeep.v1.CustomerService/BatchCreateCustomers"
    cpu, memory, reason = measure_least_costs(target, own_shop, path, shape)
    assert (cpu <= CPU_MAX_MS, memory <= MEMORY_MAX_KIB, reason) == (True, True, "MESSAGE_TOO_LARGE")


@pytest.mark.fast_path  # without it, the thread that writes also parses requests
def test_write_goes_on_while_bombs_come_in(target: ServerProcess, own_shop: Shop):
    bombs = [
        ("/storekeep.v1.AuthService/TestPermissions", fill_message(tag(1, 2) + b"\0")),
        ("/storekeep.v1.OrderService/PlaceOrder", fill_message(tag(2, 2) + b"\0")),
    ]
    memory = read_memory_kib(target.process.pid, peak=False)
    forget_peak(target.process.pid)
    ended = threading.Event()

    def attack(number: int) -> set[str]:
        reasons = set()
        while not ended.is_set():
            reasons.add(send(own_shop, *bombs[number % 2]))
        return reasons

    with ThreadPoolExecutor(FLOOD) as pool:
        attacks = [pool.submit(attack, number) for number in range(FLOOD)]
        written, end_s = 0, time.monotonic() + ATTACK_S
        try:
            while written < WRITES_MIN or time.monotonic() < end_s:
                own_shop.category()
                written += 1
        finally:
            ended.set()
        reasons = set().union(*(attack.result() for attack in attacks))
    assert "INVALID_FIELD" in reasons
    assert reasons <= {"INVALID_FIELD", "OVERLOADED"}
    assert read_memory_kib(target.process.pid, peak=True) - memory < FLOOD * MEMORY_MAX_KIB


# -- refused and accepted requests


def build_lines(count: int) -> bytes:
    lines = [orders_pb2.PlaceOrderLine(sku="TEA", quantity=1)] * count
    return orders_pb2.PlaceOrderRequest(customer="customers/x", currency_code="EUR", lines=lines).SerializeToString()


PLACE = "/storekeep.v1.OrderService/PlaceOrder"
EDIT = "/storekeep.v1.OrderService/ApplyOrderEdit"


def test_as_many_elements_as_the_contract_allows_are_taken(own_shop: Shop):
    assert send(own_shop, PLACE, build_lines(500)) == "CUSTOMER_NOT_FOUND"


@pytest.mark.parametrize("count", [501, 60_000])
def test_more_elements_are_refused_and_their_field_is_named(own_shop: Shop, count: int):
    with refused("INVALID_FIELD") as refusal:
        own_shop.send(PLACE, build_lines(count), timeout=60)
    assert dict(refusal.violations) == {"lines": "must have at most 500 items"}


def test_elements_count_together_over_messages_that_are_merged(own_shop: Shop):
    line = orders_pb2.PlaceOrderLine(sku="TEA", quantity=1)
    half = orders_pb2.ApplyOrderEditRequest(edit=orders_pb2.OrderEdit(added_lines=[line] * 300)).SerializeToString()
    name = orders_pb2.ApplyOrderEditRequest(name="orders/1").SerializeToString()
    with refused("INVALID_FIELD") as refusal:
        own_shop.send(EDIT, name + half + half, timeout=60)
    assert dict(refusal.violations) == {"edit.added_lines": "must have at most 500 items"}


def test_few_elements_too_many_are_refused_in_a_small_request_too(own_shop: Shop):
    request = products_pb2.CreateVariantRequest(parent="products/p")
    request.variant.sku = "TEA"
    for _ in range(51):
        request.variant.prices.add(currency_code="EUR", units=1)
    with refused("INVALID_FIELD") as refusal:
        own_shop.products.CreateVariant(request)
    assert dict(refusal.violations) == {"variant.prices": "must have at most 50 items"}


def test_at_most_twenty_violations_are_told(own_shop: Shop):
    lines = [orders_pb2.HistoricOrderLine() for _ in range(10)]
    request = orders_pb2.ImportOrdersRequest(orders=[orders_pb2.HistoricOrder(lines=lines) for _ in range(100)])
    with refused("INVALID_FIELD") as refusal:
        own_shop.orders.ImportOrders(request)
    assert 1 < len(refusal.violations) <= 20
    assert "orders[0].number" in refusal.violations


def test_violation_behind_many_good_elements_is_found(own_shop: Shop):
    lines = [orders_pb2.PlaceOrderLine(sku="TEA", quantity=1)] * 499
    request = orders_pb2.PlaceOrderRequest(customer="customers/x", currency_code="EUR", lines=lines)
    request.lines.add(sku="TEA")
    with refused("INVALID_FIELD") as refusal:
        own_shop.orders.PlaceOrder(request)
    assert list(refusal.violations) == ["lines[499].quantity"]


def test_update_hears_of_what_it_changes_behind_much_that_it_does_not(own_shop: Shop):
    product = own_shop.product()
    changed = products_pb2.Product(name=product.name, display_name="", category="nonsense")
    for number in range(64):
        changed.labels[f"Not A Label {number}"] = "x"
    request = products_pb2.UpdateProductRequest(product=changed)
    request.update_mask.paths.append("display_name")
    with refused("INVALID_FIELD") as refusal:
        own_shop.products.UpdateProduct(request)
    assert list(refusal.violations) == ["product.display_name"]


@pytest.mark.parametrize(("seconds", "nanos"), [(0, 10**9), (0, -1), (1, -1), (-1, 1), (2**62, 0)])
def test_duration_that_is_none_is_refused(own_shop: Shop, seconds: int, nanos: int):
    request = orders_pb2.GetOrderRequest(name="orders/1")
    request.max_staleness.seconds, request.max_staleness.nanos = seconds, nanos
    with refused("INVALID_FIELD") as refusal:
        own_shop.orders.GetOrder(request)
    assert list(refusal.violations) == ["max_staleness"]


@pytest.mark.parametrize(("seconds", "nanos"), [(1_900_000_000, 10**9), (1_900_000_000, -1)])
def test_timestamp_that_is_none_is_refused(own_shop: Shop, seconds: int, nanos: int):
    request = auth_pb2.CreateApiKeyRequest(parent=own_shop.subject)
    request.api_key.expire_time.seconds, request.api_key.expire_time.nanos = seconds, nanos
    with refused("INVALID_FIELD") as refusal:
        own_shop.auth.CreateApiKey(request)
    assert list(refusal.violations) == ["api_key.expire_time"]


def test_varint_of_more_than_ten_bytes_is_refused_and_not_read_on():
    """The rest of the message is valid; reading a varint of 1 MB took 45 ms."""
    padding = b"\x7a\xd0\x0f" + bytes(2_000)
    bounds = WireBounds(products_pb2.GetProductRequest.DESCRIPTOR)
    bounds.check(b"\x78" + b"\xff" * 9 + b"\x01" + padding)
    with pytest.raises(MalformedMessage):
        bounds.check(b"\x78" + b"\xff" * 10 + b"\x01" + padding)
