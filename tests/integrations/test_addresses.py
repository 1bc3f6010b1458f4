"""Outbound addresses: nothing that leads to the server's own host or network is allowed."""

from __future__ import annotations

import ipaddress

import pytest

from storekeep.server.integrations.addresses import AddressRules, HostNotFound, Target, TargetRefused
from storekeep.server.integrations.lookups import Lookups

RULES = AddressRules()
REFUSED_URLS = [
    "http://example.com/",
    "ftp://example.com/",
    "//example.com/",
    "https:///path",
    "https://",
    "",
    "https://example.com:80/",
    "https://example.com:22/",
    "https://example.com:0/",
    "https://example.com:65536/",
    "https://example.com:99999999999/",
    "https://example.com:/",
    "https://example.com:443:443/",
    "https://user@example.com/",
    "https://user:password@example.com/",
    "https://example.com@127.0.0.1/",
    "https://127.0.0.1#@example.com/",
    "https://example.com/#fragment",
    "https://example.com\\@127.0.0.1/",
    "https://example.com/a b",
    "https://example.com/\r\nhost: internal",
    "https://example.com/\n",
    "https://exam\u200dple.com/",
    "https://ⓔxample.com/",
    "https://\uff11\uff12\uff17.0.0.1/",
    "https://127。0。0。1/",
    "https://example..com/",
    "https://.example.com/",
    "https://-example.com/",
    "https://%31%32%37.0.0.1/",
    "https://127.0.0.1/",
    "https://localhost/",
    "https://receiver.LocalHost/",
    "https://127.1/",
    "https://2130706433/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://0x7f.0.0.1/",
    "https://0x7f000001/",
    "https://0x/",
    "https://127.0.0.01/",
    "https://0/",
    "https://0.0.0.0/",
    "https://10.0.0.1/",
    "https://100.100.100.200/",
    "https://168.63.129.16/",
    "https://169.254.169.254/latest/meta-data/",
    "https://172.16.0.1/",
    "https://192.0.0.192/",
    "https://192.168.1.1/",
    "https://198.18.0.1/",
    "https://224.0.0.1/",
    "https://255.255.255.255/",
    "https://[::]/",
    "https://[::1]/",
    "https://[::127.0.0.1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:8.8.8.8]/",
    "https://[0:0:0:0:0:ffff:7f00:1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b:1::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001:0:7f00:1::]/",
    "https://[2001:db8::1]/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fec0::1]/",
    "https://[ff02::1]/",
    "https://[::1/",
    "https://[example.com]/",
    "https://example.com/" + "a" * 2_000,
]


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_parse_url_refuses(url: str) -> None:
    with pytest.raises(TargetRefused):
        RULES.parse_url(url)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.com", "example.com"),
        ("https://hooks.example.com:443/a/b?c=d&e=%20", "hooks.example.com"),
        ("https://8.8.8.8/", "8.8.8.8"),
        ("https://[2606:4700:4700::1111]/", "2606:4700:4700::1111"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example"),
        ("https://1.example.com/", "1.example.com"),
    ],
)
def test_parse_url_accepts(url: str, host: str) -> None:
    assert RULES.parse_url(url) == Target(host, 443)


@pytest.mark.parametrize(
    "answers", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::ffff:10.0.0.1"], ["fe80::1%eth0"], ["8.8.8.8", "::1"]]
)
def test_resolve_with_one_private_address_refuses_the_host(answers: list[str]) -> None:
    with pytest.raises(TargetRefused):
        RULES.resolve("example.com", Lookups(lambda _host: answers), timeout_s=60)


def test_resolve_of_unknown_host_fails() -> None:
    def fail(_host: str) -> list[str]:
        raise OSError

    for resolve in (fail, lambda _host: []):
        with pytest.raises(HostNotFound):
            RULES.resolve("example.com", Lookups(resolve), timeout_s=60)


def test_resolve_of_local_names_with_the_system_refuses() -> None:
    with pytest.raises((TargetRefused, HostNotFound)):
        RULES.resolve("localhost", Lookups(), timeout_s=60)


def test_allowed_network_and_port_are_accepted_and_no_others() -> None:
    rules = AddressRules(ports=frozenset({8443}), networks=(ipaddress.ip_network("10.1.0.0/16"),))
    assert rules.parse_url("https://10.1.2.3:8443/") == Target("10.1.2.3", 8443)
    for url in ("https://10.2.0.1:8443/", "https://10.1.2.3/", "https://[::ffff:10.1.2.3]:8443/"):
        with pytest.raises(TargetRefused):
            rules.parse_url(url)
