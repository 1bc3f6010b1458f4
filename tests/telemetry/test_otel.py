"""OpenTelemetry: traces and metrics as a real collector receives them, and a server that no collector can slow down."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from storekeep.v1 import customers_pb2, orders_pb2
from tests.conftest import MakeServer
from tests.support.clusters import Cluster
from tests.support.collectors import Collector, read_attributes, run_collector
from tests.support.concurrent_clients import call_at_once, open_shops
from tests.support.gateways import GatewayProcess
from tests.support.processes import ServerProcess, run_command
from tests.support.shops import Shop

PLACE_ORDER = "storekeep.v1.OrderService/PlaceOrder"
pytestmark = pytest.mark.engine("sqlite", reason="the store has no part in most of it")
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE_ID}-{PARENT_ID}-01"
NOT_SAMPLED = f"00-{TRACE_ID}-{PARENT_ID}-00"
TRACED_CLIENT = """
import sys
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
"""
BUY = """
import sys
from storekeep.client import Storekeep

with Storekeep(sys.argv[1], api_key=sys.argv[2]) as client:
    client.orders.place(customer="customers/jonas-lind", lines=[("STRAINER", 1)], currency_code="EUR")
"""
COUNT_MODULES = "print(sum(name.partition('.')[0] == 'opentelemetry' for name in sys.modules))"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with run_collector() as made:
        yield made


def otel_variables(address: str, **others: str) -> dict[str, str]:
    """Return the variables of a process that exports to an address at once."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": address,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_METRIC_EXPORT_INTERVAL": "100",
        **others,
    }


def find_calls(spans: list[Any], name: str) -> list[Any]:
    return [span for span in spans if span.name == name]


def list_links(span: Any) -> list[bytes]:
    return [link.span_id for link in span.links]


def place_order(shop: Shop, *metadata: tuple[str, str]) -> orders_pb2.Order:
    request = shop.order_request((shop.variant(stock=1).sku, 1))
    return shop.orders.PlaceOrder(request, metadata=metadata)


def read_metrics(server: ServerProcess) -> list[Any]:
    """Return the metric families of the page for Prometheus."""
    address = re.search(r"http://(127\.0\.0\.1:\d+)", server.output())
    assert address is not None
    with urllib.request.urlopen(f"http://{address[1]}/metrics", timeout=60) as page:
        return list(text_string_to_metric_families(page.read().decode()))


def read_span_counts(server: ServerProcess) -> dict[str, float]:
    samples = [sample for family in read_metrics(server) for sample in family.samples]
    return {each.labels["outcome"]: each.value for each in samples if each.name == "storekeep_otel_spans_total"}


def await_true(condition: Callable[[], Any]) -> None:
    give_up_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


# -- traces


@pytest.mark.engine("sqlite", "postgresql", reason="commits and their metrics are those of each store")
def test_order_of_a_traced_client_is_one_trace_down_to_its_commit(
    make_server: MakeServer, collector: Collector, engine: str
):
    variables = otel_variables(collector.address)
    server = make_server("--sample", environment=variables, otel_signals="traces")
    program = [sys.executable, "-c", TRACED_CLIENT + BUY, server.address, server.admin_key]
    subprocess.run(program, env=variables | {"PATH": ""}, check=True, timeout=120)
    spans = collector.await_spans(lambda spans: len(find_calls(spans, PLACE_ORDER)) == 2)
    served, sent = sorted(find_calls(spans, PLACE_ORDER), key=lambda span: not span.links)
    assert (served.kind, sent.kind) == (served.SPAN_KIND_SERVER, served.SPAN_KIND_CLIENT)
    assert (sent.trace_id, sent.span_id) == (served.trace_id, served.parent_span_id)
    assert sent.start_time_unix_nano <= served.start_time_unix_nano < served.end_time_unix_nano
    (commit,) = [span for span in spans if [span.span_id] == list_links(served)]
    assert (commit.name, list_links(commit)) == ("COMMIT", [served.span_id])
    assert commit.trace_id != served.trace_id
    found = read_attributes(commit)
    found.pop("db.operation.batch.size", None)  # a write of a background job may share the commit
    assert found == {"db.system.name": engine, "db.operation.name": "COMMIT"}
    for span in served, sent:
        found = read_attributes(span)
        names = ("rpc.system.name", "rpc.method", "rpc.response.status_code")
        assert [found[name] for name in names] == ["grpc", PLACE_ORDER, "OK"]
    resource = collector.resources[served.span_id]
    assert (resource["service.name"], resource["service.version"]) == ("storekeep-server", "0.1.0")
    assert read_attributes(sent)["server.address"] == "127.0.0.1"


