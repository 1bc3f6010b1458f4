"""Options of a postal address, for every command that takes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from storekeep.client import Address

ADDRESS = "postal_address"
"""Name of the argument of a command that gets the address."""
PANEL = "Postal address"
CODE_LENGTH = 2


def declare_address_options(
    *,
    recipient: Annotated[str, typer.Option("--recipient", help="Name of the person.", rich_help_panel=PANEL)] = "",
    organization: Annotated[
        str, typer.Option("--organization", help="Name of the company.", rich_help_panel=PANEL)
    ] = "",
    street: Annotated[
        list[str] | None,
        typer.Option("--street", help="Street and house number. May be repeated.", rich_help_panel=PANEL),
    ] = None,
    city: Annotated[str, typer.Option("--city", help="City or town.", rich_help_panel=PANEL)] = "",
    region: Annotated[str, typer.Option("--region", help="State, province or region.", rich_help_panel=PANEL)] = "",
    postal_code: Annotated[str, typer.Option("--postal-code", help="Postal code.", rich_help_panel=PANEL)] = "",
    country: Annotated[
        str,
        typer.Option(
            "--country", help="Name or ISO 3166 code, such as DE. Required for an address.", rich_help_panel=PANEL
        ),
    ] = "",
    address_phone: Annotated[
        str, typer.Option("--address-phone", help="Phone number for the carrier.", rich_help_panel=PANEL)
    ] = "",
) -> None:
    """Declare in its signature the options of a postal address."""


def build_address(
    *,
    recipient: str,
    organization: str,
    street: list[str] | None,
    city: str,
    region: str,
    postal_code: str,
    country: str,
    address_phone: str,
) -> Address | None:
    """Return the address of the options, or None if none of them is given.

    Raises: typer.BadParameter if the country is missing or unknown.
    """
    lines = [line for line in street or () if line.strip()]
    if not (recipient or organization or lines or city or region or postal_code or country or address_phone):
        return None
    if not country:
        raise typer.BadParameter("an address needs --country, such as --country DE")
    from storekeep.client import Address

    return Address(
        recipient=recipient,
        organization=organization,
        address_lines=lines,
        locality=city,
        administrative_area=region,
        postal_code=postal_code,
        region_code=parse_country(country, option="--country"),
        phone=address_phone,
    )


def list_address_parts(*, street: list[str] | None, **options: str) -> list[str]:
    """Return the options that have a value as PART=VALUE, as `merge_address` takes them.

    Raises: typer.BadParameter if the country is unknown.
    """
    if country := options.get("country", ""):
        options = {**options, "country": parse_country(country, option="--country")}
    parts = [f"street={line}" for line in street or ()]
    return parts + [f"{name.replace('_', '-')}={value}" for name, value in options.items() if value]


def parse_country(text: str, *, option: str) -> str:
    """Return the region code of a country, given by name or code.

    `option`: the option that has the text, for the error.

    Raises: typer.BadParameter.
    """
    if len(text) == CODE_LENGTH and text.isascii() and text.isalpha() and text.upper() != "UK":
        return text.upper()
    from storekeep.imports.columns import InvalidCell
    from storekeep.imports.countries import parse_region_code

    try:
        return parse_region_code(text)
    except InvalidCell as error:
        raise typer.BadParameter(f"{option}: {str(error).removeprefix('country: ')}") from None
