"""Channel options: the settings of gRPC's core for the port, including its limits for unauthenticated clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storekeep.server.config import Settings
from storekeep.server.transport.polling import ReceiveLimits

RAW_MESSAGE_FACTOR = 2
"""gRPC's core rejects messages above this multiple of the size limit, without an error reason. Up to it, the validation
layer rejects them unparsed, with a reason. The price is that their bytes are buffered, from any client."""
IDENTITY_ONLY = 1
"""No compression (one bit for each algorithm): 16 KB of gzip can inflate to 16 MB before authentication. gRPC's core
rejects compressed calls with UNIMPLEMENTED and the name of the algorithm, without inflating them."""
PENDING_MAX = 10_000
"""Most calls that gRPC's core queues before it reports them. Above it the core cancels calls with CANCELLED, which
costs more than rejecting them."""
SETTINGS_TIMEOUT_MAX_S = 3.0
"""Longest time to acknowledge SETTINGS, which takes a client one round trip. Until then gRPC's core takes 16 MiB of
metadata per call, and the trailers of a stream never reach the server's own limit."""
NEVER_MS = 2**31 - 1


def make_channel_options(settings: Settings, *, shares_port: bool = False) -> Sequence[tuple[str, Any]]:
    """Return the channel options of the server. gRPC's core ignores unknown names, so a test checks each of them.

    Args:
        shares_port: whether other workers listen on the same port, which the supervisor has reserved.
    """
    return (
        ("grpc.so_reuseport", int(shares_port)),
        ("grpc.max_receive_message_length", settings.message_size_max_bytes * RAW_MESSAGE_FACTOR),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", settings.metadata_size_max_bytes),
        ("grpc.absolute_max_metadata_size", settings.metadata_size_max_bytes),
        ("grpc.max_concurrent_streams", settings.streams_per_connection_max),
        ("grpc.server.max_pending_requests", PENDING_MAX),
        ("grpc.server.max_pending_requests_hard_limit", 2 * PENDING_MAX),
        *_budget_options(settings),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", round(settings.ping_interval_min_s * 1000)),
    )


def _budget_options(settings: Settings) -> Sequence[tuple[str, Any]]:
    """Return the limits that gRPC's core enforces before authentication."""
    return (
        ("grpc.compression_enabled_algorithms_bitset", IDENTITY_ONLY),
        # Counts streams that the client resets at once (rapid reset). Without it, 35,000 of them a second cost 350 MiB.
        ("grpc.http.overload_protection", 1),
        ("grpc.server_handshake_timeout_ms", _convert_to_ms(settings.handshake_timeout_s)),
        ("grpc.http2.settings_timeout", _convert_to_ms(min(settings.handshake_timeout_s, SETTINGS_TIMEOUT_MAX_S))),
        ("grpc.max_connection_idle_ms", _convert_to_ms(settings.connection_idle_max_s)),
        ("grpc.max_connection_age_ms", _convert_to_ms(settings.connection_age_max_s)),
        ("grpc.max_connection_age_grace_ms", _convert_to_ms(settings.connection_age_grace_s)),
        ("grpc.max_allowed_incoming_connections", settings.connections_max),
    )


def _convert_to_ms(seconds: float) -> int:
    """Return a time in whole milliseconds for gRPC's core; for 0 its largest number, which means never."""
    return round(seconds * 1000) or NEVER_MS


def make_receive_limits(settings: Settings) -> ReceiveLimits:
    """Return the limits for receiving requests. The byte budget of incomplete requests becomes a number of requests."""
    message_bytes = settings.message_size_max_bytes * RAW_MESSAGE_FACTOR
    return ReceiveLimits(
        request_timeout_s=settings.request_timeout_s,
        unfinished_max=max(1, settings.unfinished_requests_max_bytes // message_bytes),
        unread_max_bytes=settings.unread_replies_max_bytes,
        metadata_max_bytes=settings.metadata_size_max_bytes,
    )
