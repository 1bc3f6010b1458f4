"""Several workers on one SQLite database: one leader writes, all serve calls, and callers see no difference."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator

import grpc
import pytest
from google.rpc import status_pb2

from storekeep.client import ApiKey, NotAuthenticated, PermissionDenied, ServiceAccount, Storekeep, StorekeepError
from storekeep.server.interceptors.request_log import PEER
from storekeep.v1 import auth_pb2, customers_pb2, inventory_pb2, orders_pb2
from tests.support.clusters import Cluster, await_condition
from tests.support.processes import ServerProcess, run_command
from tests.support.refusals import parse_refusal
from tests.support.shops import MAIN, Shop, new_request_id

WORKERS = 3
POLL_S = 0.5
REPLAYED = ("storekeep-replayed", "true")
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    server = ServerProcess(
        tmp_path_factory.mktemp("cluster"),
        arguments=("--workers", str(WORKERS)),
        metrics_listen="127.0.0.1:0",
        revocation_poll_s=str(POLL_S),
    )
    yield Cluster(server)
    server.kill()


@pytest.fixture(scope="module")
def writer(cluster: Cluster) -> Iterator[Shop]:
    """The administrator, connected to the leader."""
    with cluster.shop(cluster.writer()) as shop:
        yield shop


@pytest.fixture(scope="module")
def reader(cluster: Cluster) -> Iterator[Shop]:
    """The administrator, connected to another worker."""
    with cluster.shop(cluster.reader()) as shop:
        yield shop


def lines_of_call(cluster: Cluster, request_id: str) -> list[dict]:
    """Return the log lines of one call. A later call on each worker ends the wait, because each writes in order."""
    for number in range(WORKERS):
        with cluster.shop(number) as shop:
            marker = new_request_id()
            shop.auth.WhoAmI(auth_pb2.WhoAmIRequest(), metadata=(("x-request-id", marker),))
            cluster.server.await_log(marker)
    lines = [json.loads(line) for line in cluster.server.log().splitlines()]
    return [line for line in lines if line.get("request_id") == request_id]


# -- changes


def test_change_on_a_reader_is_seen_by_all_at_once(cluster: Cluster, reader: Shop):
    name = reader.customer(display_name="Somebody").name
    for number in range(WORKERS):
        with cluster.shop(number) as shop:
            got = shop.customers.GetCustomer(customers_pb2.GetCustomerRequest(name=name))
            assert got.display_name == "Somebody"


def test_change_on_a_reader_is_logged_once_by_the_writer_with_id_trace_and_deadline(cluster: Cluster, reader: Shop):
    request = customers_pb2.CreateCustomerRequest(customer=customers_pb2.Customer(display_name="Somebody"))
    metadata = (("x-request-id", "call-17"), ("traceparent", f"00-{TRACE_ID}-00f067aa0ba902b7-01"))
    reader.customers.CreateCustomer(request, metadata=metadata, timeout=60)
    (line,) = lines_of_call(cluster, "call-17")
    assert line["worker"] == cluster.writer()
    assert (line["code"], line["caller"], line["trace_id"]) == ("OK", "serviceAccounts/admin", TRACE_ID)
    assert 30_000 < line["deadline_left_ms"] < 61_000  # gRPC rounds timeouts up on each way


def refused_order(shop: Shop, request: orders_pb2.PlaceOrderRequest) -> tuple:
    """Return the complete error of a rejected order, and the call's id in it."""
    with pytest.raises(grpc.RpcError) as refused:
        shop.orders.PlaceOrder(request, metadata=(("x-request-id", "call-18"),))
    trailers = dict(refused.value.trailing_metadata())
    status = status_pb2.Status.FromString(trailers.pop("grpc-status-details-bin"))
    return refused.value.code(), refused.value.details(), trailers, status


def test_refusal_on_a_reader_is_the_one_of_the_writer_in_every_detail(writer: Shop, reader: Shop):
    request = writer.order_request((writer.variant(stock=1).sku, 5))
    assert refused_order(reader, request) == refused_order(writer, request)
    with pytest.raises(grpc.RpcError) as refused:
        reader.orders.PlaceOrder(request)
    assert parse_refusal(refused.value).reason == "OUT_OF_STOCK"


