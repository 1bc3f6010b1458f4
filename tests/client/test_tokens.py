"""The client fetches its access token, renews it early, and replaces it when the server rejects it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2

from storekeep.client import ApiKeyInvalid, Storekeep, TokenRevoked
from storekeep.client import tokens as tokens_module
from tests.support.scripted_server import Answer, ScriptedServer, fails, refuses


def bearers(scripted: ScriptedServer, rpc: str) -> list[str | None]:
    return [call.metadata.get("authorization") for call in scripted.calls_of(rpc)]


def test_first_call_fetches_a_token_with_the_api_key(scripted: ScriptedServer, client: Storekeep) -> None:
    client.products.get("products/a")
    client.products.get("products/a")
    (issued,) = scripted.calls_of("IssueToken")
    assert issued.request.api_key == "sk_test_0123456789"
    assert bearers(scripted, "GetProduct") == ["Bearer access-1"] * 2


def test_many_threads_at_once_fetch_one_token(scripted: ScriptedServer, client: Storekeep) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(client.products.get, ["products/a"] * 64))
    assert len(scripted.calls_of("IssueToken")) == 1


def test_token_near_its_end_is_renewed_by_refresh(
    scripted: ScriptedServer, client: Storekeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_module, "RENEW_AT_FRACTION", 0.0)
    client.products.get("products/a")
    client.products.get("products/a")
    (refreshed,) = scripted.calls_of("RefreshToken")
    assert refreshed.request.refresh_token == "refresh-1"
    assert bearers(scripted, "GetProduct") == ["Bearer access-1", "Bearer access-2"]


def test_refresh_that_is_refused_falls_back_to_the_api_key(
    scripted: ScriptedServer, client: Storekeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_module, "RENEW_AT_FRACTION", 0.0)
    client.products.get("products/a")
    scripted.scripts["RefreshToken"] = [refuses("TOKEN_REVOKED", code=code_pb2.UNAUTHENTICATED)]
    client.products.get("products/a")
    assert len(scripted.calls_of("IssueToken")) == 2
    assert bearers(scripted, "GetProduct")[-1] == "Bearer access-2"


def test_renewal_that_fails_leaves_the_token_in_use(
    scripted: ScriptedServer, client: Storekeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_module, "RENEW_AT_FRACTION", 0.0)
    client.products.get("products/a")
    scripted.scripts["RefreshToken"] = [refuses("TOKEN_REVOKED", code=code_pb2.UNAUTHENTICATED)]
    scripted.scripts["IssueToken"] = [refuses("API_KEY_INVALID", code=code_pb2.UNAUTHENTICATED)]
    client.products.get("products/a")
    client.products.get("products/a")
    assert bearers(scripted, "GetProduct") == ["Bearer access-1"] * 3
    assert len(scripted.calls_of("IssueToken")) == 2


def test_refresh_token_that_was_refused_is_never_sent_again(
    scripted: ScriptedServer, client: Storekeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_module, "RENEW_AT_FRACTION", 0.0)
    monkeypatch.setattr(tokens_module, "RENEW_RETRY_S", 0.0)
    client.products.get("products/a")
    scripted.scripts["RefreshToken"] = [refuses("TOKEN_REVOKED", code=code_pb2.UNAUTHENTICATED)]
    scripted.scripts["IssueToken"] = [refuses("API_KEY_INVALID", code=code_pb2.UNAUTHENTICATED)] * 3
    for _ in range(5):
        client.products.get("products/a")
    sent = [call.request.refresh_token for call in scripted.calls_of("RefreshToken")]
    assert sent == ["refresh-1", "refresh-2"]


@pytest.mark.parametrize(
    "refusal", [refuses("TOKEN_REVOKED", code=code_pb2.UNAUTHENTICATED), fails(grpc.StatusCode.UNKNOWN)]
)
def test_refresh_token_is_sent_once_though_nothing_follows_it(
    refusal: Answer, scripted: ScriptedServer, client: Storekeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_module, "LIFETIME_MIN_S", 0.0)
    scripted.token_lifetime_s = 0.0
    client.products.get("products/a")
    scripted.scripts["RefreshToken"] = [refusal]
    scripted.scripts["IssueToken"] = [refuses("API_KEY_INVALID", code=code_pb2.UNAUTHENTICATED)] * 2
    for _ in range(2):
        with pytest.raises(ApiKeyInvalid):
            client.products.get("products/a")
    client.products.get("products/a")
    assert [call.request.refresh_token for call in scripted.calls_of("RefreshToken")] == ["refresh-1"]


def test_token_that_is_over_is_replaced_before_the_call(
    scripted: ScriptedServer, client: Storekeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_module, "LIFETIME_MIN_S", 1)
    scripted.token_lifetime_s = 1
    client.products.get("products/a")
    time.sleep(1.1)
    client.products.get("products/a")
    assert bearers(scripted, "GetProduct") == ["Bearer access-1", "Bearer access-2"]


@pytest.mark.parametrize("reason", ["TOKEN_EXPIRED", "TOKEN_REVOKED", "UNAUTHENTICATED"])
def test_token_that_the_server_takes_no_more_is_replaced_once(
    reason: str, scripted: ScriptedServer, client: Storekeep
) -> None:
    scripted.scripts["GetProduct"] = [refuses(reason, code=code_pb2.UNAUTHENTICATED)]
    client.products.get("products/a")
    assert bearers(scripted, "GetProduct") == ["Bearer access-1", "Bearer access-2"]
    assert scripted.calls_of("RefreshToken") == []


def test_token_that_another_call_has_replaced_already_is_kept(scripted: ScriptedServer, client: Storekeep) -> None:
    refuse = refuses("TOKEN_REVOKED", code=code_pb2.UNAUTHENTICATED)
    both_sent = Barrier(2)

    def refuse_both(request: Message, context: grpc.ServicerContext) -> Message:
        both_sent.wait(60)
        return refuse(request, context)

    client.auth.who_am_i()
    scripted.scripts["GetProduct"] = [refuse_both, refuse_both]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(client.products.get, ["products/a", "products/b"]))
    assert len(scripted.calls_of("IssueToken")) == 2
    assert sorted(filter(None, bearers(scripted, "GetProduct"))) == ["Bearer access-1"] * 2 + ["Bearer access-2"] * 2


def test_fresh_token_that_is_refused_too_is_the_callers_business(scripted: ScriptedServer, client: Storekeep) -> None:
    scripted.scripts["GetProduct"] = [refuses("TOKEN_REVOKED", code=code_pb2.UNAUTHENTICATED)] * 3
    with pytest.raises(TokenRevoked):
        client.products.get("products/a")
    assert len(scripted.calls_of("GetProduct")) == 2


def test_refused_api_key_is_reported(scripted: ScriptedServer, client: Storekeep) -> None:
    scripted.scripts["IssueToken"] = [refuses("API_KEY_INVALID", code=code_pb2.UNAUTHENTICATED)]
    with pytest.raises(ApiKeyInvalid):
        client.products.get("products/a")
    assert scripted.calls_of("GetProduct") == []


def test_client_without_a_key_sends_no_token(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STOREKEEP_API_KEY", raising=False)
    with Storekeep(scripted.address) as client:
        client.products.get("products/a")
    assert bearers(scripted, "GetProduct") == [None]


def test_settings_come_from_the_environment(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOREKEEP_ADDRESS", scripted.address)
    monkeypatch.setenv("STOREKEEP_API_KEY", "sk_env_key\n")
    with Storekeep() as client:
        client.products.get("products/a")
    assert scripted.calls_of("IssueToken")[0].request.api_key == "sk_env_key"
