"""`storekeep variants`: the sellable units of products, each one SKU with its prices."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from storekeep.cli.changes import changes_of
from storekeep.cli.commands import LIMIT, Deleted, Etag, Filter, Limit, OrderBy, command, new_group
from storekeep.cli.names import child_name
from storekeep.cli.pairs import labels, prices
from storekeep.cli.products import product_name
from storekeep.cli.sessions import Session, page_size
from storekeep.cli.steps import Step, add_steps
from storekeep.client import Variant

COLUMNS = ("sku", "name", "display_name", "options", "prices", "state")

STEPS = (
    Step("archive", "Take variants off sale; they stay readable.", lambda s: s.client.variants.archive),
    Step("unarchive", "Put archived variants back on sale.", lambda s: s.client.variants.unarchive),
    Step("delete", "Delete variants; they can be undeleted.", lambda s: s.client.variants.delete),
    Step("undelete", "Bring deleted variants back.", lambda s: s.client.variants.undelete),
)

variant_name = partial(child_name, "products", "variants")

Name = Annotated[str, typer.Argument(metavar="PRODUCT/VARIANT", help="Both ids, or the full name.")]
Price = Annotated[
    list[str] | None, typer.Option("--price", metavar="CURRENCY=AMOUNT", help="As EUR=19.90; one per currency.")
]
Choice = Annotated[list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="As size=L; repeat.")]

WeightG = Annotated[int | None, typer.Option("--weight-g", min=0, max=10**9, help="Grams per unit.")]


def add_variants(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(
        app, "variants", help="The sellable units of products: SKUs and prices.", example="storekeep variants list chai"
    )
    command(group, "list", example="storekeep variants list chai")(list_variants)
    command(group, "show", example="storekeep variants show chai/box")(show_variant)
    create = "storekeep variants create chai --id box --sku CHAI-1 --price EUR=4.50 --price USD=4.95"
    command(group, "create", example=create, writes=True)(create_variant)
    update = "storekeep variants update chai/box --price EUR=4.80"
    command(group, "update", example=update, writes=True)(update_variant)
    add_steps(group, STEPS, noun="variants", example_name="chai/box", to_name=variant_name, columns=COLUMNS)


def list_variants(
    session: Session,
    product: Annotated[str, typer.Argument(help="Its id or full name; all products without.")] = "-",
    filter: Filter = "",  # noqa: A002 - the contract's word
    order_by: OrderBy = "",
    limit: Limit = LIMIT,
    deleted: Deleted = False,
) -> None:
    """List variants of one product, or of all."""
    listing = session.client.variants.list(
        product_name(product), filter=filter, order_by=order_by, page_size=page_size(limit), show_deleted=deleted
    )
    session.show_listing(listing, columns=COLUMNS, limit=limit)


def show_variant(session: Session, name: Name) -> None:
    """Show one variant."""
    session.screen.show_message(session.client.variants.get(variant_name(name)))


def create_variant(
    session: Session,
    product: Annotated[str, typer.Argument(help="The product's id or full name.")],
    sku: Annotated[str, typer.Option("--sku", help="The stock keeping unit; never changed.")],
    variant_id: Annotated[str, typer.Option("--id", help="Its id; the server chooses one without.")] = "",
    display_name: Annotated[str, typer.Option("--name", help="What tells it from its siblings.")] = "",
    price: Price = None,
    option: Choice = None,
    tax_class: Annotated[str, typer.Option("--tax-class")] = "",
    weight_g: WeightG = None,
    barcode: Annotated[str, typer.Option("--barcode")] = "",
) -> None:
    """Create a variant of a product."""
    variant = Variant(
        sku=sku,
        display_name=display_name,
        prices=prices(price or ()),
        options=labels(option or ()),
        tax_class=tax_class,
        weight_g=weight_g,
        barcode=barcode,
    )
    created = session.client.variants.create(
        product_name(product), variant, variant_id=variant_id, **session.write_options
    )
    session.screen.show_message(created)


def update_variant(
    session: Session,
    name: Name,
    display_name: Annotated[str | None, typer.Option("--name", help="What tells it from its siblings.")] = None,
    price: Price = None,
    option: Choice = None,
    tax_class: Annotated[str | None, typer.Option("--tax-class")] = None,
    weight_g: WeightG = None,
    barcode: Annotated[str | None, typer.Option("--barcode")] = None,
    etag: Etag = "",
) -> None:
    """Change the given fields of a variant. Prices and options, when given, replace all that it has."""
    wanted, mask = changes_of(
        Variant,
        variant_name(name),
        etag=etag,
        display_name=display_name,
        prices=prices(price) if price else None,
        options=labels(option) if option else None,
        tax_class=tax_class,
        weight_g=weight_g,
        barcode=barcode,
    )
    session.screen.show_message(session.client.variants.update(wanted, update_mask=mask, **session.write_options))