def test_commit_is_linked_with_all_orders_that_shared_it(make_server: MakeServer, collector: Collector):
    server = make_server(environment=otel_variables(collector.address), otel_signals="traces")

    def are_shared(spans: list[Any]) -> bool:
        return any(len(span.links) > 1 for span in find_calls(spans, "COMMIT"))

    with open_shops(server) as shops:
        while not are_shared(collector.spans):
            call_at_once(shops, lambda shop: shop.customer(display_name="Somebody"), clients=16)
            time.sleep(0.2)
    server.stop()
    calls = {span.span_id: span for span in collector.spans if span.kind == span.SPAN_KIND_SERVER}
    commits = find_calls(collector.spans, "COMMIT")
    for commit in commits:
        # A write of a background job may share the commit, and has no call.
        assert read_attributes(commit).get("db.operation.batch.size", 1) >= len(commit.links)
        for linked in list_links(commit):
            assert commit.span_id in list_links(calls[linked])
    assert sum(len(commit.links) for commit in commits) == sum(len(call.links) for call in calls.values())


def test_refused_call_has_its_reason_and_no_commit(make_server: MakeServer, collector: Collector):
    server = make_server(environment=otel_variables(collector.address), otel_signals="traces")
    with open_shops(server) as shops:
        request = shops[0].order_request((shops[0].variant(stock=1).sku, 5))
        with pytest.raises(Exception, match="out of stock"):
            shops[0].orders.PlaceOrder(request)
    (span,) = find_calls(collector.await_spans(lambda spans: find_calls(spans, PLACE_ORDER)), PLACE_ORDER)
    found = read_attributes(span)
    assert (found["rpc.response.status_code"], found["error.type"]) == ("FAILED_PRECONDITION", "OUT_OF_STOCK")
    assert (list_links(span), span.status.code) == ([], 0)  # a refusal is no error of the server


def test_forwarded_order_stays_in_its_trace(tmp_path: Path, collector: Collector):
    variables = otel_variables(collector.address)
    server = ServerProcess(
        tmp_path,
        arguments=("--workers", "2"),
        environment=variables,
        otel_signals="traces metrics",
        metrics_listen="127.0.0.1:0",
    )
    try:
        cluster = Cluster(server)
        with cluster.shop(cluster.reader()) as shop:
            place_order(shop, ("traceparent", SAMPLED), ("tracestate", "vendor=1"))
        spans = collector.await_spans(lambda spans: len(find_calls(spans, PLACE_ORDER)) == 2)
        served, forwarded = sorted(find_calls(spans, PLACE_ORDER), key=lambda span: not span.links)
        assert served.trace_id == forwarded.trace_id == bytes.fromhex(TRACE_ID)
        assert served.trace_state == forwarded.trace_state == "vendor=1"
        assert served.parent_span_id == forwarded.span_id
        assert forwarded.parent_span_id == bytes.fromhex(PARENT_ID)
        assert read_attributes(forwarded)["storekeep.forwarded"] is True
        workers = [collector.resources[span.span_id]["storekeep.worker"] for span in (served, forwarded)]
        assert workers == [cluster.writer(), cluster.reader()]
        assert server.stop() == 0
        exemplars = {exemplar.span_id for _, exemplar in collector.exemplars}
        assert served.span_id in exemplars
        assert forwarded.span_id not in exemplars  # the leader counts the call
    finally:
        server.kill()


