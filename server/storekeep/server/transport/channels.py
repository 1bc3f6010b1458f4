"""Channels: what gRPC's core is told of the port, and what it is to bound by itself of callers without a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storekeep.server.config import Settings
from storekeep.server.transport.polling import Limits

RAW_MESSAGE_FACTOR = 2
"""gRPC refuses larger messages without an error reason; up to this many times the limit the validation layer refuses
them with one, unparsed, at the price of holding their bytes while they arrive, from whoever sends them."""
IDENTITY_ONLY = 1
"""No compression (a bit for each algorithm): 16 KB of gzip can be 16 MB, inflated before anybody is asked for a token.
gRPC's core refuses compressed calls with UNIMPLEMENTED and the name of the algorithm, and inflates nothing."""
PENDING_MAX = 10_000
"""How many calls gRPC's core may keep waiting to be announced before it begins to end them with CANCELLED, which costs
more than to refuse them."""
NEVER_MS = 2**31 - 1


def channel_options(settings: Settings, *, shares_port: bool = False) -> Sequence[tuple[str, Any]]:
    """What gRPC's core is told; it ignores names that it does not know, so a test tries each.

    Args:
        shares_port: whether other workers listen on the same port, which somebody holds for all of them.
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
    """What gRPC's core can bound by itself of callers that have shown no token."""
    return (
        ("grpc.compression_enabled_algorithms_bitset", IDENTITY_ONLY),
        # Streams that are reset at once are held to the limit too: 35,000 a second of them cost 350 MiB without it.
        ("grpc.http.overload_protection", 1),
        ("grpc.server_handshake_timeout_ms", _ms(settings.handshake_timeout_s)),
        ("grpc.http2.settings_timeout", _ms(settings.handshake_timeout_s)),
        ("grpc.max_connection_idle_ms", _ms(settings.connection_idle_max_s)),
        ("grpc.max_connection_age_ms", _ms(settings.connection_age_max_s)),
        ("grpc.max_connection_age_grace_ms", _ms(settings.connection_age_grace_s)),
        ("grpc.max_allowed_incoming_connections", settings.connections_max),
    )


def _ms(seconds: float) -> int:
    """Milliseconds as gRPC's core takes them; its largest number, for never, where it is 0."""
    return round(seconds * 1000) or NEVER_MS


def receive_limits(settings: Settings) -> Limits:
    """How many requests may be incomplete, so that all of them together keep to their bytes, and the other limits."""
    message_bytes = settings.message_size_max_bytes * RAW_MESSAGE_FACTOR
    return Limits(
        request_timeout_s=settings.request_timeout_s,
        unfinished_max=max(1, settings.unfinished_requests_max_bytes // message_bytes),
        unread_max_bytes=settings.unread_replies_max_bytes,
        metadata_max_bytes=settings.metadata_size_max_bytes,
    )
