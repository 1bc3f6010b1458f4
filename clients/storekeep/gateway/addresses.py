"""The address of a client: the peer's, or the one that trusted proxies report in `X-Forwarded-For`.

The header is read from the right, because each proxy appends the address that it sees. Everything to the left of the
first address that is no trusted proxy was written by the client.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable

from storekeep.gateway.errors import Header

IPV6_NETWORK_BITS = 64
"""A client with one IPv6 address usually has its whole /64 network."""
PROXIES_MAX = 16
"""Maximum number of proxies in a row."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ClientAddresses:
    """Finds the address of the client of a request.

    Args:
        trusted_proxies: addresses and networks whose `X-Forwarded-For` is believed.
    """

    def __init__(self, trusted_proxies: Iterable[str]) -> None:
        self._trusted: list[Network] = [ipaddress.ip_network(text) for text in trusted_proxies]

    def find(self, peer: str, headers: list[Header]) -> str:
        """Return the address of the client; the peer's own unless a trusted proxy reports another."""
        if not self._trusted or not self._is_trusted(parse_address(peer)):
            return peer
        reported = b",".join(value for name, value in headers if name == b"x-forwarded-for").decode("latin-1")
        for text in reversed(reported.rsplit(",", PROXIES_MAX)[-PROXIES_MAX:]):
            address = parse_address(text.strip())
            if address is None:
                return peer
            peer = str(address)
            if not self._is_trusted(address):
                return peer
        return peer

    def is_trusted(self, peer: str) -> bool:
        """Return whether an address is that of a trusted proxy."""
        return self._is_trusted(parse_address(peer))

    def _is_trusted(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)


def parse_address(text: str) -> Address | None:
    """Return an IP address, an IPv4 address in IPv6 notation as IPv4; None if the text is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address


@functools.lru_cache(maxsize=4_096)
def get_limit_key(address: str) -> str:
    """Return what the limits per address count together: an IPv4 address or an IPv6 /64 network."""
    parsed = parse_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(parsed), IPV6_NETWORK_BITS), strict=False))
    return str(parsed or address)
