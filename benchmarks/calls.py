"""The requests that the benchmarks repeat, prepared once."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import grpc
from google.protobuf.message import Message

from benchmarks import catalogue
from benchmarks.loads.h2load import Request
from benchmarks.subjects import CALL_TIMEOUT_S, Peer, Storekeep
from storekeep.v1 import products_pb2

GET_PRODUCT = "/storekeep.v1.ProductService/GetProduct"
LIST_ORDERS = "/storekeep.v1.OrderService/ListOrders"
PRODUCT_ID = next(catalogue.list_items()).product_id
FRAME_HEAD_BYTES = 5


def call_unary(shop: Storekeep, method: str, message: Message) -> bytes:
    """Call a method of Storekeep once and return the serialised reply.

    Raises: grpc.RpcError.
    """
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = shop.channel.unary_unary(method)
    return call(message.SerializeToString(), timeout=CALL_TIMEOUT_S, metadata=shop.build_metadata())


def read_product(shop: Storekeep) -> bytes:
    """Return the serialised product that the benchmarks read.

    Raises: grpc.RpcError; ValueError if the reply is another product.
    """
    answer = call_unary(shop, GET_PRODUCT, build_get_product_message())
    product = products_pb2.Product.FromString(answer)
    if product.name != f"products/{PRODUCT_ID}" or not product.description or not product.labels:
        raise ValueError(f"unexpected product: {product}")
    return answer


def build_get_product_message() -> products_pb2.GetProductRequest:
    """Return the request for the product that the benchmarks read."""
    return products_pb2.GetProductRequest(name=f"products/{PRODUCT_ID}")


def build_grpc_request(
    method: str, message: Message, *, answer: bytes, token: str, folder: Path, in_flight: tuple[int, int] = (8, 8)
) -> Request:
    """Return a gRPC call for h2load, with its body in a file in `folder`.

    Args:
        in_flight: the number of connections, and of calls in flight on each.
    """
    payload = message.SerializeToString()
    body = folder / f"{method.rpartition('/')[2]}-{abs(hash(payload)):x}.body"
    body.write_bytes(b"\0" + len(payload).to_bytes(4, "big") + payload)
    headers = {"content-type": "application/grpc", "te": "trailers", "authorization": f"Bearer {token}"}
    connections, streams = in_flight
    length = len(answer) + FRAME_HEAD_BYTES
    return Request(method, headers, body, answer_bytes=length, connections=connections, streams=streams)


def build_http_request(peer: Peer) -> Request:
    """Return the peer's GetProduct for h2load: HTTP/1.1, keep-alive, with as many calls in flight as gRPC has.

    Raises: OSError if the peer does not answer.
    """
    path = f"/v1/products/{PRODUCT_ID}"
    headers = {"authorization": f"Bearer {peer.token}"}
    url = urllib.request.Request(f"http://{peer.server.address}{path}", headers=headers)
    with urllib.request.urlopen(url, timeout=CALL_TIMEOUT_S) as answer:
        length = len(answer.read())
    return Request(path, headers, None, answer_bytes=length, http1=True, connections=64, streams=1)
