"""Checks that every failed call has a status code, a declared error reason and an id, and leaks no internals."""

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
# Text that would leak internals: a stack trace, a path, SQL, a connection string, a Python object.
INSIDE = re.compile(
    r'Traceback|File "|\.py\b|/(home|usr|opt|tmp|var|etc)/|site-packages|\bSELECT |\bINSERT |\bUPDATE .* SET|sqlite|'
    r"peewee|postgres|://|object at 0x|Exception|Error\(",
    re.IGNORECASE,
)
KEY = re.compile(r"[a-z][a-zA-Z0-9_-]{0,63}")
"""A key of the metadata of `ErrorInfo`, as AIP-193 has it."""
DEFECTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)


@dataclass(frozen=True)
class Refusal:
    """The status of a failed call.

    Attributes:
        violations: Field -> its problem.
        retry_after_s: Retry delay; None if a retry does not help.
    """

    code: grpc.StatusCode
    reason: str
    text: str
    request_id: str
    metadata: dict[str, str] = field(default_factory=dict)
    violations: dict[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None


def parse_refusal(error: grpc.RpcError, *, said: bytes = b"") -> Refusal:
    """Parse the status of a failed call and check what holds for all of them.

    Args:
        said: Text of the request, which the status may repeat.
    """
    trailers = dict(error.trailing_metadata())
    assert error.code() not in DEFECTS, error
    assert DETAILS_KEY in trailers, error
    status = status_pb2.Status.FromString(trailers[DETAILS_KEY])
    info = _detail(status.details, error_details_pb2.ErrorInfo)
    assert all(KEY.fullmatch(key) for key in info.metadata), info
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
    matches: list[Packed] = [detail for detail in details if detail.Is(kind.DESCRIPTOR)]
    assert len(matches) <= 1
    message = kind()
    for packed in matches:
        packed.Unpack(message)
    return message


def _serialize(argument: Any) -> bytes:
    """Return the text of an argument that the status may repeat."""
    return argument if isinstance(argument, bytes) else str(argument).encode(errors="surrogatepass")


def refusal(call: Callable[..., Any], *arguments: Any, **options: Any) -> Refusal | None:
    """Return the error of a call; None if it succeeds."""
    try:
        call(*arguments, **options)
    except grpc.RpcError as error:
        return parse_refusal(error, said=b"\n".join(map(_serialize, (*arguments, *options.values()))))
    return None


class Expected:
    """Holds the error that `refused` caught."""

    refusal: Refusal

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the error."""
        return getattr(self.__dict__["refusal"], name)


@contextmanager
def refused(reason: str) -> Iterator[Expected]:
    """Expect that the call within fails with this reason."""
    expected = Expected()
    with pytest.raises(grpc.RpcError) as raised:
        yield expected
    expected.refusal = parse_refusal(raised.value)
    assert expected.refusal.reason == reason, expected.refusal.text


def list_shortages(shortages: dict[str, tuple[int, int]]) -> dict[str, str]:
    """Return the metadata of OUT_OF_STOCK for these SKUs, each with the requested and the available units."""
    metadata = {"skus": ",".join(shortages)}
    for number, (sku, (requested, available)) in enumerate(shortages.items(), start=1):
        metadata |= {f"sku-{number}": sku, f"requested-{number}": f"{requested}", f"available-{number}": f"{available}"}
    return metadata
