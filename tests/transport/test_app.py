"""Limits of the whole server on the wire: rejections are immediate, and have a reason where gRPC allows one."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from storekeep.client import Storekeep
from storekeep.server.config import Settings
from storekeep.server.transport.channels import make_channel_options
from storekeep.v1 import products_pb2, products_pb2_grpc
from tests.conftest import MakeServer
from tests.support.processes import ServerProcess


def reason_of(error: grpc.RpcError) -> str:
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    status_pb2.Status.FromString(details).details[0].Unpack(info)
    return info.reason


def authorization(server: ServerProcess) -> tuple[tuple[str, str], ...]:
    with Storekeep(server.address, api_key="") as client:
        token = client.auth.issue_token(server.admin_key).access_token
    return (("authorization", f"Bearer {token}"),)


def test_call_beyond_the_limit_is_rejected_at_once_and_health_answers(make_server: MakeServer):
    server = make_server(calls_max="1", read_threads="1", queue_wait_max_s="60")
    metadata = authorization(server)
    with grpc.insecure_channel(server.address) as channel:
        search = products_pb2_grpc.ProductServiceStub(channel).SearchProducts
        request = products_pb2.SearchProductsRequest(query="x")
        calls = [search.future(request, metadata=metadata, timeout=30) for _ in range(500)]
        health = health_pb2_grpc.HealthStub(channel)
        assert (
            health.Check(health_pb2.HealthCheckRequest(), timeout=30).status == health_pb2.HealthCheckResponse.SERVING
        )
        codes = {call.code() for call in calls}
    assert codes == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}


def test_message_of_up_to_twice_the_limit_is_refused_with_a_reason(server: ServerProcess, channel: grpc.Channel):
    stub = products_pb2_grpc.ProductServiceStub(channel)
    with pytest.raises(grpc.RpcError) as refused:
        stub.SearchProducts(
            products_pb2.SearchProductsRequest(query="x" * 2_000_000), metadata=authorization(server), timeout=60
        )
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(refused.value) == "MESSAGE_TOO_LARGE"


def test_message_beyond_what_grpc_takes_is_refused(server: ServerProcess, channel: grpc.Channel):
    stub = products_pb2_grpc.ProductServiceStub(channel)
    with pytest.raises(grpc.RpcError) as refused:
        stub.SearchProducts(
            products_pb2.SearchProductsRequest(query="x" * 10_000_000), metadata=authorization(server), timeout=60
        )
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in refused.value.details()


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
    options = dict(make_channel_options(Settings(metadata_size_max_bytes=2048, ping_interval_min_s=1.5)))
    assert options["grpc.so_reuseport"] == 0
    assert options["grpc.max_metadata_size"] == 2048
    assert options["grpc.http2.min_ping_interval_without_data_ms"] == 1500


@pytest.mark.engine("sqlite", reason="no database is asked")
def test_server_listens_on_a_socket_file(make_server: MakeServer, tmp_path):
    server = make_server(listen=f"unix:{tmp_path}/s")
    with Storekeep(server.address, api_key=server.admin_key) as client:
        assert client.auth.who_am_i().subject == "serviceAccounts/admin"


@pytest.mark.engine("sqlite", reason="no database is asked")
def test_server_stays_on_its_core(make_server: MakeServer):
    import os

    server = make_server(pin_cpu="0")
    assert os.sched_getaffinity(server.process.pid) == {0}
