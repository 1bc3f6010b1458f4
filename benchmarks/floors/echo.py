"""The floor of GetProduct: a bare grpcio server that parses each request and serialises one product.

It has no authentication, log, validation or database. `grpc.server` has 4 threads, the fastest number on one core, and
grpcio's other defaults.
"""

from __future__ import annotations

import argparse
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from storekeep.v1 import products_pb2

THREADS = 4


SERVICE = "storekeep.v1.ProductService"


def build_handler(product: products_pb2.Product) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a handler for GetProduct, like that of the generated code."""

    def get_product(_request: products_pb2.GetProductRequest, _context: grpc.ServicerContext) -> products_pb2.Product:
        return product

    return grpc.unary_unary_rpc_method_handler(
        get_product,
        request_deserializer=products_pb2.GetProductRequest.FromString,
        response_serializer=products_pb2.Product.SerializeToString,
    )


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", required=True, help="HOST:PORT")
    parser.add_argument("--product", required=True, type=Path, help="file with the serialised product to return")
    options = parser.parse_args()
    product = products_pb2.Product.FromString(options.product.read_bytes())
    server = grpc.server(ThreadPoolExecutor(THREADS))
    methods = {"GetProduct": build_handler(product)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    server.add_registered_method_handlers(SERVICE, methods)
    server.add_insecure_port(options.listen)
    server.start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.stop(grace=0).wait()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
