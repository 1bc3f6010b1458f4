"""Rate limits: callers over the limit are rejected with a retry delay; others are not affected."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from storekeep.client import ApiKeyInvalid, Storekeep
from storekeep.server.interceptors.rate_limits import CLASSES, Rate, TokenBuckets, classify_method, parse_rates
from storekeep.server.transport.budgets import get_peer_address
from storekeep.server.transport.contract import read_contract
from storekeep.v1 import auth_pb2, auth_pb2_grpc, orders_pb2
from tests.conftest import MakeServer
from tests.support.checkout import ROOT
from tests.support.processes import ServerProcess
from tests.support.proxies import Proxy
from tests.support.refusals import Refusal, parse_refusal, refused
from tests.support.shops import Shop, new_id

CONTRACT = read_contract()
FLOOD_PER_S = 300
FLOOD_S = 2.0
WRITES_BEFORE_S = 1.0
LEAST_SHARE = 0.05
"""Least share of a client's usual writes during the flood, also on a busy machine; without limits it was 3 %."""
SLOW = {"rate_limit_burst_s": "0.001", "rate_limits_per_address": "public=0"}

sqlite = pytest.mark.engine("sqlite", reason="a limit is reached before the database")


@contextmanager
def connect_shop(address: str, api_key: str) -> Iterator[Shop]:
    """Sign in with a key, on a separate connection."""
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield Shop(channel, api_key=api_key)


def count_outcomes(call: Callable[[], Any], times: int) -> Counter[str]:
    """Return how often a call succeeded (`OK`) and how often it failed, by reason."""
    found: Counter[str] = Counter()
    for _ in range(times):
        try:
            call()
            found["OK"] += 1
        except grpc.RpcError as error:
            found[parse_refusal(error).reason] += 1
    return found


def call_limited(call: Callable[[], Any]) -> tuple[Refusal, dict[str, Any]]:
    """Return the rejection of a rate-limited call and its trailing metadata."""
    try:
        call()
    except grpc.RpcError as error:
        return parse_refusal(error), dict(error.trailing_metadata())  # type: ignore[attr-defined]  # the error is a call
    raise AssertionError("it was not refused")


# -- buckets


def test_bucket_gives_its_burst_and_then_its_rate():
    buckets = TokenBuckets(Rate(10, 5), buckets_max=10)
    assert [buckets.take("a", 100.0) for _ in range(5)] == [0.0] * 5
    assert buckets.take("a", 100.0) == pytest.approx(0.1)
    assert buckets.take("b", 100.0) == 0.0
    assert buckets.take("a", 100.11) == 0.0
    assert buckets.take("a", 100.12) > 0.0
    assert not buckets.is_full("a", 100.2)
    assert buckets.is_full("a", 101.0)


def test_refused_calls_take_no_token():
    buckets = TokenBuckets(Rate(1, 1), buckets_max=10)
    assert [buckets.take("a", 0.5) > 0 for _ in range(100)] == [False] + [True] * 99
    assert buckets.take("a", 1.51) == 0.0


def test_empty_bucket_owes_at_most_its_capacity():
    buckets = TokenBuckets(Rate(1, 5), buckets_max=10)
    for _ in range(8):
        buckets.charge("a", 100.0)
    assert buckets.take("a", 100.0) == pytest.approx(4.0)
    for _ in range(100):
        buckets.charge("a", 100.0)
    assert buckets.take("a", 100.0) == pytest.approx(6.0)
    assert buckets.take("a", 106.01) == 0.0


