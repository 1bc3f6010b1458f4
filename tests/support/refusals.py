"""Refused calls, as every caller must find them: a code, a reason of the contract, an id, and nothing of the inside."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import error_details_pb2, status_pb2

from storekeep.v1 import errors_pb2

DETAILS_KEY = "grpc-status-details-bin"
REASONS = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.DESCRIPTOR.values_by_name}
# What would show the server's inside: a stack trace, a path, SQL, a connection string, a Python object.
INSIDE = re.compile(
    r'Traceback|File "|\.py\b|/(home|usr|opt|tmp|var|etc)/|site-packages|\bSELECT |\bINSERT |\bUPDATE .* SET|sqlite|'
    r"peewee|postgres|://|object at 0x|Exception|Error\(",
    re.IGNORECASE,
)
DEFECTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)


@dataclass(frozen=True)
class Refusal:
    """What a refused call says.

    Attributes:
        violations: field -> what is wrong with it.
        retry_after_s: None where waiting does not help.
    """

    code: grpc.StatusCode
    reason: str
    text: str
    request_id: str
    metadata: dict[str, str] = field(default_factory=dict)
    violations: dict[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None


def refusal_of(error: grpc.RpcError, *, said: bytes = b"") -> Refusal:
    """Read what a refused call says, and hold it to what holds for all of them.

    Args:
        said: what the caller said, which may be said back whatever it is.
    """
    trailers = dict(error.trailing_metadata())
    assert error.code() not in DEFECTS, error
    assert DETAILS_KEY in trailers, error
    status = status_pb2.Status.FromString(trailers[DETAILS_KEY])
    info = _detail(status.details, error_details_pb2.ErrorInfo)
    request_id = _detail(status.details, error_details_pb2.RequestInfo).request_id
    retry = _detail(status.details, error_details_pb2.RetryInfo)
    bad_request = _detail(status.details, error_details_pb2.BadRequest)
    assert info.domain == "storekeep"
    assert info.reason in REASONS - {"UNSPECIFIED"}
    assert request_id
    assert request_id == trailers["x-request-id"]
    assert status.code == error.code().value[0]
    for text in (error.details(), status.message, *info.metadata.values()):
        inside = INSIDE.search(text)
        assert inside is None or inside[0].encode() in said, text
    return Refusal(
        code=error.code(),
        reason=info.reason,
        text=error.details(),
        request_id=request_id,
        metadata=dict(info.metadata),
        violations={violation.field: violation.description for violation in bad_request.field_violations},
        retry_after_s=retry.retry_delay.ToTimedelta().total_seconds() if retry.HasField("retry_delay") else None,
    )


def _detail(details: Any, kind: Any) -> Any:
    found: list[Packed] = [detail for detail in details if detail.Is(kind.DESCRIPTOR)]
    assert len(found) <= 1
    message = kind()
    for packed in found:
        packed.Unpack(message)
    return message


def _bytes_of(argument: Any) -> bytes:
    """What of an argument may be said back."""
    return argument if isinstance(argument, bytes) else str(argument).encode(errors="surrogatepass")


def refusal(call: Callable[..., Any], *arguments: Any, **options: Any) -> Refusal | None:
    """What a call is refused with; None where it succeeds."""
    try:
        call(*arguments, **options)
    except grpc.RpcError as error:
        return refusal_of(error, said=b"\n".join(map(_bytes_of, (*arguments, *options.values()))))
    return None


class Expected:
    """Where `refused` puts what it caught."""

    refusal: Refusal

    def __getattr__(self, name: str) -> Any:
        """The refusal's own attributes."""
        return getattr(self.__dict__["refusal"], name)


@contextmanager
def refused(reason: str) -> Iterator[Expected]:
    """Expect that the call within is refused with this reason."""
    expected = Expected()
    with pytest.raises(grpc.RpcError) as raised:
        yield expected
    expected.refusal = refusal_of(raised.value)
    assert expected.refusal.reason == reason, expected.refusal.text
