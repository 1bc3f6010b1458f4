"""Hosts: the header `Host` (RFC 9110, 7.2) and the origins of scripts. Refuses what no URL can have after `//`."""

from __future__ import annotations

import ipaddress
import re

PORT_MAX = 65_535
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|((?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+))(?::([0-9]{0,5}))?")
"""An IPv6 address in brackets, or a registered name; and a port, which may be empty (RFC 3986, 3.2)."""
_ORIGIN = re.compile(r"https?://([a-z0-9.:_\[\]-]+)")


def is_authority(text: str) -> bool:
    """Return whether a text is a host, with or without a port, such as `example.com:8080` or `[::1]`."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return False
    address, _, port = match.groups()
    if address is not None:
        try:
            ipaddress.IPv6Address(address)
        except ValueError:
            return False
    return not port or int(port) <= PORT_MAX


def is_origin(text: str) -> bool:
    """Return whether a text is an origin as browsers send it: scheme and host in lower case, and no path."""
    match = _ORIGIN.fullmatch(text)
    return match is not None and is_authority(match[1]) and not text.endswith(":")