def test_number_of_buckets_is_limited():
    buckets = TokenBuckets(Rate(1, 1), buckets_max=3)
    for key in "abcd":
        buckets.take(key, 5.0)
    assert buckets.take("d", 5.0) > 0
    assert buckets.take("b", 5.0) > 0
    assert buckets.take("a", 5.0) == 0.0


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:40404", "192.0.2.1"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:40404", "2001:db8:1:2::/64"),
        ("ipv6:%5B2001:db8:1:2::1%5D:1", "2001:db8:1:2::/64"),
        ("ipv6:%5B::1%5D:40404", "::/64"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:1", "192.0.2.1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:1", "fe80::/64"),
        ("unix:/run/storekeep", "unix"),
        ("unix:", "unix"),
    ],
)
def test_address_of_a_peer(peer: str, address: str):
    assert get_peer_address(peer) == address


def test_every_method_has_a_class_and_every_class_a_method():
    found = {path: classify_method(method, changes=CONTRACT.changes) for path, method in CONTRACT.methods.items()}
    assert set(found.values()) == set(CLASSES)
    assert found["/storekeep.v1.AuthService/IssueToken"] == "public"
    assert found["/storekeep.v1.AuthService/WhoAmI"] == "read"
    assert found["/storekeep.v1.OrderService/PlaceOrder"] == "write"
    assert found["/storekeep.v1.OrderService/ImportOrders"] == "bulk"
    assert found["/storekeep.v1.AuthService/CreateRole"] == "admin"


def test_rates_of_a_setting():
    assert parse_rates("public=100 read=0  write=0.5", burst_s=2.0) == {"public": Rate(100, 200), "write": Rate(0.5, 1)}


# -- retry policies of gRPC


@sqlite
def test_clients_of_other_languages_retry_as_told(make_server: MakeServer):
    server = make_server(rate_limits_per_address="public=4", rate_limit_burst_s="0.25")
    config = (ROOT / "protos/service_config.json").read_text()
    options = [("grpc.service_config", config), ("grpc.enable_retries", 1), ("grpc.use_local_subchannel_pool", 1)]
    with (
        grpc.insecure_channel(server.address) as once,
        grpc.insecure_channel(server.address, options=options) as channel,
    ):
        plain, retried = auth_pb2_grpc.AuthServiceStub(once), auth_pb2_grpc.AuthServiceStub(channel)
        refusal, trailers = call_limited(lambda: [plain.GetJwks(auth_pb2.GetJwksRequest()) for _ in range(100)])
        assert refusal.reason == "RATE_LIMITED"
        assert int(trailers["grpc-retry-pushback-ms"]) == pytest.approx((refusal.retry_after_s or 0) * 1000, abs=1)
        for _ in range(4):
            retried.GetJwks(auth_pb2.GetJwksRequest(), timeout=60)
        too_large = auth_pb2.IssueTokenRequest(api_key="x" * 1_500_000)
        while refusal.reason == "RATE_LIMITED":
            time.sleep(refusal.retry_after_s or 0)
            refusal, trailers = call_limited(lambda: plain.IssueToken(too_large, timeout=60))
    assert (refusal.reason, trailers["grpc-retry-pushback-ms"]) == ("MESSAGE_TOO_LARGE", "-1")


# -- keys, accounts and addresses


@sqlite
@pytest.mark.parametrize("limit", ["key", "account"])
def test_caller_over_its_limit_is_told_and_others_are_not_held_up(make_server: MakeServer, limit: str):
    server = make_server(metrics_listen="127.0.0.1:0", **{f"rate_limits_per_{limit}": "write=0.01"}, **SLOW)
    with connect_shop(server.address, server.admin_key) as shop:
        other = auth_pb2.ServiceAccount(display_name="other", roles=["roles/admin"])
        account = shop.auth.CreateServiceAccount(
            auth_pb2.CreateServiceAccountRequest(service_account=other, service_account_id=new_id("a"))
        )
        made = shop.auth.CreateApiKey(auth_pb2.CreateApiKeyRequest(parent=account.name, api_key={}))
        shop.category()
        refusal, trailers = call_limited(shop.category)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert refusal.metadata == {"limit": f"write calls per {limit}"}
        assert 1 < (refusal.retry_after_s or 0) <= 100
        assert trailers["ratelimit-limit"] == "0.01"
        assert trailers["ratelimit-remaining"] == "0"
        assert 1 < int(trailers["ratelimit-reset"]) == int(trailers["retry-after"]) <= 100
        shop.auth.WhoAmI(auth_pb2.WhoAmIRequest())
        with connect_shop(server.address, made.secret) as others:
            others.category()
    with connect_shop(server.address, server.admin_key) as again, refused("RATE_LIMITED"):
        again.category()  # a second session of the same key
    assert f'storekeep_calls_rate_limited_total{{limit="write calls per {limit}"}} 2.0' in read_metrics(server)


