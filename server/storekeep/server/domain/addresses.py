"""Postal addresses of customers and orders."""

from __future__ import annotations

import msgspec


class Address(msgspec.Struct, frozen=True, omit_defaults=True):
    """A shipping or billing address; see `Address` in the contract."""

    recipient: str = ""
    organization: str = ""
    address_lines: tuple[str, ...] = ()
    locality: str = ""
    administrative_area: str = ""
    postal_code: str = ""
    region_code: str = ""
    phone: str = ""