def test_traceparent_of_an_http_request_continues_in_the_server(
    make_server: MakeServer, collector: Collector, tmp_path: Path
):
    server = make_server("--sample", environment=otel_variables(collector.address), otel_signals="traces")
    gateway = GatewayProcess(tmp_path, server_address=server.address, api_key=server.admin_key)
    try:
        assert gateway.send("GET", "/v1/products", traceparent=SAMPLED).status == 200
    finally:
        gateway.stop()
    method = "storekeep.v1.ProductService/ListProducts"
    (span,) = find_calls(collector.await_spans(lambda spans: find_calls(spans, method)), method)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)


@pytest.mark.parametrize(
    ("sampler", "ratio", "traced"),
    [
        ("parentbased_always_on", "", {"", SAMPLED}),
        ("parentbased_traceidratio", "0", {SAMPLED}),
        ("parentbased_always_off", "", {SAMPLED}),
        ("traceidratio", "1", {"", SAMPLED, NOT_SAMPLED}),
        ("always_off", "", set()),
    ],
)
def test_sampler_decides_which_calls_are_traced(
    make_server: MakeServer, collector: Collector, sampler: str, ratio: str, traced: set[str]
):
    variables = otel_variables(collector.address, OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=ratio)
    server = make_server(environment=variables, otel_signals="traces")
    with open_shops(server) as shops:
        for traceparent in ("", SAMPLED, NOT_SAMPLED):
            metadata = (("traceparent", traceparent),) if traceparent else ()
            customer = customers_pb2.Customer(display_name="Somebody")
            request = customers_pb2.CreateCustomerRequest(customer=customer)
            shops[0].customers.CreateCustomer(request, metadata=(("x-request-id", f"call{traceparent}"), *metadata))
    server.stop()
    calls = find_calls(collector.spans, "storekeep.v1.CustomerService/CreateCustomer")
    found = {read_attributes(span)["storekeep.request_id"].removeprefix("call") for span in calls}
    assert found == traced


def test_spans_and_metrics_have_no_personal_data_and_no_secret(make_server: MakeServer, collector: Collector):
    server = make_server(environment=otel_variables(collector.address), otel_signals="traces metrics")
    with open_shops(server) as shops:
        shop = shops[0]
        customer = shop.customer(display_name="Jonas Lind", email="jonas@example.com")
        request = shop.order_request((shop.variant(stock=1).sku, 1), customer=customer.name, note="about Jonas")
        shop.orders.PlaceOrder(request)
    collector.await_metrics(lambda metrics: "storekeep_calls" in metrics)
    server.stop()
    sent = " ".join(map(str, [*collector.spans, *collector.metrics.values(), *collector.resources.values()]))
    assert PLACE_ORDER in sent
    secrets = [server.admin_key, server.admin_key.rpartition("_")[2], "Bearer", "127.0.0.1", str(server.data_dir)]
    for text in ("Jonas", "jonas@", customer.name, "serviceAccounts", *secrets):
        assert text not in sent


# -- metrics


@pytest.mark.engine("sqlite", "postgresql", reason="commits and their metrics are those of each store")
def test_metrics_are_those_of_prometheus_with_exemplars_of_traces(make_server: MakeServer, collector: Collector):
    variables = otel_variables(collector.address)
    server = make_server(environment=variables, otel_signals="traces metrics", metrics_listen="127.0.0.1:0")
    with open_shops(server) as shops:
        place_order(shops[0])
    spans = collector.await_spans(lambda spans: find_calls(spans, PLACE_ORDER))
    measured = {family.name for family in read_metrics(server) if family.samples}
    server.stop()  # exports a last time
    units = {"s": "_seconds", "By": "_bytes", "": ""}
    metrics = {name + units[metric.unit]: metric for name, metric in collector.metrics.items()}
    assert measured - set(metrics) == {"storekeep_build_info", "storekeep_worker_restarts"}

    points = metrics["storekeep_call_duration_seconds"].histogram.data_points
    (point,) = [point for point in points if read_attributes(point) == {"method": PLACE_ORDER}]
    assert (point.count, sum(point.bucket_counts)) == (1, 1)
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    (span,) = find_calls(spans, PLACE_ORDER)
    exemplars = [each for name, each in collector.exemplars if each.span_id == span.span_id]
    assert [each.as_double for each in exemplars] == [pytest.approx(point.sum)]
    commits = {each.span_id for name, each in collector.exemplars if name == "storekeep_commit_duration"}
    assert set(list_links(span)) <= commits
    calls = {tuple(read_attributes(each).values()): each for each in metrics["storekeep_calls"].sum.data_points}
    assert calls[PLACE_ORDER, "OK", ""].as_int == 1
    assert metrics["storekeep_calls"].sum.is_monotonic


