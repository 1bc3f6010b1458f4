"""Downloads of the keys of an identity provider: discovery, and what a bad provider could reply."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storekeep.server.integrations.addresses import AddressRules
from storekeep.server.integrations.provider_keys import DISCOVERY_PATH, KeysNotAvailable, ProviderDownloads
from storekeep.server.integrations.requests import Sender
from storekeep.server.transport.provider_tokens import KeySetUnreadable, parse_key_set
from tests.support.mock_providers import MockProvider

LOCAL = AddressRules(ports=frozenset(), networks=(ipaddress.ip_network("127.0.0.0/8"),))
BODY_BYTES_MAX = 64 * 1024
JWKS_PATH = "/jwks"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockProvider]:
    with MockProvider(tmp_path_factory.mktemp("provider")) as provider:
        yield provider


@pytest.fixture
def provider(started: MockProvider) -> Iterator[MockProvider]:
    yield started
    started.replaced.clear()
    started.delays_s.clear()


def make_downloads(
    provider: MockProvider, *, rules: AddressRules = LOCAL, timeout_s: float = 30, issuer: str = "", jwks_url: str = ""
) -> ProviderDownloads:
    sender = Sender(rules, timeout_s=timeout_s, body_max_bytes=BODY_BYTES_MAX, ca_file=provider.ca_file)
    return ProviderDownloads(sender, issuer=issuer or provider.issuer, jwks_url=jwks_url)


def test_keys_are_found_by_discovery_and_by_url(provider: MockProvider):
    assert parse_key_set(make_downloads(provider).fetch())
    provider.replaced[DISCOVERY_PATH] = b"{}"
    assert parse_key_set(make_downloads(provider, jwks_url=f"{provider.issuer}{JWKS_PATH}").fetch())


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({}, "another issuer"),
        ({"issuer": "https://evil.example", "jwks_uri": "https://evil.example/keys"}, "another issuer"),
        ({"issuer": "OWN"}, "no jwks_uri"),
        ({"issuer": "OWN", "jwks_uri": ["x"]}, "no jwks_uri"),
        ({"issuer": "OWN", "jwks_uri": "http://127.0.0.1/keys"}, "absolute URL"),
        ({"issuer": "OWN", "jwks_uri": "file:///etc/passwd"}, "absolute URL"),
        ({"issuer": "OWN", "jwks_uri": "https://169.254.169.254/latest/meta-data"}, "private or reserved"),
        ({"issuer": "OWN", "jwks_uri": "https://10.0.0.1/keys"}, "private or reserved"),
        ([], "another issuer"),
    ],
)
def test_metadata_lead_to_no_other_place(provider: MockProvider, metadata: object, text: str):
    provider.replaced[DISCOVERY_PATH] = json.dumps(metadata).replace("OWN", provider.issuer).encode()
    with pytest.raises(KeysNotAvailable, match=text):
        make_downloads(provider).fetch()


@pytest.mark.parametrize("body", [b"[" * 50_000, b"not JSON", b"\xff\xfe", b"", b'{"issuer": "' + b"a" * 1_000_000])
def test_unreadable_metadata_are_an_error(provider: MockProvider, body: bytes):
    provider.replaced[DISCOVERY_PATH] = body
    with pytest.raises(KeysNotAvailable):
        make_downloads(provider).fetch()


def test_huge_key_set_is_cut_and_refused(provider: MockProvider):
    provider.replaced[JWKS_PATH] = json.dumps({"keys": [], "padding": "a" * 10_000_000}).encode()
    body = make_downloads(provider).fetch()
    assert len(body) == BODY_BYTES_MAX
    with pytest.raises(KeySetUnreadable):
        parse_key_set(body)


def test_slow_provider_is_given_up(provider: MockProvider):
    provider.delays_s[JWKS_PATH] = 120.0
    start_s = time.monotonic()
    with pytest.raises(KeysNotAvailable, match="no complete reply"):
        make_downloads(provider, timeout_s=1.0).fetch()
    assert time.monotonic() - start_s < 60


def test_provider_in_a_private_network_or_with_an_unknown_certificate_is_refused(
    provider: MockProvider, tmp_path: Path
):
    with pytest.raises(KeysNotAvailable, match="private or reserved"):
        make_downloads(provider, rules=AddressRules(ports=frozenset())).fetch()
    sender = Sender(LOCAL, timeout_s=30, body_max_bytes=BODY_BYTES_MAX)
    with pytest.raises(KeysNotAvailable, match="TLS"):
        ProviderDownloads(sender, issuer=provider.issuer, jwks_url="").fetch()
