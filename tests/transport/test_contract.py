"""The contract: its services are listed once, and the server serves all of them."""

from __future__ import annotations

import grpc
import pytest
from contract import read_contract as read_sources

from storekeep.server.transport.contract import SERVICES, add_servicers, read_contract
from tests.support.shops import Shop


def test_listed_services_are_those_of_the_sources():
    assert {service.name for service in SERVICES} == {service.name for service in read_sources().services}
    assert list(read_contract().services) == [service.full_name for service in SERVICES]


def test_server_without_a_servicer_for_each_service_is_not_made():
    server = grpc.server(None)
    servicers = {service.name: object() for service in SERVICES}
    servicers.pop("AuditService")
    servicers["UnknownService"] = object()
    with pytest.raises(ValueError, match=r"\['AuditService', 'UnknownService'\]"):
        add_servicers(server, servicers)


@pytest.mark.engine("sqlite", reason="which RPCs there are does not depend on the database")
def test_every_rpc_of_the_contract_is_served(shop: Shop):
    unserved = []
    for path in read_contract().methods:
        try:
            shop.send(path, b"\xff")
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                unserved.append(path)
    assert unserved == []
