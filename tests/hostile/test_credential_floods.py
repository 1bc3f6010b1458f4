"""Floods of wrong credentials: their address is rejected cheaply, and other callers are hardly delayed."""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from storekeep.server.interceptors.credentials import CREDENTIAL_REQUEST_BYTES_MAX
from storekeep.v1 import auth_pb2, auth_pb2_grpc, products_pb2
from tests.conftest import MakeServer
from tests.support.hostile.wire import GET, ISSUE, UNKNOWN, Attacker, Heard, frame_message
from tests.support.processes import ServerProcess
from tests.support.refusals import parse_refusal

CONNECTIONS = 4
AT_ONCE = 60
"""Calls in progress per connection; together more than the queue of public methods holds."""
PAUSE_S = 0.05
"""Pause between batches: the flood and the honest caller share a process, which must not be the bottleneck."""
LOGINS = 20
FLOOR_S = 1.0
"""Lower latencies are noise on a busy machine."""
OK, NOT_FOUND, RESOURCE_EXHAUSTED = 0, 5, 8
FAST_FLOOD_S = 2.0
REFRESH = "/storekeep.v1.AuthService/RefreshToken"

Flood = Callable[[int], tuple[str, bytes, list[tuple[str, str]]]]


def build_wrong_key(number: int) -> tuple[str, bytes, list[tuple[str, str]]]:
    """Build a login with an unknown key, a different one per number."""
    key = f"sk_{number:016d}_{'b' * 43}"
    return ISSUE, auth_pb2.IssueTokenRequest(api_key=key).SerializeToString(), []


def build_wrong_refresh_token(number: int) -> tuple[str, bytes, list[tuple[str, str]]]:
    """Build a refresh with an unknown token."""
    return REFRESH, auth_pb2.RefreshTokenRequest(refresh_token=f"rt_{number}").SerializeToString(), []


def build_garbage_token(number: int) -> tuple[str, bytes, list[tuple[str, str]]]:
    """Build a read with an access token without a valid signature."""
    return GET, b"", [("authorization", f"Bearer a.{number}.c")]


def build_unknown_call(_number: int) -> tuple[str, bytes, list[tuple[str, str]]]:
    """Build a call of an unknown method: a cheap rejection, at the same cost for the caller as other floods."""
    return UNKNOWN, b"", []