def read_metrics(server: ServerProcess) -> str:
    """Return the metrics; their address is in the server's output."""
    line = next(line for line in server.output().splitlines() if "http://" in line)
    url = line[line.index("http://") :].split()[0].rstrip(",").rstrip("/")
    page = url if url.endswith("/metrics") else f"{url}/metrics"
    with urllib.request.urlopen(page, timeout=30) as reply:
        return str(reply.read().decode())


@sqlite
def test_client_library_calls_again_when_it_is_told_to(make_server: MakeServer):
    server = make_server(rate_limits_per_key="read=2", **SLOW)
    with Storekeep(server.address, api_key=server.admin_key) as client:
        assert len({client.auth.who_am_i().subject for _ in range(4)}) == 1


@sqlite
def test_public_calls_are_limited_by_address_and_forwarded_ones_once(make_server: MakeServer):
    server = make_server("--workers", "2", rate_limits_per_address="public=0.01", rate_limit_burst_s="1000")
    with grpc.insecure_channel(server.address) as channel:
        issue = auth_pb2_grpc.AuthServiceStub(channel).IssueToken
        request = auth_pb2.IssueTokenRequest(api_key=server.admin_key)
        # A connection belongs to one worker, which allows ten calls per address, leader or not.
        assert count_outcomes(lambda: issue(request, timeout=60), 12) == {"OK": 10, "RATE_LIMITED": 2}


# -- wrong credentials


@pytest.fixture
def other_address() -> Iterator[Callable[[ServerProcess], str]]:
    """Yield a function that returns a server address reached from another address than 127.0.0.1."""
    proxies: list[Proxy] = []

    def reach(server: ServerProcess) -> str:
        port = int(server.address.rpartition(":")[2])
        proxies.append(Proxy(port, source=f"127.0.0.{len(proxies) + 5}"))
        return f"127.0.0.1:{proxies[-1].port}"

    yield reach
    for proxy in proxies:
        proxy.close()


@sqlite
def test_wrong_keys_slow_down_their_address_and_nobody_else(
    make_server: MakeServer, other_address: Callable[[ServerProcess], str]
):
    server = make_server(failed_credentials_burst="5", failed_credentials_per_s="0.01")
    wrong = server.admin_key[:-1] + ("a" if server.admin_key[-1] != "a" else "b")  # its public part is valid
    with (
        grpc.insecure_channel(server.address) as channel,
        connect_shop(other_address(server), server.admin_key) as owner,
        connect_shop(server.address, server.admin_key) as neighbour,
    ):
        issue = auth_pb2_grpc.AuthServiceStub(channel).IssueToken
        request = auth_pb2.IssueTokenRequest(api_key=wrong)
        assert count_outcomes(lambda: issue(request, timeout=60), 8) == {"API_KEY_INVALID": 5, "RATE_LIMITED": 3}
        refusal, _ = call_limited(lambda: issue(request, timeout=60))
        assert refusal.metadata == {"limit": "failed credentials per address"}
        assert refusal.retry_after_s
        neighbour.category()  # a proven token keeps working, also at that address
        owner.category()
        with connect_shop(other_address(server), server.admin_key) as again:
            again.category()


