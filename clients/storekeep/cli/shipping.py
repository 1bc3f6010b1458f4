"""`storekeep shipping`: commands for shipping methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from storekeep.cli.changes import Clear, build_update
from storekeep.cli.commands import Etag, command, new_group
from storekeep.cli.integers import parse_integer
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.pairs import parse_price
from storekeep.cli.sessions import Session
from storekeep.cli.steps import Step, add_steps
from storekeep.client import ShippingBasis, ShippingMethod, ShippingPrice
from storekeep.client.names import to_shipping_method_name, to_tax_zone_name

COLUMNS = ("name", "display_name", "basis", "prices", "free_from", "tax_zones")
LISTING = ResourceListing(
    "List shipping methods.",
    example="storekeep shipping list",
    method=lambda session: session.client.shipping_methods.list,
    columns=COLUMNS,
    filters=("basis = BY_WEIGHT", 'display_name = "Express"'),
    soft_deletion=True,
)
STEPS = (
    Step("delete", "Delete shipping methods; they can be undeleted.", lambda s: s.client.shipping_methods.delete),
    Step("undelete", "Restore deleted shipping methods.", lambda s: s.client.shipping_methods.undelete),
)
Name = Annotated[str, typer.Argument(help="Id or full name.")]
DISPLAY_NAME = typer.Option("--name", help="Display name.")
PRICE = typer.Option("--price", metavar="CURRENCY=AMOUNT", help="Price, such as EUR=4.90.")
OVER = typer.Option(
    "--over", metavar="GRAMS:CURRENCY=AMOUNT", help="Price from a weight on, such as 5000:EUR=9.90. May be repeated."
)
FREE_FROM = typer.Option("--free-from", metavar="CURRENCY=AMOUNT", help="Amount of the lines from which it is free.")
ZONE = typer.Option("--zone", help="Id or full name of a tax zone that it ships to. May be repeated.")
CLASS = typer.Option("--class", help="Its tax class.")


def add_shipping(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(
        app, "shipping", help="Manage shipping methods and their prices.", example="storekeep shipping list"
    )
    add_listing(group, LISTING)
    command(group, "show", example="storekeep shipping show parcel")(show_method)
    create = "storekeep shipping create --id parcel --price EUR=4.90 --over 5000:EUR=9.90 --free-from EUR=80"
    command(group, "create", example=create, writes=True)(create_method)
    command(group, "update", example="storekeep shipping update parcel --price EUR=5.50", writes=True)(update_method)
    add_steps(group, STEPS, noun="shipping", example_name="parcel", to_name=to_shipping_method_name, columns=COLUMNS)


def show_method(session: Session, name: Name) -> None:
    """Show one shipping method."""
    session.screen.show_message(session.client.shipping_methods.get(to_shipping_method_name(name)))


def create_method(
    session: Session,
    price: Annotated[str, PRICE],
    over: Annotated[list[str] | None, OVER] = None,
    method_id: Annotated[str, typer.Option("--id", help="Its id (default: chosen by the server).")] = "",
    display_name: Annotated[str, DISPLAY_NAME] = "",
    zone: Annotated[list[str] | None, ZONE] = None,
    free_from: Annotated[str, FREE_FROM] = "",
    tax_class: Annotated[str, CLASS] = "",
) -> None:
    """Create a shipping method with one price, or with prices by weight."""
    method = ShippingMethod(
        display_name=display_name,
        tax_zones=[to_tax_zone_name(name) for name in zone or ()],
        basis=_get_basis(over),
        prices=_parse_prices(price, over or ()),
        free_from=parse_price(free_from) if free_from else None,
        tax_class=tax_class,
    )
    methods = session.client.shipping_methods
    session.screen.show_message(methods.create(method, shipping_method_id=method_id, **session.creation_options))


def update_method(
    session: Session,
    name: Name,
    price: Annotated[str | None, PRICE] = None,
    over: Annotated[list[str] | None, OVER] = None,
    display_name: Annotated[str | None, DISPLAY_NAME] = None,
    zone: Annotated[list[str] | None, ZONE] = None,
    free_from: Annotated[str, FREE_FROM] = "",
    tax_class: Annotated[str | None, CLASS] = None,
    clear: Clear = None,
    etag: Etag = "",
) -> None:
    """Change the given fields of a shipping method. Prices and zones, if given, replace all existing ones."""
    if over and price is None:
        raise typer.BadParameter("--over needs --price, the price below these weights")
    changes, mask = build_update(
        ShippingMethod,
        to_shipping_method_name(name),
        etag=etag,
        clear=clear or (),
        display_name=display_name,
        tax_zones=None if zone is None else [to_tax_zone_name(one) for one in zone],
        basis=None if price is None else _get_basis(over),
        prices=None if price is None else _parse_prices(price, over or ()),
        free_from=parse_price(free_from) if free_from else None,
        tax_class=tax_class,
    )
    methods = session.client.shipping_methods
    session.screen.show_message(methods.update(changes, update_mask=mask, **session.write_options))


def _get_basis(over: Sequence[str] | None) -> ShippingBasis.ValueType:
    return ShippingBasis.SHIPPING_BASIS_BY_WEIGHT if over else ShippingBasis.SHIPPING_BASIS_FLAT


def _parse_prices(price: str, over: Sequence[str]) -> list[ShippingPrice]:
    """Parse the price from 0 on, and those from a weight on.

    Raises: typer.BadParameter.
    """
    prices = [ShippingPrice(amount=parse_price(price))]
    for text in over:
        weight, _, amount = text.partition(":")
        money = parse_price(amount, form="GRAMS:CURRENCY=AMOUNT", example="5000:EUR=9.90")
        try:
            grams = parse_integer(weight)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        prices.append(ShippingPrice(amount=money, min_weight_g=grams))
    return prices
