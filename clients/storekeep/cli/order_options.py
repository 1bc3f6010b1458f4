"""Options of orders: addresses as PART=VALUE, and parcels as NUMBER=URL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from storekeep.cli.addresses import parse_country
from storekeep.cli.pairs import split_pair
from storekeep.client import Address, Parcel

PARTS = tuple(field.name for field in Address.DESCRIPTOR.fields)
LINES, COUNTRY = "address_lines", "region_code"
PART_OPTIONS = {
    "street": LINES,
    "city": "locality",
    "region": "administrative_area",
    "postal-code": "postal_code",
    "country": COUNTRY,
    "address-phone": "phone",
}
"""Option of a postal address, as `orders place` has it -> part of the address, if their names differ."""
AddressParts = Annotated[
    list[str] | None,
    typer.Option(
        "--ship-to", metavar="PART=VALUE", help="Part of the shipping address, such as city=Graz. May be repeated."
    ),
]
BillingParts = Annotated[
    list[str] | None,
    typer.Option(
        "--bill-to", metavar="PART=VALUE", help="Part of the billing address, such as city=Graz. May be repeated."
    ),
]
Parcels = Annotated[
    list[str] | None,
    typer.Option("--parcel", metavar="NUMBER[=URL]", help="Parcel with its tracking page. May be repeated."),
]


def merge_address(address: Address, texts: Iterable[str], *, option: str) -> Address:
    """Return an address with other parts, such as `postal_code=H91` or `city=Graz`. Streets are its lines in order.

    A part has its name in the contract, or that of the option for it in other commands. A country may be given by name.

    `option`: the option that has the texts, for the error.

    Raises: typer.BadParameter.
    """
    merged = Address()
    merged.CopyFrom(address)
    lines: list[str] = []
    for part, value in (split_pair(text, form="PART=VALUE", example="locality=Graz") for text in texts):
        field = PART_OPTIONS.get(part, part)
        if field not in PARTS:
            raise typer.BadParameter(f"{option}: {part!r} is not one of: {', '.join((*PART_OPTIONS, *PARTS))}")
        if field == LINES:
            lines.append(value)
        else:
            is_country = field == COUNTRY and value
            setattr(merged, field, parse_country(value, option=f"{option} {part}") if is_country else value)
    if lines:
        merged.address_lines[:] = [line for line in lines if line]
    if not merged.region_code and merged != Address():
        raise typer.BadParameter(f"an address needs a country, and this one has none: add {option} country=DE")
    return merged


def parse_parcels(texts: Iterable[str]) -> list[Parcel]:
    """Parse parcels such as `P-1=https://post.example/P-1`."""
    numbers = (text.partition("=") for text in texts)
    return [Parcel(tracking_number=number.strip(), tracking_url=url.strip()) for number, _, url in numbers]
