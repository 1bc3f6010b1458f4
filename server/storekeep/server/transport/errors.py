"""What can be wrong with a request before it reaches the domain.

TransportError
├── InvalidFields       fields break constraints of the contract
├── MalformedMessage    the bytes do not parse
├── MessageTooLarge     the request has too many bytes
├── MetadataTooLarge    the metadata has too many bytes
├── RequestIncomplete   the request did not arrive in time
├── UnknownMethod       there is no such method
├── RateLimited         the caller calls more often than it may
└── WriterUnavailable   the worker that writes cannot be reached
"""

from __future__ import annotations

import math
from collections.abc import Sequence


class TransportError(Exception):
    """The call is refused before the domain sees it."""


class InvalidFields(TransportError):
    """Fields break constraints of the contract.

    Attributes:
        violations: (path of the field, what is wrong with it), the first of them; an empty path is the request itself.
    """

    def __init__(self, violations: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{field}: {problem}" if field else problem for field, problem in violations))
        self.violations = tuple(violations)


class MalformedMessage(TransportError):
    """The bytes do not parse as the method's request."""

    def __init__(self) -> None:
        super().__init__("the request does not parse as the method's message; is every string UTF-8?")


class MessageTooLarge(TransportError):
    """The request has more bytes than the server accepts."""

    def __init__(self, size_bytes: int, *, size_max_bytes: int) -> None:
        super().__init__(f"the request has {size_bytes} bytes; at most {size_max_bytes} are accepted")
        self.size_bytes = size_bytes
        self.size_max_bytes = size_max_bytes


class RateLimited(TransportError):
    """Somebody calls more often than it may.

    Attributes:
        limit: which limit it is, such as `public calls per address`.
        retry_after_ms: when the next call is taken.
        trailing_metadata: the same for clients that know the usual headers (draft-ietf-httpapi-ratelimit-headers).
    """

    def __init__(self, limit: str, *, per_s: float, wait_s: float) -> None:
        super().__init__(f"more {limit} than {per_s:g} a second")
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
        """What the caller is told beside the text."""
        return {"limit": self.limit}


class MetadataTooLarge(TransportError):
    """The metadata of the call have more bytes than the server accepts."""

    def __init__(self) -> None:
        super().__init__("the metadata of the call have more bytes than the server accepts")


class RequestIncomplete(TransportError):
    """The request did not arrive in time."""

    def __init__(self) -> None:
        super().__init__("the request did not arrive in time; nothing was done")


class UnknownMethod(TransportError):
    """The server has no such method."""

    def __init__(self) -> None:
        super().__init__("this server has no such method")


class WriterUnavailable(TransportError):
    """The worker that writes cannot be reached, or went away before it answered."""

    retry_after_ms = 100
    """Another worker writes as soon as it has the lock: some milliseconds, unless the whole server is starting."""

    def __init__(self) -> None:
        super().__init__("the worker that writes is being replaced; retry with the same request_id")
