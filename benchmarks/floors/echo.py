"""The floor of GetProduct: a bare grpcio server that parses the request and answers one product, serialised anew.

Nothing else is done: no token, no log, no validation, no database. Settings: `grpc.server` with 4 threads, which is
the fastest on one core, and the rest of grpcio's defaults.
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


def get_product_handler(product: products_pb2.Product) -> grpc.RpcMethodHandler[Any, Any]:
    """GetProduct, as the generated code would make it."""

    def get_product(_request: products_pb2.GetProductRequest, _context: grpc.ServicerContext) -> products_pb2.Product:
        return product

    return grpc.unary_unary_rpc_method_handler(
        get_product,
        request_deserializer=products_pb2.GetProductRequest.FromString,
        response_serializer=products_pb2.Product.SerializeToString,
    )


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", required=True, help="HOST:PORT")
    parser.add_argument("--product", required=True, type=Path, help="file with the serialised product to answer")
    options = parser.parse_args()
    product = products_pb2.Product.FromString(options.product.read_bytes())
    server = grpc.server(ThreadPoolExecutor(THREADS))
    methods = {"GetProduct": get_product_handler(product)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    server.add_registered_method_handlers(SERVICE, methods)
    server.add_insecure_port(options.listen)
    server.start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.stop(grace=0).wait()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
