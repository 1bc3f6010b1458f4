"""Calls of the server over one `grpc.aio` channel, on raw bytes, so that no message is parsed twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped, unused-ignore]

from storekeep.client.channels import RECEIVE_BYTES_MAX, is_local
from storekeep.client.files import read_file
from storekeep.gateway.config import Settings

Metadata = Sequence[tuple[str, str]]
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
HEALTH_TIMEOUT_S = 2.0
RECONNECT_MAX_MS = 1_000
"""Longest time between attempts to reach a server that is away: it is found again within a second or so."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of the server: its message, and its trailing metadata."""

    body: bytes
    trailers: dict[str, str | bytes]


class Calls:
    """The channel to the server. Create it in the event loop that uses it."""

    def __init__(self, settings: Settings) -> None:
        self._channel = _open_channel(settings)
        self._unary: dict[str, Any] = {}
        self._streams: dict[str, Any] = {}

    async def call(self, path: str, request: bytes, *, metadata: Metadata, timeout_s: float) -> Reply:
        """Call a unary RPC.

        Args:
            path: path of the RPC, `/package.Service/Method`.
            request: the request message on the wire.
            metadata: metadata of the call.
            timeout_s: deadline in seconds.

        Raises: grpc.aio.AioRpcError.
        """
        method = self._unary.get(path)
        if method is None:
            method = self._unary[path] = self._channel.unary_unary(path)
        call = method(request, metadata=metadata, timeout=timeout_s)
        body = await call
        return Reply(body, dict(await call.trailing_metadata()))

    def stream(self, path: str, request: bytes, *, metadata: Metadata, timeout_s: float) -> Any:
        """Return a call of a server-streaming RPC: `read` its replies, and `cancel` it to end it early."""
        method = self._streams.get(path)
        if method is None:
            method = self._streams[path] = self._channel.unary_stream(path)
        return method(request, metadata=metadata, timeout=timeout_s)

    async def is_serving(self) -> bool:
        """Return whether the server accepts calls."""
        request = health_pb2.HealthCheckRequest().SerializeToString()
        try:
            reply = await self.call(HEALTH_CHECK, request, metadata=(), timeout_s=HEALTH_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return False
        status = health_pb2.HealthCheckResponse.FromString(reply.body).status
        return bool(status == health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


def _open_channel(settings: Settings) -> grpc.aio.Channel:
    address = settings.server_address
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", RECEIVE_BYTES_MAX),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", RECONNECT_MAX_MS),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MAX_MS),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.primary_user_agent", "storekeep-gateway"),
    ]
    if is_local(address):
        options.append(("grpc.enable_http_proxy", 0))
    files = (settings.server_ca_file, settings.server_private_key_file, settings.server_certificate_file)
    if is_local(address) and not any(files):
        return grpc.aio.insecure_channel(address, options=options)
    roots, key, chain = (None if path is None else read_file(path) for path in files)
    return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(roots, key, chain), options=options)
