"""Stops and starts under load: no call of the client library fails, and no order is lost or placed twice.

Calls of plain gRPC clients without retries are answered or end with UNAVAILABLE, never with CANCELLED.
"""

from __future__ import annotations

import signal

import grpc
import pytest

from storekeep.v1 import products_pb2
from tests.conftest import MakeServer
from tests.support.clusters import Load
from tests.support.plain_callers import CHANNEL_OPTIONS, PlainCallers
from tests.support.shops import Shop

STOPS = 4
PLAIN_STOPS = 3
TIMEOUT_S = 300.0
"""Deadline of a call, far longer than a start takes on a busy host."""


def test_calls_outlast_stops_and_starts_of_the_server(make_server: MakeServer):
    load = Load(make_server(log_level="WARNING"), timeout_s=TIMEOUT_S)
    load.stop_repeatedly(times=STOPS)
    load.check()


@pytest.mark.engine("sqlite", reason="the database does not end calls")
def test_stop_ends_calls_of_plain_clients_with_unavailable_only(make_server: MakeServer):
    callers = PlainCallers(make_server(log_level="WARNING"))
    callers.stop_repeatedly(times=PLAIN_STOPS)
    callers.check()


def test_call_that_outlasts_the_drain_ends_with_unavailable(make_server: MakeServer):
    server = make_server(drain_s="1")
    with grpc.insecure_channel(server.address, options=CHANNEL_OPTIONS) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        product = products_pb2.Product(display_name="Tea", state=products_pb2.PRODUCT_STATE_DRAFT)
        with server.database.write_lock():
            call = shop.products.CreateProduct.future(products_pb2.CreateProductRequest(product=product))
            shop.products.ListProducts(products_pb2.ListProductsRequest())  # the other call has arrived before
            server.process.send_signal(signal.SIGTERM)
            assert call.code() is grpc.StatusCode.UNAVAILABLE
