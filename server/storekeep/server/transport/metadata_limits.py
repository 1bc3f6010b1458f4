"""The limit on the metadata of calls, and the connections that end because they ignore it.

gRPC's core enforces its own limit only on connections that have acknowledged its SETTINGS.
"""

from __future__ import annotations

from collections import Counter

from storekeep.server.transport.call_statuses import Metadata

EXCESS_FACTOR = 4
"""Metadata of more than this multiple of its limit ends the connection. Only a connection that has not acknowledged its
SETTINGS can send it, and there HPACK makes 16 MiB of 0.5 MB, which cost 0.5 s of CPU."""
EXCESS_CALLS_MAX = 8
"""Calls with too much metadata, of one connection between two sweeps, after which it ends as well."""
ENTRY_BYTES = 32
"""Size of a metadata entry beside its name and value (RFC 9113, section 6.5.2): an empty one takes memory, too."""


class MetadataLimit:
    """Counts calls with too much metadata by connection. Used in one thread.

    Args:
        bytes_max: the largest metadata of a call. As in gRPC, each entry counts 32 bytes more.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._excess_calls: Counter[str] = Counter()

    def is_exceeded(self, metadata: Metadata) -> bool:
        """Return whether metadata has too many bytes."""
        return _has_more_bytes(metadata, self._bytes_max)

    def ends_connection(self, peer: str, metadata: Metadata) -> bool:
        """Count a call with too much metadata. Return whether that was no mistake, so that its connection ends."""
        self._excess_calls[peer] += 1
        is_excessive = _has_more_bytes(metadata, EXCESS_FACTOR * self._bytes_max)
        return is_excessive or self._excess_calls[peer] > EXCESS_CALLS_MAX

    def forget(self) -> None:
        """Count anew."""
        self._excess_calls.clear()


def _has_more_bytes(metadata: Metadata, bytes_max: int) -> bool:
    """Return whether metadata has more bytes, counted as gRPC does. The cost is bounded by `bytes_max`."""
    if len(metadata) * ENTRY_BYTES > bytes_max:
        return True
    size = len(metadata) * ENTRY_BYTES
    for name, value in metadata:
        size += len(name) + len(value)
    return size > bytes_max