def test_refused_token_on_a_reader_is_the_writers_refusal(reader: Shop):
    with pytest.raises(grpc.RpcError) as refused:
        reader.bare_channel.unary_unary("/storekeep.v1.OrderService/PlaceOrder")(b"", timeout=60)
    assert parse_refusal(refused.value).reason == "UNAUTHENTICATED"


def test_retry_on_another_worker_has_one_effect(writer: Shop, reader: Shop):
    request = writer.order_request(request_id=new_request_id())
    first = reader.orders.PlaceOrder(request)
    assert writer.orders.PlaceOrder(request) == first
    assert reader.orders.PlaceOrder(request) == first
    assert reader.level(first.lines[0].sku).allocated == 1


def test_retry_on_another_worker_is_marked_logged_and_counted(cluster: Cluster, writer: Shop, reader: Shop):
    request = writer.order_request(request_id=new_request_id())
    for number, shop in enumerate((reader, reader, writer)):
        _, call = shop.orders.PlaceOrder.with_call(request, metadata=(("x-request-id", f"replay-{number}"),))
        assert (REPLAYED in list(call.trailing_metadata())) == (number > 0)
    for number in range(3):
        (line,) = lines_of_call(cluster, f"replay-{number}")
        assert line.get("replayed") == (True if number else None)
    assert cluster.metrics()["storekeep_calls_replayed_total"][()] >= 2


def test_deadline_holds_on_the_way_to_the_writer(cluster: Cluster, reader: Shop):
    request = reader.order_request()
    with cluster.server.database.write_lock():
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as late:
            reader.orders.PlaceOrder(request, timeout=0.5)
        took_s = time.monotonic() - began
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert took_s < 30


def test_change_that_was_forwarded_is_not_forwarded_again(reader: Shop):
    """Only other workers can reach the socket on which calls count as forwarded."""
    request = inventory_pb2.AdjustStockRequest(name=f"{MAIN}/stockLevels/NONE", quantity_delta=1)
    with pytest.raises(grpc.RpcError) as refused:
        reader.inventory.AdjustStock(request, metadata=((PEER, "ipv4:192.0.2.1:1"),))
    refusal = parse_refusal(refused.value)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
    assert refusal.retry_after_s == 0.1


def test_caller_cannot_say_that_its_call_was_forwarded(cluster: Cluster):
    request_ids = [new_request_id() for _ in range(2 * WORKERS)]
    for request_id in request_ids:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(cluster.server.address, options=options) as channel:
            shop = Shop(channel, api_key=cluster.server.admin_key)
            claims = ((PEER, "ipv4:192.0.2.1:1"), ("x-storekeep-handed-on", "1"), ("x-request-id", request_id))
            shop.customers.CreateCustomer(
                customers_pb2.CreateCustomerRequest(customer={"display_name": "Claims"}), metadata=claims
            )
    lines = [line for request_id in request_ids for line in lines_of_call(cluster, request_id)]
    assert len(lines) == len(request_ids)
    assert not any("192.0.2.1" in line["peer"] for line in lines)


def test_large_reply_comes_back_whole(reader: Shop):
    customer = customers_pb2.Customer(display_name="x" * 100, labels={f"k{n}": "v" * 60 for n in range(60)})
    made = reader.customers.CreateCustomer(customers_pb2.CreateCustomerRequest(customer=customer))
    assert made.labels == customer.labels


# -- access


def get_refusal(caller: Storekeep) -> type[StorekeepError] | None:
    """Return for what kind of reason a caller may not read; None if it may."""
    try:
        list(caller.products.list())
    except StorekeepError as error:
        return next(kind for kind in (NotAuthenticated, PermissionDenied) if isinstance(error, kind))
    return None


def test_revocation_and_role_change_reach_a_reader_by_polls(cluster: Cluster):
    with Storekeep(cluster.server.address, api_key=cluster.server.admin_key) as admin:
        account = admin.auth.create_service_account(ServiceAccount(display_name="Shop"))
        key = admin.auth.create_api_key(account.name, ApiKey(display_name="Key", scopes=["*"]))
        with Storekeep(cluster.address(cluster.reader()), api_key=key.secret) as caller:
            assert get_refusal(caller) is PermissionDenied
            account.roles.append("roles/viewer")
            admin.auth.update_service_account(account, update_mask=["roles"])
            await_condition(lambda: get_refusal(caller) is None, cluster.server.log)
            admin.auth.revoke_api_key(key.api_key.name)
            await_condition(lambda: get_refusal(caller) is NotAuthenticated, cluster.server.log)


