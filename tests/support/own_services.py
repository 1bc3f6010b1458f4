"""A gateway in this process in front of a gRPC server, both for a service that the contract does not have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor

from storekeep.gateway.access_log import AccessLog
from storekeep.gateway.app import Gateway
from storekeep.gateway.calls import Calls
from storekeep.gateway.config import Settings
from storekeep.gateway.routes import build_routes
from storekeep.gateway.serving import Listener, reserve_port
from tests.support.gateways import HttpReply

TIMEOUT_S = 60.0


def add_service(file: descriptor_pb2.FileDescriptorProto, name: str) -> ServiceDescriptor:
    """Add a file to the types that this process knows, and return a service of it."""
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
    return descriptor_pool.Default().FindServiceByName(name)


@asynccontextmanager
async def serve_own(
    service: ServiceDescriptor, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]], *, folder: Path
) -> AsyncIterator[int]:
    """Serve the service over HTTP, and yield the port.

    Args:
        service: the service, with an HTTP route for each RPC.
        handlers: what answers each RPC, on raw bytes.
        folder: directory of the socket between gateway and server.
    """
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, dict(handlers)),))
    settings = Settings(server_address=f"unix:{folder}/grpc.sock", listen="127.0.0.1:0", access_log="off")
    server.add_insecure_port(settings.server_address)
    await server.start()
    with reserve_port(settings.listen) as holder:
        port = holder.getsockname()[1]
        calls, log = Calls(settings), AccessLog()
        gateway = Gateway(settings, calls=calls, log=log, routes=build_routes([service]))
        listener = Listener(gateway, settings, host="127.0.0.1", port=port)
        await listener.start()
        yield port
        await listener.stop()
        await calls.close()
        log.close()
    await server.stop(grace=None)


async def send_request(port: int, method: str, target: str, body: bytes = b"") -> HttpReply:
    """Send one request on a connection of its own, and return the reply."""
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = [f"{method} {target} HTTP/1.1", "host: x", "connection: close", f"content-length: {len(body)}"]
        lines += ["content-type: application/json"] if body else []
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        head, _, content = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    status, *headers = head.decode().split("\r\n")
    named = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in headers)}
    return HttpReply(int(status.split()[1]), named, content)
