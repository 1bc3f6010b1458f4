"""Errors of the transport: reasons to reject a request before it reaches the domain.

TransportError
├── InvalidFields       fields violate constraints of the contract
├── MalformedMessage    the bytes do not parse
├── MessageTooLarge     the request has too many bytes
├── MetadataTooLarge    the metadata has too many bytes
├── RequestIncomplete   the request did not arrive in time
├── UnknownMethod       the method does not exist
├── RateLimited         a rate limit is exceeded
└── WriterUnavailable   the leader cannot be reached
"""

from __future__ import annotations

import math
from collections.abc import Sequence


class TransportError(Exception):
    """The request is rejected before it reaches the domain."""


class InvalidFields(TransportError):
    """Fields violate constraints of the contract.

    Attributes:
        violations: the first violations, as pairs of field path and description. An empty path is the request itself.
    """

    def __init__(self, violations: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{field}: {problem}" if field else problem for field, problem in violations))
        self.violations = tuple(violations)


class MalformedMessage(TransportError):
    """The bytes do not parse as the method's request."""

    def __init__(self) -> None:
        super().__init__("the request does not parse as the method's message; check that every string is UTF-8")


class MessageTooLarge(TransportError):
    """The request has more bytes than the server accepts."""

    def __init__(self, size_bytes: int, *, size_max_bytes: int) -> None:
        super().__init__(f"the request has {size_bytes} bytes; at most {size_max_bytes} are accepted")
        self.size_bytes = size_bytes
        self.size_max_bytes = size_max_bytes


class RateLimited(TransportError):
    """A rate limit is exceeded.

    Args:
        limit: the limit, such as `public calls per address`.
        per_s: its rate, in calls per second.
        wait_s: seconds until the next call is admitted.

    Attributes:
        limit: as given.
        retry_after_ms: milliseconds until the next call is admitted.
        trailing_metadata: the same in the usual HTTP headers (draft-ietf-httpapi-ratelimit-headers).
    """

    def __init__(self, limit: str, *, per_s: float, wait_s: float) -> None:
        super().__init__(f"more {limit} than {per_s:g} per second")
        self.limit = limit
        self.retry_after_ms = max(1, math.ceil(wait_s * 1000))
        seconds = str(math.ceil(wait_s))
        self.trailing_metadata = (
            ("ratelimit-limit", f"{per_s:g}"),
            ("ratelimit-remaining", "0"),
            ("ratelimit-reset", seconds),
            ("retry-after", seconds),
        )

    @property
    def metadata(self) -> dict[str, str]:
        """Metadata of the error's `ErrorInfo`."""
        return {"limit": self.limit}


class MetadataTooLarge(TransportError):
    """The metadata has more bytes than the server accepts."""

    def __init__(self) -> None:
        super().__init__("the metadata of the call has more bytes than the server accepts")


class RequestIncomplete(TransportError):
    """The request did not arrive in time."""

    def __init__(self) -> None:
        super().__init__("the request did not arrive in time; nothing was done")


class UnknownMethod(TransportError):
    """The method does not exist."""

    def __init__(self) -> None:
        super().__init__("this server has no such method")


class WriterUnavailable(TransportError):
    """The leader cannot be reached, or ended before it answered."""

    retry_after_ms = 100
    """A new leader is elected within milliseconds, unless the whole server is starting."""

    def __init__(self) -> None:
        super().__init__("the leader is being replaced; retry with the same request_id")
