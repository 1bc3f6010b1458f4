"""Addresses: the cells of a row that make one."""

from __future__ import annotations

from storekeep.cli.imports.columns import CellRefused, Target, Values
from storekeep.cli.imports.countries import region_code
from storekeep.client import Address

TARGETS = (
    Target("recipient", "The person at the address."),
    Target("organization", "The company at the address."),
    Target("address", "Street and house number; more lines after line feeds."),
    Target("address2", "One more line of the address."),
    Target("city", "City or town."),
    Target("region", "State, province or region."),
    Target("postal_code", "As the country writes it."),
    Target("country", "A name, an ISO 3166 code, or a common alias such as UK. Needed where there is an address."),
)

MAKE_AN_ADDRESS = frozenset(target.name for target in TARGETS) - {"country"}
"""Any of these makes an address, which then needs a country."""


def read_address(values: Values) -> Address | None:
    """Return the address of a row, None where it has none.

    Raises: CellRefused.
    """
    country = values.text("country")
    if not MAKE_AN_ADDRESS.intersection(values.by_target):
        return None
    if country is None:
        raise CellRefused("country is missing, so the address cannot be written")
    lines = [line.strip() for part in ("address", "address2") for line in (values.text(part) or "").splitlines()]
    return Address(
        recipient=values.text("recipient") or "",
        organization=values.text("organization") or "",
        address_lines=filter(None, lines),
        locality=values.text("city") or "",
        administrative_area=values.text("region") or "",
        postal_code=values.text("postal_code") or "",
        region_code=region_code(country),
    )