# -- off, and collectors that fail


@pytest.mark.parametrize("variables", [{}, {"OTEL_SDK_DISABLED": "true"}])
def test_nothing_is_imported_when_it_is_off(make_server: MakeServer, variables: dict[str, str]):
    settings = {"otel_signals": "traces metrics"} if variables else {}
    environment = variables | {"PYTHONPROFILEIMPORTTIME": "1"}
    server = make_server("--sample", environment=environment, **settings)
    buy = [sys.executable, "-c", BUY + COUNT_MODULES, server.address, server.admin_key]
    bought = subprocess.run(buy, check=True, timeout=120, capture_output=True, text=True)
    server.stop()
    assert bought.stdout == "0\n"
    assert "storekeep.server.wiring.otel" in server.log()
    assert "opentelemetry" not in server.log()


@pytest.mark.parametrize("kind", ["refuses", "hangs"])
def test_dead_collector_costs_only_spans(make_server: MakeServer, collector: Collector, kind: str):
    collector.hangs = True
    with closing(socket.socket()) as refusing:
        refusing.bind(("127.0.0.1", 0))
        address = collector.address if kind == "hangs" else f"http://127.0.0.1:{refusing.getsockname()[1]}"
        variables = otel_variables(address, OTEL_BSP_MAX_QUEUE_SIZE="4", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="2")
        server = make_server(environment=variables, otel_signals="traces metrics", metrics_listen="127.0.0.1:0")
        with open_shops(server) as shops:
            for _ in range(10):
                shops[0].customer(display_name="Somebody")
        await_true(lambda: read_span_counts(server)["dropped"] >= 4)  # 4 are queued, 2 are sent
        assert read_span_counts(server)["exported"] == 0
        began_s = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began_s < 30  # it waits 2 s; an export alone could take 10 s
    assert server.log().count("the collector does not take spans") <= 1
    assert "Traceback" not in server.log()


def test_collector_that_starts_late_gets_later_spans(make_server: MakeServer):
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        variables = otel_variables(f"http://127.0.0.1:{port}", OTEL_EXPORTER_OTLP_TIMEOUT="1")
        server = make_server(environment=variables, otel_signals="traces")
        with open_shops(server) as shops:
            server.await_log("the collector does not take spans")
    with run_collector(port) as collector, open_shops(server) as shops:
        while not collector.spans:
            shops[0].customer(display_name="Somebody")
            time.sleep(0.1)
    server.await_log("the collector takes spans again")


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "OTEL_TRACES_SAMPLER: 'jaeger_remote' is none of always_on"),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "nan"},
            "'nan' is not a number from 0 to 1",
        ),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "OTEL_BSP_MAX_QUEUE_SIZE: '0' is not a whole number"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "OTEL_EXPORTER_OTLP_PROTOCOL: only grpc is supported"),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "secret"}, "an OTEL_EXPORTER_OTLP_* variable is not usable"),
    ],
)
def test_variables_that_cannot_be_used_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], problem: str
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for command in (["serve", "--migrate"], ["config", "check"]):
        done = run_command(*command, data_dir=tmp_path, otel_signals="traces")
        assert done.returncode == 1
        assert problem in done.stderr
        assert "Traceback" not in done.stderr
        assert "secret" not in done.stderr
    done = run_command("config", "check", data_dir=tmp_path, otel_signals="spans")
    assert done.returncode != 0
    assert "STOREKEEP_OTEL_SIGNALS" in done.stderr
