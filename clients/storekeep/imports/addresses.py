"""Addresses of rows."""

from __future__ import annotations

from storekeep.client import Address
from storekeep.imports.columns import InvalidCell, Target, Values
from storekeep.imports.countries import parse_region_code

TARGETS = (
    Target("recipient", "Name of the person."),
    Target("organization", "Name of the company."),
    Target("address", "Street and house number; may have several lines."),
    Target("address2", "Another line of the address."),
    Target("city", "City or town."),
    Target("region", "State, province or region."),
    Target("postal_code", "Postal code in the format of the country."),
    Target("country", "Name, ISO 3166 code or common alias such as UK. Required with an address."),
)

ADDRESS_FIELDS = frozenset(target.name for target in TARGETS) - {"country"}
"""Targets that form an address. A row with any of them requires a country."""


def read_address(values: Values) -> Address | None:
    """Return the address of a row, or None if it has none.

    Raises: InvalidCell.
    """
    country = values.text("country")
    if not ADDRESS_FIELDS.intersection(values.by_target):
        return None
    if country is None:
        raise InvalidCell("country is missing, which an address requires")
    lines = [line.strip() for part in ("address", "address2") for line in (values.text(part) or "").splitlines()]
    return Address(
        recipient=values.text("recipient") or "",
        organization=values.text("organization") or "",
        address_lines=filter(None, lines),
        locality=values.text("city") or "",
        administrative_area=values.text("region") or "",
        postal_code=values.code("postal_code") or "",
        region_code=parse_region_code(country),
    )