def test_new_signing_key_is_known_to_all_at_once(cluster: Cluster, writer: Shop):
    writer.auth.RotateSigningKey(auth_pb2.RotateSigningKeyRequest())
    for number in range(WORKERS):
        with cluster.shop(number) as shop:
            assert shop.subject == "serviceAccounts/admin"


# -- status


def calls_of(cluster: Cluster, method: str) -> float:
    """Return the number of calls of a method in the metrics."""
    calls = cluster.metrics().get("storekeep_calls_total", {})
    return sum(value for (_, counted, _), value in calls.items() if counted.endswith(method))


def test_metrics_of_all_workers_add_up(cluster: Cluster):
    before = calls_of(cluster, "/WhoAmI"), calls_of(cluster, "/AdjustStock")
    refused = 0
    for number in range(WORKERS):
        with cluster.shop(number) as shop:  # calls WhoAmI
            for _ in range(number + 1):
                request = inventory_pb2.AdjustStockRequest(name=f"{MAIN}/stockLevels/NONE", quantity_delta=1)
                with pytest.raises(grpc.RpcError):
                    shop.inventory.AdjustStock(request)
                refused += 1
    assert calls_of(cluster, "/WhoAmI") == before[0] + WORKERS
    assert calls_of(cluster, "/AdjustStock") == before[1] + refused
    metrics = cluster.metrics()
    labels = ("NOT_FOUND", "storekeep.v1.InventoryService/AdjustStock", "SKU_NOT_FOUND")
    assert metrics["storekeep_calls_total"][labels] >= refused
    assert metrics["storekeep_call_duration_seconds_count"][labels[1:2]] == calls_of(cluster, "/AdjustStock")
    assert metrics["storekeep_store_writes_total"][()] >= metrics["storekeep_store_commits_total"][()] > 0
    assert set(metrics["storekeep_calls_in_flight"].values()) == {0.0}


def test_metrics_tell_of_each_process(cluster: Cluster):
    metrics = cluster.metrics()
    each = {(str(number),) for number in range(WORKERS)}
    assert metrics["storekeep_worker_up"] == dict.fromkeys(each, 1.0)
    assert sum(metrics["storekeep_worker_writes"].values()) == 1
    assert metrics["storekeep_process_cpu_seconds_total"].keys() == each | {("supervisor",)}
    assert all(size > 10_000_000 for size in metrics["storekeep_process_resident_memory_bytes"].values())
    assert "storekeep_build_info" in metrics


@pytest.mark.parametrize(
    ("path", "status"),
    [("/readyz", 200), ("/healthz", 200), ("/readyz/2", 200), ("/healthz/0", 200), ("/readyz/7", 404), ("/", 404)],
)
def test_page_is_there_or_not(cluster: Cluster, path: str, status: int):
    assert cluster.page(path)[0] == status


def test_healthcheck_asks_each_worker(cluster: Cluster):
    asked = run_command("healthcheck", "--each-worker", data_dir=cluster.server.data_dir, listen=cluster.server.address)
    expected = [f"{cluster.server.address}: SERVING", *(f"worker {number}: SERVING" for number in range(WORKERS))]
    assert (asked.returncode, asked.stdout.splitlines()) == (0, expected)


def test_log_lines_are_whole_and_name_their_worker(cluster: Cluster):
    lines = [json.loads(line) for line in cluster.server.log().splitlines()]
    assert {line["worker"] for line in lines if line["message"] == "rpc"} == set(range(WORKERS))
    assert {line["worker"] for line in lines if line["message"] == "listening"} == set(range(WORKERS))


# -- processes


def test_workers_stay_on_cores_of_their_own(cluster: Cluster):
    cores = sorted(os.sched_getaffinity(0))
    for worker in cluster.workers():
        assert os.sched_getaffinity(worker["process_id"]) == {cores[worker["number"] % len(cores)]}


def test_sockets_of_workers_are_their_owners_only(cluster: Cluster):
    folder = cluster.server.data_dir / "workers"
    sockets = [path for path in folder.iterdir() if path.is_socket() and not path.is_symlink()]
    assert len(sockets) == WORKERS
    assert {stat.S_IMODE(path.stat().st_mode) for path in sockets} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
