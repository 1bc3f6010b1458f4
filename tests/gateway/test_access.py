"""Who may no longer read: a cached token, an etag or an idempotency key opens nothing to anyone else, nor later."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from tests.support.gateways import GatewayProcess, HttpReply

NUMBERS = itertools.count()
PRODUCT = "/v1/products/tea"


@pytest.fixture(scope="module", autouse=True)
def _product(gateway: GatewayProcess) -> None:
    assert gateway.send("POST", "/v1/products?productId=tea", {"displayName": "Tea"}).status == 200


def make_reader(gateway: GatewayProcess, *roles: str) -> tuple[str, str, str]:
    """Create an account with a key; return the account, the key and its secret."""
    body = {"displayName": f"Reader {next(NUMBERS)}", "roles": list(roles or ("roles/admin",))}
    account = gateway.send("POST", "/v1/serviceAccounts", body)
    assert account.status == 200, account.body
    key = gateway.send("POST", f"/v1/{account.json['name']}/apiKeys", {"displayName": "reader"})
    assert key.status == 200, key.body
    return account.json["name"], key.json["apiKey"]["name"], key.json["secret"]


def revoke_key(gateway: GatewayProcess, _account: str, key: str) -> HttpReply:
    """Revoke the key."""
    return gateway.send("POST", f"/v1/{key}:revoke", {})


def disable_account(gateway: GatewayProcess, account: str, _key: str) -> HttpReply:
    """Disable the account."""
    return gateway.send("PATCH", f"/v1/{account}", {"disabled": True})


@pytest.mark.parametrize("end", [revoke_key, disable_account])
def test_cached_token_ends_with_its_key_at_once(
    gateway: GatewayProcess, end: Callable[[GatewayProcess, str, str], HttpReply]
) -> None:
    account, key, secret = make_reader(gateway)
    bearer = {"authorization": f"Bearer {secret}"}
    read = gateway.send("GET", PRODUCT, **bearer)
    assert read.status == 200  # the token is cached from here on
    ended = end(gateway, account, key)
    assert ended.status == 200, ended.body
    for headers in (bearer, bearer | {"if_none_match": read.headers["etag"]}, bearer | {"if_none_match": "*"}):
        later = gateway.send("GET", PRODUCT, **headers)
        assert later.status == 401, later.body
        assert "etag" not in later.headers


def test_etag_opens_nothing_without_the_permission(gateway: GatewayProcess) -> None:
    role = gateway.send("POST", "/v1/roles?roleId=stocker", {"displayName": "S", "permissions": ["orders.read"]})
    assert role.status == 200, role.body
    _, _, secret = make_reader(gateway, role.json["name"])
    etag = gateway.send("GET", PRODUCT).headers["etag"]
    for condition in (etag, "*", '"v0"'):
        reply = gateway.send("GET", PRODUCT, authorization=f"Bearer {secret}", if_none_match=condition)
        assert (reply.status, reply.reason) == (403, "PERMISSION_DENIED")
        assert "etag" not in reply.headers


def test_output_only_field_is_ignored_and_refused_in_a_mask(gateway: GatewayProcess) -> None:
    before = gateway.send("GET", PRODUCT).json
    ignored = {"createTime": "2020-01-01T00:00:00Z", "state": "PRODUCT_STATE_ARCHIVED"}
    alone = gateway.send("PATCH", PRODUCT, ignored)
    assert (alone.status, alone.json) == (200, before)
    beside = gateway.send("PATCH", PRODUCT, ignored | {"description": "Leaves"})
    assert beside.json["description"] == "Leaves"
    assert (beside.json["createTime"], beside.json.get("state")) == (before["createTime"], before.get("state"))
    named = gateway.send("PATCH", f"{PRODUCT}?updateMask=state", ignored)
    assert (named.status, named.reason) == (400, "INVALID_UPDATE_MASK")
    assert named.json["error"]["message"].startswith("parameter updateMask: 'state' cannot be changed; use one of: ")
