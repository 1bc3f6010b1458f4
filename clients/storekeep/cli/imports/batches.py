"""Writes of a chunk of rows in one call, each row by itself.

Rows that fail are left to single calls, which report why. So are all rows of a chunk with a row that the server rejects
before it looks at the others, or with too much text for one call, and those above the rate limit of batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from storekeep.client import BatchResults, InvalidRequest, RateLimited, Refused

KeyT = TypeVar("KeyT")
RequestT = TypeVar("RequestT")
ResourceT = TypeVar("ResourceT")


def write_batch(
    requests: Mapping[KeyT, RequestT], send: Callable[[Sequence[RequestT]], BatchResults[ResourceT]]
) -> dict[KeyT, ResourceT]:
    """Send the requests in one call. Return the resources of those that succeeded, by key."""
    if not requests:
        return {}
    try:
        results = send(list(requests.values()))
    except (InvalidRequest, RateLimited):
        return {}
    return {key: item for key, item in zip(requests, results.items, strict=True) if not isinstance(item, Refused)}
