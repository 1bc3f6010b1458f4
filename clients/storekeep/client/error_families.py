"""The families of exceptions, and those that do not come from the server. `errors` draws the whole tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import grpc

from storekeep.client.error_details import FieldProblem


class StorekeepError(Exception):
    """Base class of all exceptions of this library."""

    def __init__(self, message: str, *, request_id: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id
        """The server's id of the call, as in its log; empty if the server did not answer."""

    def __str__(self) -> str:
        return f"{self.message} [request id {self.request_id}]" if self.request_id else self.message


class InvalidSettings(StorekeepError):
    """The address, a TLS file or the API key is invalid."""


class ClientClosed(StorekeepError):
    """The client is closed."""


class ServerUnreachable(StorekeepError):
    """The server could not be reached, or the connection was lost."""

    was_connected = False
    """Whether the call had reached a server, which then stopped."""


class CallTimedOut(StorekeepError):
    """No answer arrived before the deadline. A mutation may have happened: repeat it with the same `request_id`."""


class UnexpectedStatus(StorekeepError):
    """An error without Storekeep's error details, such as from a proxy or another server."""

    def __init__(self, message: str, *, request_id: str = "", code: grpc.StatusCode) -> None:
        super().__init__(message, request_id=request_id)
        self.code = code
        """The gRPC status code."""


class Refused(StorekeepError):
    """The server rejected the call. Raised directly only for a reason that this version of the client does not know."""

    reason: str = ""
    """ErrorReason of the contract, without its prefix, such as `OUT_OF_STOCK`."""
    retryable: ClassVar[bool] = False
    """Whether the same call may succeed soon."""

    def __init__(
        self,
        message: str,
        *,
        request_id: str = "",
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        fields: Sequence[FieldProblem] = (),
        retry_delay_s: float | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id)
        self.reason = reason or type(self).reason
        self.metadata: Mapping[str, str] = dict(metadata or {})
        """Details of the reason, as the server sent them."""
        self.fields = tuple(fields)
        """The fields that violate a constraint; empty for most reasons."""
        self.retry_delay_s = retry_delay_s
        """Seconds after which the server asks the client to retry; None if it sent no delay."""

    def __str__(self) -> str:
        unnamed = [problem for problem in self.fields if problem.description not in self.message]
        problems = "".join(f"; {problem.field}: {problem.description}" for problem in unnamed)
        details = [self.reason] + ([f"request id {self.request_id}"] if self.request_id else [])
        return f"{self.message}{problems} [{', '.join(details)}]"

    @property
    def resource(self) -> str:
        """Name of the affected resource, such as `products/chai`; empty if the reason has none."""
        return self.metadata.get("resource", "")

    def _get_count(self, key: str) -> int | None:
        text = self.metadata.get(key, "")
        return int(text) if text.lstrip("-").isdigit() else None


class NotAuthenticated(Refused):
    """The caller is not authenticated."""


class NotAllowed(Refused):
    """The caller lacks a permission."""


class InvalidRequest(Refused):
    """The request is invalid, whatever the state of the resources."""


class NotFound(Refused):
    """A resource named in the request does not exist."""


class Conflict(Refused):
    """The state of a resource does not allow the request."""


class ServerError(Refused):
    """The server cannot process the request, temporarily or because of a defect."""