@contextmanager
def run_flood(server: ServerProcess, flood: Flood) -> Iterator[Counter[str]]:
    """Flood a server over several connections from 127.0.0.1; yield the number of replies per status."""
    statuses: Counter[str] = Counter()
    ends = threading.Event()

    def run(connection: int) -> None:
        with Attacker(server.address) as attacker, suppress(TimeoutError):
            number = connection * 10_000_000
            while not ends.is_set():
                streams = []
                for _ in range(AT_ONCE):
                    number += 1
                    path, message, extra = flood(number)
                    streams.append(attacker.open(path, frame_message(message), extra=extra, ends=True))
                for stream in streams:
                    heard = attacker.await_end(stream)
                    statuses[_outcome(heard)] += 1
                    del attacker.streams[stream]
                ends.wait(PAUSE_S)

    threads = [threading.Thread(target=run, args=(connection,), daemon=True) for connection in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        ends.set()
        for thread in threads:
            thread.join()


def _outcome(heard: Heard) -> str:
    """Return the status, and whether the reply has a retry delay."""
    raw = heard.headers.get("grpc-status-details-bin")
    if heard.status != RESOURCE_EXHAUSTED:
        return str(heard.status)
    reason = "RATE_LIMITED" if "retry-after" in heard.headers else heard.headers.get("grpc-message", "")
    return reason if raw else f"terse {reason.rpartition('[')[2].rstrip(']')}"


def time_logins(address: str, api_key: str, *, source: str, times: int = LOGINS) -> tuple[Counter[int | None], float]:
    """Log in repeatedly; return the number of replies per status and the median latency in seconds."""
    message = auth_pb2.IssueTokenRequest(api_key=api_key).SerializeToString()
    statuses: Counter[int | None] = Counter()
    took_s = []
    with Attacker(address, source=source) as caller:
        for _ in range(times):
            begun_s = time.monotonic()
            statuses[caller.call(ISSUE, message).status] += 1
            took_s.append(time.monotonic() - begun_s)
    return statuses, statistics.median(took_s)


@pytest.mark.parametrize("flood", [build_wrong_key, build_wrong_refresh_token, build_garbage_token])
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.engine("sqlite", reason="the flood is refused before the database")
def test_flood_of_wrong_credentials_costs_other_addresses_no_login(make_server: MakeServer, flood: Flood, workers: str):
    server = make_server("--workers", workers)
    with run_flood(server, build_unknown_call) as statuses:
        await_refusals(statuses)
        _, usual_s = time_logins(server.address, server.admin_key, source="127.0.0.2")
    with run_flood(server, flood) as statuses:
        await_refusals(statuses)
        during, flooded_s = time_logins(server.address, server.admin_key, source="127.0.0.2")
    assert during == {OK: LOGINS}
    assert flooded_s < max(FLOOR_S, 2 * usual_s)
    assert statuses["RATE_LIMITED"] > 0
    refused = sum(count for outcome, count in statuses.items() if outcome.endswith("RATE_LIMITED"))
    assert refused > 0.5 * statuses.total()


def await_refusals(statuses: Counter[str]) -> None:
    """Wait until the flood has been rejected often."""
    give_up_s = time.monotonic() + 60
    while statuses.total() < 4 * CONNECTIONS * AT_ONCE:
        assert time.monotonic() < give_up_s, statuses
        time.sleep(0.01)


@pytest.mark.engine("sqlite", reason="the flood is refused before the database")
def test_key_that_has_logged_in_goes_on_at_the_address_of_a_flood(make_server: MakeServer):
    server = make_server()
    assert time_logins(server.address, server.admin_key, source="127.0.0.1", times=1)[0] == {OK: 1}
    with run_flood(server, build_wrong_key) as statuses:
        await_refusals(statuses)
        assert time_logins(server.address, server.admin_key, source="127.0.0.1")[0] == {OK: LOGINS}


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.engine("sqlite", reason="a limit is reached before the database")
def test_only_the_kind_of_credential_that_failed_is_slowed_down(make_server: MakeServer, workers: str):
    server = make_server("--workers", workers, failed_credentials_burst="5", failed_credentials_per_s="0.001")
    with grpc.insecure_channel(server.address) as channel:
        auth = auth_pb2_grpc.AuthServiceStub(channel)
        tokens = auth.IssueToken(auth_pb2.IssueTokenRequest(api_key=server.admin_key), timeout=60)
        wrong = auth_pb2.IssueTokenRequest(api_key="wrong")
        for _ in range(8):
            get_outcome(lambda: auth.IssueToken(wrong, timeout=60))
        assert get_outcome(lambda: auth.IssueToken(wrong, timeout=60)) == "RATE_LIMITED"
        for _ in range(8):
            auth.GetJwks(auth_pb2.GetJwksRequest(), timeout=60)
        assert get_outcome(lambda: auth.IssueToken(auth_pb2.IssueTokenRequest(), timeout=60)) == "INVALID_FIELD"
        forged = (("authorization", "Bearer a.b.c"),)
        who = auth_pb2.WhoAmIRequest()
        assert get_outcome(lambda: auth.WhoAmI(who, metadata=forged, timeout=60)) == "UNAUTHENTICATED"
        auth.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=tokens.refresh_token), timeout=60)


@pytest.mark.engine("sqlite", reason="a limit is reached before the database")
def test_tokens_just_issued_work_at_an_address_whose_tokens_failed(make_server: MakeServer):
    server = make_server(failed_credentials_burst="5", failed_credentials_per_s="0.001")
    with grpc.insecure_channel(server.address) as channel:
        auth = auth_pb2_grpc.AuthServiceStub(channel)
        forged = (("authorization", "Bearer a.b.c"),)
        who, refresh = auth_pb2.WhoAmIRequest(), auth_pb2.RefreshTokenRequest
        told = [get_outcome(lambda: auth.WhoAmI(who, metadata=forged, timeout=60)) for _ in range(7)]
        assert told == ["UNAUTHENTICATED"] * 5 + ["RATE_LIMITED"] * 2
        told = [get_outcome(lambda: auth.RefreshToken(refresh(refresh_token="rt_x"), timeout=60)) for _ in range(7)]
        assert told == ["UNAUTHENTICATED"] * 5 + ["RATE_LIMITED"] * 2
        tokens = auth.IssueToken(auth_pb2.IssueTokenRequest(api_key=server.admin_key), timeout=60)
        tokens = auth.RefreshToken(refresh(refresh_token=tokens.refresh_token), timeout=60)
        shown = (("authorization", f"Bearer {tokens.access_token}"),)
        assert auth.WhoAmI(who, metadata=shown, timeout=60).subject


@pytest.mark.engine("sqlite", reason="a limit is reached before the database")
def test_refusal_of_a_wrong_credential_says_when_to_come_back(make_server: MakeServer):
    server = make_server(failed_credentials_burst="1", failed_credentials_per_s="0.01")
    with grpc.insecure_channel(server.address) as channel:
        auth = auth_pb2_grpc.AuthServiceStub(channel)
        wrong = auth_pb2.IssueTokenRequest(api_key="wrong")
        assert get_outcome(lambda: auth.IssueToken(wrong, timeout=60)) == "API_KEY_INVALID"
        with pytest.raises(grpc.RpcError) as refused:
            auth.IssueToken(wrong, timeout=60)
    refusal = parse_refusal(refused.value)
    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert 0 < (refusal.retry_after_s or 0) <= 100


