"""Rate limits: who calls too often is refused and told when to come back; others notice nothing."""

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
from storekeep.server.interceptors.rate_limits import CLASSES, Rate, TokenBuckets, class_of, rates_of
from storekeep.server.transport.budgets import address_of
from storekeep.server.transport.contract import read_contract
from storekeep.v1 import auth_pb2, auth_pb2_grpc, orders_pb2
from tests.conftest import MakeServer
from tests.support.processes import ServerProcess
from tests.support.proxies import Proxy
from tests.support.refusals import Refusal, refusal_of, refused
from tests.support.shops import Shop, new_id

CONTRACT = read_contract()
FLOOD_PER_S = 300
FLOOD_S = 2.0
WRITES_BEFORE_S = 1.0
LEAST_SHARE = 0.2
"""Of its usual writes, what a writer has to manage at least during the flood: before there were limits it was 3 %."""
SLOW = {"rate_limit_burst_s": "0.001", "rate_limits_per_address": "public=0"}

sqlite = pytest.mark.engine("sqlite", reason="a limit is reached before the database")


@contextmanager
def shop_on(address: str, api_key: str) -> Iterator[Shop]:
    """The holder of a key, on a connection of its own."""
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield Shop(channel, api_key=api_key)


def outcomes(call: Callable[[], Any], times: int) -> Counter[str]:
    """How often a call was answered, as `OK`, and refused for each reason."""
    found: Counter[str] = Counter()
    for _ in range(times):
        try:
            call()
            found["OK"] += 1
        except grpc.RpcError as error:
            found[refusal_of(error).reason] += 1
    return found


def limited(call: Callable[[], Any]) -> tuple[Refusal, dict[str, Any]]:
    """How a call is refused by a rate limit, and its trailing metadata."""
    try:
        call()
    except grpc.RpcError as error:
        return refusal_of(error), dict(error.trailing_metadata())  # type: ignore[attr-defined]  # a call's error
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
    assert address_of(peer) == address


def test_every_method_has_a_class_and_every_class_a_method():
    found = {path: class_of(method, changes=CONTRACT.changes) for path, method in CONTRACT.methods.items()}
    assert set(found.values()) == set(CLASSES)
    assert found["/storekeep.v1.AuthService/IssueToken"] == "public"
    assert found["/storekeep.v1.AuthService/WhoAmI"] == "read"
    assert found["/storekeep.v1.OrderService/PlaceOrder"] == "write"
    assert found["/storekeep.v1.OrderService/ImportOrders"] == "bulk"
    assert found["/storekeep.v1.AuthService/CreateRole"] == "admin"


def test_rates_of_a_setting():
    assert rates_of("public=100 read=0  write=0.5", burst_s=2.0) == {"public": Rate(100, 200), "write": Rate(0.5, 1)}


# -- keys, accounts and addresses


@sqlite
@pytest.mark.parametrize("limit", ["key", "account"])
def test_caller_over_its_limit_is_told_and_others_are_not_held_up(make_server: MakeServer, limit: str):
    server = make_server(metrics_listen="127.0.0.1:0", **{f"rate_limits_per_{limit}": "write=0.01"}, **SLOW)
    with shop_on(server.address, server.admin_key) as shop:
        other = auth_pb2.ServiceAccount(display_name="other", roles=["roles/admin"])
        account = shop.auth.CreateServiceAccount(
            auth_pb2.CreateServiceAccountRequest(service_account=other, service_account_id=new_id("a"))
        )
        made = shop.auth.CreateApiKey(auth_pb2.CreateApiKeyRequest(parent=account.name, api_key={}))
        shop.category()
        refusal, trailers = limited(shop.category)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert refusal.metadata == {"limit": f"write calls per {limit}"}
        assert 1 < (refusal.retry_after_s or 0) <= 100
        assert trailers["ratelimit-limit"] == "0.01"
        assert trailers["ratelimit-remaining"] == "0"
        assert 1 < int(trailers["ratelimit-reset"]) == int(trailers["retry-after"]) <= 100
        shop.auth.WhoAmI(auth_pb2.WhoAmIRequest())
        with shop_on(server.address, made.secret) as others:
            others.category()
    with shop_on(server.address, server.admin_key) as again, refused("RATE_LIMITED"):
        again.category()  # another session of the same key
    assert f'storekeep_calls_rate_limited_total{{limit="write calls per {limit}"}} 2.0' in metrics_of(server)


def metrics_of(server: ServerProcess) -> str:
    """The page of metrics, whose address is in the server's output."""
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
        # One connection is of one worker, which has ten calls for each address, be it the leader or not.
        assert outcomes(lambda: issue(request, timeout=60), 12) == {"OK": 10, "RATE_LIMITED": 2}


