"""Health checks and reflection, both without authentication."""

from __future__ import annotations

import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from storekeep.server.transport.contract import read_contract
from tests.conftest import MakeServer
from tests.support.processes import ServerProcess

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = read_contract().services


@pytest.fixture(scope="module")
def health(channel: grpc.Channel) -> health_pb2_grpc.HealthStub:
    return health_pb2_grpc.HealthStub(channel)


@pytest.mark.parametrize("service", ["", "liveness", *SERVICES])
def test_check_of_each_service_is_serving(health, service):
    assert health.Check(health_pb2.HealthCheckRequest(service=service), timeout=60).status == SERVING


def test_check_of_unknown_service_is_not_found(health):
    with pytest.raises(grpc.RpcError) as refused:
        health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=60)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_list_names_every_service(health):
    statuses = health.List(health_pb2.HealthListRequest(), timeout=60).statuses
    assert {name: status.status for name, status in statuses.items()} == dict.fromkeys(
        ["", "liveness", *SERVICES], SERVING
    )


def test_health_is_not_logged(health, server: ServerProcess):
    health.Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert "Health" not in server.log()


@pytest.mark.engine("sqlite", reason="the stream is served without a database")
def test_watch_tells_of_the_drain_and_ends(make_server: MakeServer):
    server = make_server(drain_s="300")
    with grpc.insecure_channel(server.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watch).status == SERVING
        assert server.stop(timeout_s=60) == 0
        assert [response.status for response in watch] == [NOT_SERVING]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_the_services(channel: grpc.Channel, version):
    ask = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    (answer,) = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=60)
    listed = {service.name for service in answer.list_services_response.service}
    assert listed >= {*SERVICES, "grpc.health.v1.Health"}


def test_reflection_gives_the_file_of_a_service(channel: grpc.Channel):
    ask = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    wanted = reflection_pb2.ServerReflectionRequest(file_containing_symbol="storekeep.v1.OrderService")
    (answer,) = ask(iter([wanted]), timeout=60)
    assert answer.file_descriptor_response.file_descriptor_proto


@pytest.mark.engine("sqlite", reason="the stream is served without a database")
def test_reflection_left_open_holds_up_no_call(make_server: MakeServer):
    server = make_server(read_threads="1")
    with grpc.insecure_channel(server.address) as channel:
        reflect = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        open_streams = [reflect(iter(lambda: time.sleep(0.05) or b"", None)) for _ in range(5)]
        time.sleep(0.3)
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=60).status == SERVING
        for stream in open_streams:
            stream.cancel()


def test_server_whose_database_does_not_answer_is_not_serving(make_server: MakeServer):
    server = make_server(health_interval_s="0.1", health_timeout_s="1")
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watch).status == SERVING
        with server.database.write_lock():
            assert next(watch).status == NOT_SERVING
            assert stub.Check(health_pb2.HealthCheckRequest(service="liveness"), timeout=60).status == SERVING
        assert next(watch).status == SERVING
    assert "the database does not answer" in server.log()
