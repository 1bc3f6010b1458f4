"""The rules for outbound addresses: which URLs and which IP addresses the server may connect to.

Refuses everything that could reach the server's own host or network (server-side request forgery). A host name is
resolved once per connection, which goes to an address that was checked, so a second DNS answer has no effect.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from storekeep.server.integrations.lookups import Lookups

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
DEFAULT_PORT = 443
URL_LENGTH_MAX = 2_000
_URL = re.compile(r"https://(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(?::([0-9]{1,5}))?(/[!-~]*)?", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
_LOCALHOST = re.compile(r"(?:.+\.)?localhost", re.IGNORECASE)
"""Names of this host (RFC 6761), which are not looked up."""
LOOPBACK = ipaddress.IPv4Address("127.0.0.1")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*", re.ASCII)
_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
"""The global unicast addresses. All embedded IPv4 addresses but 6to4 and Teredo are outside: mapped and compatible
(::/96), translated (64:ff9b::/32); so are loopback, unique local, link-local, site-local and multicast addresses."""
_SPECIAL: tuple[IpNetwork, ...] = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT, and metadata of some clouds
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # metadata of Azure
        "169.254.0.0/16",  # link-local, and metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments, and metadata of Oracle
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "2001::/23",  # Teredo, ORCHID and other protocol assignments
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
"""The special-purpose ranges (RFC 6890 and its registries), and addresses of metadata services outside them."""


class TargetRefused(Exception):
    """The URL or its address is not allowed. The text says why and contains no part of the URL."""


class HostNotFound(Exception):
    """The host name has no address now."""

    def __init__(self, problem: str = "cannot be resolved") -> None:
        super().__init__(f"the host name {problem}")


@dataclass(frozen=True, slots=True)
class Target:
    """A checked URL.

    Attributes:
        host: a host name, or an IP address without brackets.
        port: the TCP port.
    """

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class AddressRules:
    """What may be connected to.

    Attributes:
        ports: the allowed TCP ports; empty for all.
        networks: special ranges that are allowed all the same, such as a private network with receivers.
    """

    ports: frozenset[int] = frozenset({DEFAULT_PORT})
    networks: tuple[IpNetwork, ...] = ()

    def parse_url(self, url: str) -> Target:
        """Return the target of an `https` URL without resolving its host name.

        Raises: TargetRefused.
        """
        if len(url) > URL_LENGTH_MAX:
            raise TargetRefused(f"the URL has more than {URL_LENGTH_MAX} characters")
        match = _URL.fullmatch(url)
        if match is None or (match[3] and re.search(r'[\\#"<>^`{|}]', match[3])):
            raise TargetRefused("use an absolute URL such as https://example.com/hooks, without user name or fragment")
        port = DEFAULT_PORT if match[2] is None else int(match[2])
        if not 0 < port < 65_536 or (self.ports and port not in self.ports):
            allowed = " or ".join(map(str, sorted(self.ports))) or "from 1 to 65535"
            raise TargetRefused(f"the port must be {allowed}")
        host = match[1].strip("[]")
        address = LOOPBACK if _LOCALHOST.fullmatch(host) else _parse_literal(host, bracketed=match[1].startswith("["))
        if address is not None:
            self.check_address(address)
        return Target(host, port)

    def check_address(self, address: IpAddress) -> None:
        """Raise TargetRefused unless the address is public or in an allowed network."""
        if any(address in network for network in self.networks):
            return
        public = address.version == 4 or address in _PUBLIC_IPV6
        if not public or any(address in network for network in _SPECIAL):
            raise TargetRefused("the address is private or reserved")

    def resolve(self, host: str, lookups: Lookups, *, timeout_s: float) -> list[str]:
        """Return the checked IP addresses of a host. One that is not allowed makes all refused.

        Raises: HostNotFound, TargetRefused.
        """
        try:
            texts = lookups.resolve(host, timeout_s=timeout_s)
            addresses = [ipaddress.ip_address(text.partition("%")[0]) for text in dict.fromkeys(texts)]
        except TimeoutError:
            raise HostNotFound("was not resolved in time") from None
        except (OSError, UnicodeError, ValueError):
            raise HostNotFound from None
        if not addresses:
            raise HostNotFound
        for address in addresses:
            self.check_address(address)
        return [str(address) for address in addresses]


def _parse_literal(host: str, *, bracketed: bool) -> IpAddress | None:
    """Return the IP address that a host spells; None for a host name.

    Raises: TargetRefused for other spellings of numbers, which resolvers read in different ways.
    """
    try:
        return ipaddress.IPv6Address(host) if bracketed else ipaddress.IPv4Address(host)
    except ValueError:
        labels = host.split(".")
        if bracketed or _NUMBER.fullmatch(labels[-1]) or not all(_LABEL.fullmatch(label) for label in labels):
            raise TargetRefused("the host is neither a host name nor an IP address in its usual form") from None
        return None