MIB = 1024 * 1024
PADDINGS: dict[str, Callable[[bytes], bytes]] = {
    "an unknown field": lambda field: field + encode_field(1000, b"x" * CREDENTIAL_REQUEST_BYTES_MAX),
    "a small unknown field": lambda field: field + encode_field(1000, b"x"),
    "the field repeated": lambda field: field * 30,
    "the field repeated beyond what is parsed": lambda field: field * 200,
    "an empty field before": lambda field: field[:1] + b"\0" + field,
    "another credential before": lambda field: encode_field(1, b"x" * 2_000) + field,
    "a length in five bytes": lambda field: field[:1] + bytes([field[1] | 128, 128, 128, 128, 0]) + field[2:],
}
"""Other ways to send the same wrong credential, given its field (number 1)."""


def encode_field(number: int, value: bytes) -> bytes:
    """Encode a length-delimited field of a protobuf message."""
    return encode_varint(number << 3 | 2) + encode_varint(len(value)) + value


def encode_varint(value: int) -> bytes:
    """Encode an unsigned integer as protobuf does."""
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


@pytest.mark.parametrize(
    ("build", "reason"), [(build_wrong_key, "API_KEY_INVALID"), (build_wrong_refresh_token, "UNAUTHENTICATED")]
)
@pytest.mark.engine("sqlite", reason="a limit is reached before the database")
def test_padding_does_not_hide_a_wrong_credential(make_server: MakeServer, build: Flood, reason: str):
    """A login that is too large to be parsed once counted as one without a credential."""
    server = make_server(failed_credentials_burst="3", failed_credentials_per_s="0.001")
    for number, (name, pad) in enumerate(PADDINGS.items(), start=1):
        path, message, _ = build(number)
        with Attacker(server.address, source=f"127.0.1.{number}") as attacker:
            told = [attacker.call(path, pad(message)).reason for _ in range(5)]
        assert told == [reason] * 3 + ["RATE_LIMITED"] * 2, name


@pytest.mark.parametrize("path", [ISSUE, REFRESH])
@pytest.mark.engine("sqlite", reason="a limit is reached before the database")
def test_credential_longer_than_any_is_compared_with_none(server: ServerProcess, path: str):
    with Attacker(server.address) as attacker:
        assert attacker.call(path, encode_field(1, b"x" * (MIB - 100))).reason == "INVALID_FIELD"


@pytest.mark.engine("sqlite", reason="a limit is reached before the database")
def test_padded_login_that_succeeds_proves_no_other_padded_login(make_server: MakeServer):
    server = make_server(failed_credentials_burst="3", failed_credentials_per_s="0.001")
    padding = encode_field(1000, b"x" * CREDENTIAL_REQUEST_BYTES_MAX)
    good = auth_pb2.IssueTokenRequest(api_key=server.admin_key).SerializeToString() + padding
    wrong = build_wrong_key(1)[1] + padding
    with Attacker(server.address) as attacker:
        assert attacker.call(ISSUE, good).status == OK
        told = [attacker.call(ISSUE, wrong).reason for _ in range(5)]
        assert told == ["API_KEY_INVALID"] * 3 + ["RATE_LIMITED"] * 2
        assert attacker.call(ISSUE, good).reason == "RATE_LIMITED"
        assert attacker.call(ISSUE, good.removesuffix(padding)).status == RESOURCE_EXHAUSTED


def get_outcome(call: Callable[[], object]) -> str:
    """Return `OK`, or the error reason of a call."""
    try:
        call()
    except grpc.RpcError as error:
        return parse_refusal(error).reason
    return "OK"


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
@pytest.mark.engine("sqlite", reason="the flood is refused before the database")
def test_reads_are_served_beside_the_fastest_flood_of_wrong_keys(make_server: MakeServer, source: str):
    server = make_server(queue_wait_max_s="0.1")
    product = products_pb2.GetProductRequest(name="products/none").SerializeToString()
    statuses: Counter[int | None] = Counter()
    with grpc.insecure_channel(server.address) as channel:
        auth = auth_pb2_grpc.AuthServiceStub(channel)
        token = auth.IssueToken(auth_pb2.IssueTokenRequest(api_key=server.admin_key), timeout=60).access_token
    with Attacker(server.address, source=source) as caller, run_fast_flood(server.address):
        end_s = time.monotonic() + FAST_FLOOD_S
        while time.monotonic() < end_s:
            statuses[caller.call(GET, product, extra=[("authorization", f"Bearer {token}")]).status] += 1
    assert statuses[NOT_FOUND] > 0.5 * statuses.total(), statuses  # without priority a hundredth


@contextmanager
def run_fast_flood(address: str) -> Iterator[None]:
    """Run `logins_flood` over three connections, from 127.0.0.1."""
    command = [sys.executable, "-m", "tests.support.hostile.logins_flood", address, "3"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()