@sqlite
def test_wrong_keys_of_one_id_from_many_addresses_are_slowed_down(
    make_server: MakeServer, other_address: Callable[[ServerProcess], str]
):
    server = make_server(failed_credentials_burst="5", failed_credentials_per_s="0.01")
    wrong = auth_pb2.IssueTokenRequest(api_key=server.admin_key[:-1] + "-")
    guess = auth_pb2.IssueTokenRequest(api_key=server.admin_key[:-1] + ("a" if server.admin_key[-1] != "a" else "b"))
    found: Counter[str] = Counter()
    for address in [other_address(server) for _ in range(4)]:
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            issue = auth_pb2_grpc.AuthServiceStub(channel).IssueToken
            found += count_outcomes(lambda issue=issue: issue(guess, timeout=60), 3)
            found += count_outcomes(lambda issue=issue: issue(wrong, timeout=60), 1)
    assert found["RATE_LIMITED"] >= 4
    with Storekeep(other_address(server), api_key=server.admin_key) as owner:
        assert owner.auth.who_am_i().subject


@sqlite
def test_forged_tokens_are_refused_unread_after_some(make_server: MakeServer):
    server = make_server(failed_credentials_burst="5", failed_credentials_per_s="0.01")
    with connect_shop(server.address, server.admin_key) as shop:
        get = shop.bare_channel.unary_unary("/storekeep.v1.OrderService/GetOrder")
        place = shop.bare_channel.unary_unary("/storekeep.v1.OrderService/PlaceOrder")
        forged = (("authorization", f"Bearer {shop.token[:-4]}AAAA"),)
        raw = orders_pb2.GetOrderRequest(name="orders/1").SerializeToString()
        assert count_outcomes(lambda: get(raw, metadata=forged, timeout=60), 3) == {"UNAUTHENTICATED": 3}
        outcomes = count_outcomes(lambda: place(raw, metadata=forged, timeout=60), 4)
        assert outcomes == {"UNAUTHENTICATED": 2, "RATE_LIMITED": 2}
        assert count_outcomes(lambda: get(raw, timeout=60), 20) == {"UNAUTHENTICATED": 20}  # no token, no attempt
        shop.category()


@sqlite
def test_client_library_tells_a_wrong_key(make_server: MakeServer):
    server = make_server()
    with pytest.raises(ApiKeyInvalid), Storekeep(server.address, api_key=f"sk_{'a' * 16}_{'b' * 43}") as client:
        client.auth.who_am_i()


# -- attack 6


def test_writer_goes_on_while_unknown_refresh_tokens_come_in(make_server: MakeServer):
    server = make_server()
    found: Counter[str] = Counter()
    ends = threading.Event()

    def flood(number: int) -> None:
        with grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            refresh = auth_pb2_grpc.AuthServiceStub(channel).RefreshToken
            request = auth_pb2.RefreshTokenRequest(refresh_token=f"rt_{number}")
            calls = []
            while not ends.is_set():
                calls.append(refresh.future(request, timeout=60))
                ends.wait(threads / FLOOD_PER_S)
            for call in calls:
                error = call.exception()
                found[parse_refusal(error).reason if error else "OK"] += 1

    threads = 4
    with connect_shop(server.address, server.admin_key) as shop:
        before = count_writes(shop, WRITES_BEFORE_S)
        attackers = [threading.Thread(target=flood, args=[number]) for number in range(threads)]
        for attacker in attackers:
            attacker.start()
        during = count_writes(shop, FLOOD_S)
        ends.set()
        for attacker in attackers:
            attacker.join()
    assert found["RATE_LIMITED"] > found["UNAUTHENTICATED"] > 0
    assert set(found) <= {"RATE_LIMITED", "UNAUTHENTICATED", "OVERLOADED"}
    assert during / FLOOD_S > LEAST_SHARE * before / WRITES_BEFORE_S


def count_writes(shop: Shop, seconds: float) -> int:
    """Return the number of sequential writes that a caller completes in this time."""
    written, give_up = 0, time.monotonic() + seconds
    while time.monotonic() < give_up:
        shop.category()
        written += 1
    return written
