"""The gateway's cache of credentials: one exchange for each key at a time, bounded, and no key for another."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storekeep.client import ApiKey, ServiceAccount, Storekeep
from storekeep.gateway import client_limits
from storekeep.server.interceptors import credentials
from tests.support.gateways import GatewayProcess
from tests.support.processes import ServerProcess
from tests.support.shops import new_id

CACHED_MAX = 2


@pytest.fixture(scope="module")
def small_gateway(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that caches the tokens of two keys."""
    folder: Path = tmp_path_factory.mktemp("gateway")
    process = GatewayProcess(
        folder, server_address=server.address, api_key=server.admin_key, cached_tokens_max=str(CACHED_MAX)
    )
    yield process
    process.process.kill()


def make_keys(client: Storekeep, count: int) -> list[tuple[str, str]]:
    """Return the names and the secrets of new keys of a new account."""
    account = client.auth.create_service_account(
        ServiceAccount(display_name="Shop", roles=["roles/viewer"]), service_account_id=new_id("shop")
    )
    made = [client.auth.create_api_key(account.name, ApiKey(display_name="One")) for _ in range(count)]
    return [(one.api_key.name, one.secret) for one in made]


def use(gateway: GatewayProcess, secret: str) -> int:
    return gateway.send("GET", "/v1/products", authorization=f"Bearer {secret}").status


def count_exchanges(client: Storekeep, key_name: str) -> int:
    """Return how many tokens were issued for a key."""
    entries = client.audit.list(filter=f'api_key = "{key_name}"', page_size=1000)
    return sum(entry.method.endswith("/IssueToken") for entry in entries)


def test_first_requests_of_a_key_at_once_share_one_exchange(small_gateway: GatewayProcess, client: Storekeep) -> None:
    ((name, secret),) = make_keys(client, 1)
    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(lambda _: use(small_gateway, secret), range(24))) == {200}
    assert count_exchanges(client, name) == 1


def test_cache_keeps_the_keys_that_were_used_last(small_gateway: GatewayProcess, client: Storekeep) -> None:
    (first, first_secret), (second, second_secret), (_, third_secret) = make_keys(client, 3)
    for secret in (first_secret, second_secret, first_secret, third_secret, first_secret):
        assert use(small_gateway, secret) == 200
    assert (count_exchanges(client, first), count_exchanges(client, second)) == (1, 1)
    assert use(small_gateway, second_secret) == 200
    assert count_exchanges(client, second) == CACHED_MAX, "its token was dropped for that of the third key"


def test_key_that_differs_in_its_last_letters_is_another_key(small_gateway: GatewayProcess, client: Storekeep) -> None:
    ((_, secret),) = make_keys(client, 1)
    assert use(small_gateway, secret) == 200
    for wrong in (f"{secret[:-1]}{'a' if secret[-1] != 'a' else 'b'}", secret[:-1], f"{secret}a", secret.swapcase()):
        assert use(small_gateway, wrong) in (400, 401)
    assert use(small_gateway, secret) == 200


def test_gateway_and_server_count_the_same_failures():
    reasons = {
        "UNAUTHENTICATED",
        "API_KEY_INVALID",
        "CREDENTIALS_INVALID",
        "PASSWORD_LINK_INVALID",
        "IDENTITY_TOKEN_INVALID",
    }
    assert client_limits.WRONG_REASONS == credentials.WRONG_REASONS == reasons
