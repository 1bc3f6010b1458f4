"""The composed server's limits on the wire: each refusal comes at once, and says why where gRPC lets it."""

from __future__ import annotations

import time

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from storekeep.client import Storekeep
from storekeep.server.app import channel_options
from storekeep.server.config import Settings
from storekeep.v1 import products_pb2, products_pb2_grpc
from tests.conftest import MakeServer
from tests.processes import ServerProcess


def reason_of(error: grpc.RpcError) -> str:
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(details).details[0].Unpack(info)
    return info.reason


def authorization(server: ServerProcess) -> tuple[tuple[str, str], ...]:
    with Storekeep(server.address, api_key="") as client:
        token = client.auth.issue_token(server.admin_key).access_token
    return (("authorization", f"Bearer {token}"),)


def test_call_beyond_the_limit_is_shed_at_once(make_server: MakeServer):
    server = make_server(calls_max="2", read_threads="1")
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        reflect = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        # They never end, and what each is answered shows that the server has begun it.
        holders = [reflect(iter(lambda: time.sleep(0.05) or b"", None)) for _ in range(2)]
        for holder in holders:
            next(holder)
        started = time.monotonic()
        with pytest.raises(grpc.RpcError) as shed:
            stub.Check(health_pb2.HealthCheckRequest(), timeout=60)
        assert shed.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert time.monotonic() - started < 30
        for holder in holders:
            holder.cancel()


def test_message_of_ten_megabytes_is_refused_with_a_reason(server: ServerProcess, channel: grpc.Channel):
    stub = products_pb2_grpc.ProductServiceStub(channel)
    with pytest.raises(grpc.RpcError) as refused:
        stub.SearchProducts(
            products_pb2.SearchProductsRequest(query="x" * 10_000_000), metadata=authorization(server), timeout=60
        )
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(refused.value) == "MESSAGE_TOO_LARGE"


def test_message_beyond_what_grpc_takes_is_refused(server: ServerProcess, channel: grpc.Channel):
    stub = products_pb2_grpc.ProductServiceStub(channel)
    with pytest.raises(grpc.RpcError) as refused:
        stub.SearchProducts(
            products_pb2.SearchProductsRequest(query="x" * 17_000_000), metadata=authorization(server), timeout=60
        )
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_metadata_beyond_the_limit_is_refused(channel: grpc.Channel):
    stub = products_pb2_grpc.ProductServiceStub(channel)
    with pytest.raises(grpc.RpcError) as refused:
        stub.SearchProducts(products_pb2.SearchProductsRequest(), metadata=(("x", "y" * 20_000),), timeout=60)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_unknown_method_is_unimplemented(channel: grpc.Channel):
    call = channel.unary_unary("/storekeep.v1.ProductService/Nothing")
    with pytest.raises(grpc.RpcError) as refused:
        call(b"", timeout=60)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_limits_of_the_settings_reach_grpc():
    options = dict(channel_options(Settings(metadata_size_max_bytes=2048, ping_interval_min_s=1.5)))
    assert options["grpc.so_reuseport"] == 0
    assert options["grpc.max_metadata_size"] == 2048
    assert options["grpc.http2.min_ping_interval_without_data_ms"] == 1500


def test_server_listens_on_a_socket_file(make_server: MakeServer, tmp_path):
    server = make_server(listen=f"unix:{tmp_path}/s")
    with Storekeep(server.address, api_key=server.admin_key) as client:
        assert client.auth.who_am_i().subject == "serviceAccounts/admin"


def test_server_stays_on_its_core(make_server: MakeServer):
    import os

    server = make_server(pin_cpu="0")
    assert os.sched_getaffinity(server.process.pid) == {0}
