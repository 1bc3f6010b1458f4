"""What the gateway itself refuses: each has a reason of the contract, and docs/gateway.md names it."""

from __future__ import annotations

import re
from typing import Any

import grpc
import pytest

from storekeep.gateway import errors
from storekeep.gateway.errors import Refusal, build_error_reply, from_rpc_error
from storekeep.gateway.headers import RequestHeaders, format_etag
from storekeep.v1 import errors_pb2
from tests.support.checkout import ROOT

REFUSALS = [value for value in vars(errors).values() if isinstance(value, Refusal)]
ROW = re.compile(r"^\| (\d{3}) \| ([A-Z_]+) \|", re.MULTILINE)


def test_documented_refusals_are_those_of_the_code() -> None:
    documented = ROW.findall((ROOT / "docs/gateway.md").read_text())
    assert len(documented) == len(set(documented))
    assert set(documented) == {(str(refusal.http_status), refusal.reason) for refusal in REFUSALS}


def test_refusals_have_a_reason_of_the_contract() -> None:
    reasons = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.DESCRIPTOR.values_by_name}
    assert {refusal.reason for refusal in REFUSALS} <= reasons


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_failed_call_without_details_gets_a_reason(code: grpc.StatusCode) -> None:
    empty: Any = grpc.aio.Metadata()
    refused = from_rpc_error(grpc.aio.AioRpcError(code, empty, empty, details="text"))
    assert refused.reason
    assert 400 <= refused.http_status < 600
    assert build_error_reply(refused, request_id="r")[0].startswith(b'{"error":{"code":')


def test_call_that_a_stopping_server_cancels_may_be_retried() -> None:
    empty: Any = grpc.aio.Metadata()
    refused = from_rpc_error(grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, empty, empty))
    assert (refused.http_status, refused.reason) == (503, "STORAGE_UNAVAILABLE")
    assert (b"retry-after", b"1") in build_error_reply(refused, request_id="r")[1]


@pytest.mark.parametrize("etag", ["v3", 'a"b', "a\r\nX: y", "ü", "%", "a%22b", "\0", "\x7f", " ", "~!#[]{}", "\\"])
def test_any_etag_is_safe_in_a_header_and_comes_back(etag: str) -> None:
    name, value = format_etag(etag)
    assert (name, value.count(b'"'), value.isascii()) == (b"etag", 2, True)
    assert all(0x20 < byte < 0x7F for byte in value)
    assert RequestHeaders([(b"if-match", value)]).get_condition() == etag
    assert RequestHeaders([(b"if-none-match", b'"v0", W/' + value)]).matches_none(etag)
    assert RequestHeaders([(b"if-none-match", b'"v0"'), (b"if-none-match", value)]).matches_none(etag)
