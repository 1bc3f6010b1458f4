"""The address of a client behind trusted proxies, and what the limits per address count together."""

from __future__ import annotations

import pytest

from storekeep.gateway.addresses import ClientAddresses, get_limit_key

TRUSTED = ("127.0.0.1", "10.0.0.0/8", "fd00::/8")


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.1", [b"203.0.113.9"], "192.0.2.1"),  # no trusted proxy sent it
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", [b"203.0.113.9"], "203.0.113.9"),
        ("127.0.0.1", [b"1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        ("127.0.0.1", [b"1.1.1.1, 203.0.113.9, 10.1.2.3"], "203.0.113.9"),
        ("127.0.0.1", [b"1.1.1.1", b"203.0.113.9"], "203.0.113.9"),
        ("127.0.0.1", [b"10.1.2.3"], "10.1.2.3"),
        ("127.0.0.1", [b"unknown"], "127.0.0.1"),
        ("127.0.0.1", [b"1.1.1.1, unknown, 10.1.2.3"], "10.1.2.3"),
        ("127.0.0.1", [b"\xff"], "127.0.0.1"),
        ("127.0.0.1", [b""], "127.0.0.1"),
        ("127.0.0.1", [b"1.1.1.1," + b"10.0.0.1," * 5_000 + b"10.0.0.2"], "10.0.0.1"),
        ("::ffff:127.0.0.1", [b"2001:db8::5"], "2001:db8::5"),
        ("fd00::1", [b"::ffff:203.0.113.9"], "203.0.113.9"),
        ("", [b"203.0.113.9"], ""),
    ],
)
def test_last_address_that_is_no_trusted_proxy_is_the_client(peer: str, forwarded: list[bytes], expected: str) -> None:
    headers = [(b"host", b"x"), *((b"x-forwarded-for", value) for value in forwarded)]
    assert ClientAddresses(TRUSTED).find(peer, headers) == expected
    assert ClientAddresses(()).find(peer, headers) == peer


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("", ""),
    ],
)
def test_ipv6_network_is_limited_as_one_address(address: str, key: str) -> None:
    assert get_limit_key(address) == key