# -- wrong credentials


@pytest.fixture
def elsewhere() -> Iterator[Callable[[ServerProcess], str]]:
    """Gives an address at which a server is reached from another one than 127.0.0.1."""
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
    make_server: MakeServer, elsewhere: Callable[[ServerProcess], str]
):
    server = make_server(failed_credentials_burst="5", failed_credentials_per_s="0.01")
    wrong = server.admin_key[:-1] + ("a" if server.admin_key[-1] != "a" else "b")  # its public part is right
    with (
        grpc.insecure_channel(server.address) as channel,
        shop_on(elsewhere(server), server.admin_key) as owner,
        shop_on(server.address, server.admin_key) as neighbour,
    ):
        issue = auth_pb2_grpc.AuthServiceStub(channel).IssueToken
        request = auth_pb2.IssueTokenRequest(api_key=wrong)
        assert outcomes(lambda: issue(request, timeout=60), 8) == {"API_KEY_INVALID": 5, "RATE_LIMITED": 3}
        refusal, _ = limited(lambda: issue(request, timeout=60))
        assert refusal.metadata == {"limit": "failed credentials per address"}
        assert refusal.retry_after_s
        neighbour.category()  # a token in use goes on, also at that address
        owner.category()
        with shop_on(elsewhere(server), server.admin_key) as again:
            again.category()


@sqlite
def test_wrong_keys_of_one_id_from_many_addresses_are_slowed_down(
    make_server: MakeServer, elsewhere: Callable[[ServerProcess], str]
):
    server = make_server(failed_credentials_burst="5", failed_credentials_per_s="0.01")
    wrong = auth_pb2.IssueTokenRequest(api_key=server.admin_key[:-1] + "-")
    guess = auth_pb2.IssueTokenRequest(api_key=server.admin_key[:-1] + ("a" if server.admin_key[-1] != "a" else "b"))
    found: Counter[str] = Counter()
    for address in [elsewhere(server) for _ in range(4)]:
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            issue = auth_pb2_grpc.AuthServiceStub(channel).IssueToken
            found += outcomes(lambda issue=issue: issue(guess, timeout=60), 3)
            found += outcomes(lambda issue=issue: issue(wrong, timeout=60), 1)
    assert found["RATE_LIMITED"] >= 4
    with Storekeep(elsewhere(server), api_key=server.admin_key) as owner:
        assert owner.auth.who_am_i().subject


@sqlite
def test_forged_tokens_are_refused_unread_after_some(make_server: MakeServer):
    server = make_server(failed_credentials_burst="5", failed_credentials_per_s="0.01")
    with shop_on(server.address, server.admin_key) as shop:
        get = shop.bare_channel.unary_unary("/storekeep.v1.OrderService/GetOrder")
        place = shop.bare_channel.unary_unary("/storekeep.v1.OrderService/PlaceOrder")
        forged = (("authorization", f"Bearer {shop.token[:-4]}AAAA"),)
        raw = orders_pb2.GetOrderRequest(name="orders/1").SerializeToString()
        assert outcomes(lambda: get(raw, metadata=forged, timeout=60), 3) == {"UNAUTHENTICATED": 3}
        assert outcomes(lambda: place(raw, metadata=forged, timeout=60), 4) == {"UNAUTHENTICATED": 2, "RATE_LIMITED": 2}
        assert outcomes(lambda: get(raw, timeout=60), 20) == {"UNAUTHENTICATED": 20}  # without one, nothing is guessed
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
                found[refusal_of(error).reason if error else "OK"] += 1

    threads = 4
    with shop_on(server.address, server.admin_key) as shop:
        before = writes_in(shop, WRITES_BEFORE_S)
        attackers = [threading.Thread(target=flood, args=[number]) for number in range(threads)]
        for attacker in attackers:
            attacker.start()
        during = writes_in(shop, FLOOD_S)
        ends.set()
        for attacker in attackers:
            attacker.join()
    assert found["RATE_LIMITED"] > found["UNAUTHENTICATED"] > 0
    assert set(found) <= {"RATE_LIMITED", "UNAUTHENTICATED", "OVERLOADED"}
    assert during / FLOOD_S > LEAST_SHARE * before / WRITES_BEFORE_S


def writes_in(shop: Shop, seconds: float) -> int:
    """How many changes a caller makes in this time, one after the other."""
    written, give_up = 0, time.monotonic() + seconds
    while time.monotonic() < give_up:
        shop.category()
        written += 1
    return written
