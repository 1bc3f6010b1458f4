"""`storekeep zones` and `storekeep taxes`: commands for tax zones and tax rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from storekeep.cli.addresses import parse_country
from storekeep.cli.changes import Clear, build_update
from storekeep.cli.commands import Etag, command, new_group
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.pairs import split_pair
from storekeep.cli.sessions import Session
from storekeep.cli.steps import Step, add_steps
from storekeep.cli.windows import End, Start, parse_bound, parse_percentage
from storekeep.client import TaxArea, TaxComponent, TaxRate, TaxZone
from storekeep.client.names import to_tax_rate_name, to_tax_zone_name

ZONE_COLUMNS = ("name", "display_name", "areas", "update_time")
RATE_COLUMNS = ("name", "display_name", "tax_zone", "tax_class", "components", "start_time", "end_time")
ZONES = ResourceListing(
    "List tax zones.",
    example="storekeep zones list",
    method=lambda session: session.client.tax_zones.list,
    columns=ZONE_COLUMNS,
    filters=('display_name = "Germany"',),
    soft_deletion=True,
)
RATES = ResourceListing(
    "List tax rates.",
    example="storekeep taxes list --filter 'tax_zone = taxZones/de'",
    method=lambda session: session.client.tax_rates.list,
    columns=RATE_COLUMNS,
    filters=("tax_zone = taxZones/de", "tax_class = reduced"),
    soft_deletion=True,
)
ZONE_STEPS = (
    Step("delete", "Delete tax zones without rates; they can be undeleted.", lambda s: s.client.tax_zones.delete),
    Step("undelete", "Restore deleted tax zones.", lambda s: s.client.tax_zones.undelete),
)
RATE_STEPS = (
    Step("delete", "Delete tax rates; they can be undeleted.", lambda s: s.client.tax_rates.delete),
    Step("undelete", "Restore deleted tax rates.", lambda s: s.client.tax_rates.undelete),
)
RATE_PERCENT_MAX = 1_000
Name = Annotated[str, typer.Argument(help="Id or full name.")]
DISPLAY_NAME = typer.Option("--name", help="Display name.")
AREA = typer.Option(
    "--area", metavar="COUNTRY[/REGION[/POSTAL-PREFIX]]", help="Area, such as DE, US/NY or US//100. May be repeated."
)
CLASS = typer.Option("--class", help="Tax class, such as reduced (default: the standard class).")
TAX = typer.Option("--tax", metavar="NAME=PERCENT", help="Tax, such as VAT=19. May be repeated.")
COMPOUND = typer.Option(
    "--compound", metavar="NAME=PERCENT", help="Tax that is also on the taxes before it. May be repeated."
)


def add_zones(app: typer.Typer) -> None:
    """Add the group of tax zones to the command line."""
    group = new_group(app, "zones", help="Manage tax zones.", example="storekeep zones list")
    add_listing(group, ZONES)
    command(group, "show", example="storekeep zones show de")(show_zone)
    command(group, "create", example="storekeep zones create --id de --area DE", writes=True)(create_zone)
    command(group, "update", example="storekeep zones update de --area DE --area AT", writes=True)(update_zone)
    add_steps(group, ZONE_STEPS, noun="zones", example_name="de", to_name=to_tax_zone_name, columns=ZONE_COLUMNS)


def add_taxes(app: typer.Typer) -> None:
    """Add the group of tax rates to the command line."""
    group = new_group(app, "taxes", help="Manage tax rates.", example="storekeep taxes list")
    add_listing(group, RATES)
    command(group, "show", example="storekeep taxes show de-vat")(show_rate)
    create = "storekeep taxes create --id de-vat --zone de --tax VAT=19"
    command(group, "create", example=create, writes=True)(create_rate)
    update = "storekeep taxes update de-vat --end 2027-01-01T00:00:00+01:00"
    command(group, "update", example=update, writes=True)(update_rate)
    add_steps(group, RATE_STEPS, noun="taxes", example_name="de-vat", to_name=to_tax_rate_name, columns=RATE_COLUMNS)


def show_zone(session: Session, name: Name) -> None:
    """Show one tax zone."""
    session.screen.show_message(session.client.tax_zones.get(to_tax_zone_name(name)))


def create_zone(
    session: Session,
    area: Annotated[list[str], AREA],
    zone_id: Annotated[str, typer.Option("--id", help="Its id (default: chosen by the server).")] = "",
    display_name: Annotated[str, DISPLAY_NAME] = "",
) -> None:
    """Create a tax zone."""
    zone = TaxZone(display_name=display_name, areas=_parse_areas(area))
    created = session.client.tax_zones.create(zone, tax_zone_id=zone_id, **session.creation_options)
    session.screen.show_message(created)


def update_zone(
    session: Session,
    name: Name,
    area: Annotated[list[str] | None, AREA] = None,
    display_name: Annotated[str | None, DISPLAY_NAME] = None,
    etag: Etag = "",
) -> None:
    """Change the given fields of a tax zone. Areas, if given, replace all existing ones."""
    areas = None if area is None else _parse_areas(area)
    changes, mask = build_update(TaxZone, to_tax_zone_name(name), etag=etag, display_name=display_name, areas=areas)
    session.screen.show_message(session.client.tax_zones.update(changes, update_mask=mask, **session.write_options))


def show_rate(session: Session, name: Name) -> None:
    """Show one tax rate."""
    session.screen.show_message(session.client.tax_rates.get(to_tax_rate_name(name)))


def create_rate(
    session: Session,
    zone: Annotated[str, typer.Option("--zone", help="Id or full name of its tax zone.")],
    tax: Annotated[list[str], TAX],
    compound: Annotated[list[str] | None, COMPOUND] = None,
    rate_id: Annotated[str, typer.Option("--id", help="Its id (default: chosen by the server).")] = "",
    display_name: Annotated[str, DISPLAY_NAME] = "",
    tax_class: Annotated[str, CLASS] = "",
    start: Start = "",
    end: End = "",
) -> None:
    """Create a tax rate."""
    rate = TaxRate(
        display_name=display_name,
        tax_zone=to_tax_zone_name(zone),
        tax_class=tax_class,
        components=_parse_components(tax, compound or ()),
        start_time=parse_bound(start),
        end_time=parse_bound(end),
    )
    created = session.client.tax_rates.create(rate, tax_rate_id=rate_id, **session.creation_options)
    session.screen.show_message(created)


def update_rate(
    session: Session,
    name: Name,
    tax: Annotated[list[str] | None, TAX] = None,
    compound: Annotated[list[str] | None, COMPOUND] = None,
    display_name: Annotated[str | None, DISPLAY_NAME] = None,
    tax_class: Annotated[str | None, CLASS] = None,
    start: Start = "",
    end: End = "",
    clear: Clear = None,
    etag: Etag = "",
) -> None:
    """Change the given fields of a tax rate. Taxes, if given, replace all existing ones."""
    changes, mask = build_update(
        TaxRate,
        to_tax_rate_name(name),
        etag=etag,
        clear=clear or (),
        display_name=display_name,
        tax_class=tax_class,
        components=_parse_components(tax or (), compound or ()) or None,
        start_time=parse_bound(start),
        end_time=parse_bound(end),
    )
    session.screen.show_message(session.client.tax_rates.update(changes, update_mask=mask, **session.write_options))


def _parse_areas(texts: Sequence[str]) -> list[TaxArea]:
    """Parse areas; a country may be given by name. Raises: typer.BadParameter."""
    areas = []
    for text in texts:
        country, _, rest = text.partition("/")
        region, _, prefix = rest.partition("/")
        code = parse_country(country, option="--area")
        areas.append(TaxArea(region_code=code, administrative_area=region, postal_code_prefix=prefix))
    return areas


def _parse_components(taxes: Sequence[str], compound: Sequence[str]) -> list[TaxComponent]:
    """Parse the taxes of a rate: the compound ones come last.

    Raises: typer.BadParameter.
    """
    components = []
    for text, is_compound in (*((text, False) for text in taxes), *((text, True) for text in compound)):
        name, percentage = split_pair(text, form="NAME=PERCENT", example="VAT=19")
        rate_ppm = parse_percentage(percentage, maximum=RATE_PERCENT_MAX)
        components.append(TaxComponent(display_name=name, rate_ppm=rate_ppm, compound=is_compound))
    return components
