"""`storekeep variants`: commands for variants of products, with their SKUs and prices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from storekeep.cli.changes import Clear, build_update
from storekeep.cli.commands import (
    LIMIT,
    Deleted,
    Etag,
    Label,
    Limit,
    OrderBy,
    State,
    Total,
    command,
    join_filters,
    make_filter_option,
    new_group,
)
from storekeep.cli.pairs import change_prices, parse_labels, parse_prices
from storekeep.cli.sessions import Session, compute_page_size
from storekeep.cli.states import build_state_filter
from storekeep.cli.steps import Step, add_steps
from storekeep.cli.translations import Language, Option, Remove, Tag, parse_options, translate
from storekeep.cli.translations import Name as LocalName
from storekeep.client import QuantityRules, SkuNotFound, Variant, VariantState
from storekeep.client.names import quote_text, to_product_name, to_variant_name

COLUMNS = ("sku", "name", "display_name", "options", "prices", "state")
Filter = Annotated[str, make_filter_option('sku = "CHAI*"', "options.size = L", "-barcode:*")]

TAX_CLASS = typer.Option("--tax-class", help="Tax class, such as reduced (default: the standard class).")

STEPS = (
    Step("archive", "Take variants off sale; they remain readable.", lambda s: _accept_skus(s, "archive")),
    Step("unarchive", "Put archived variants back on sale.", lambda s: _accept_skus(s, "unarchive")),
    Step("delete", "Delete variants; they can be undeleted.", lambda s: _accept_skus(s, "delete")),
    Step("undelete", "Restore deleted variants.", lambda s: _accept_skus(s, "undelete")),
)


Name = Annotated[str, typer.Argument(metavar="SKU", help="Its SKU, PRODUCT/VARIANT or the full name.")]
Price = Annotated[
    list[str] | None,
    typer.Option(
        "--price", metavar="CURRENCY=AMOUNT", help="Price such as EUR=19.90, one per currency. May be repeated."
    ),
]
OptionPairs = Annotated[
    list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Option such as size=L. May be repeated.")
]

Minimum = Annotated[int | None, typer.Option("--minimum", min=0, max=10**6, help="Least units to order; 0 for none.")]
Maximum = Annotated[int | None, typer.Option("--maximum", min=0, max=10**6, help="Most units to order; 0 for none.")]
Multiple = Annotated[
    int | None, typer.Option("--multiple", min=0, max=10**6, help="Order only multiples of it; 0 for none.")
]
WeightG = Annotated[int | None, typer.Option("--weight-g", min=0, max=10**9, help="Weight of a unit in grams.")]


def find_variant_name(session: Session, text: str) -> str:
    """Return the resource name of a variant given by SKU, as PRODUCT/VARIANT or by name.

    Raises: SkuNotFound.
    """
    if "/" in text:
        return to_variant_name(text)
    listing = session.client.variants.list(
        "products/-", filter=f"sku = {quote_text(text)}", page_size=1, show_deleted=True
    )
    for variant in listing.page().items:
        return variant.name
    raise SkuNotFound(f"no such SKU: {text}", metadata={"sku": text})


def _accept_skus(session: Session, verb: str) -> Callable[..., Variant]:
    """Return a client method that also accepts the SKU of a variant."""
    method: Callable[..., Variant] = getattr(session.client.variants, verb)
    return lambda name, **options: method(find_variant_name(session, name), **options)


def add_variants(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(
        app,
        "variants",
        help="Manage the variants of products: SKUs, prices, options.",
        example="storekeep variants list chai",
    )
    command(group, "list", example="storekeep variants list chai")(list_variants)
    command(group, "show", example="storekeep variants show CHAI-1")(show_variant)
    create = "storekeep variants create chai --id box --sku CHAI-1 --price EUR=4.50 --price USD=4.95"
    command(group, "create", example=create, writes=True)(create_variant)
    update = "storekeep variants update CHAI-1 --price EUR=4.80"
    command(group, "update", example=update, writes=True)(update_variant)
    translate_example = "storekeep variants translate CHAI-1 de --option Größe=L"
    command(group, "translate", example=translate_example, writes=True)(translate_variant)
    add_steps(group, STEPS, noun="variants", example_name="CHAI-1", to_name=str, columns=COLUMNS)


def list_variants(
    session: Session,
    product: Annotated[str, typer.Argument(help="Id or full name of the product (default: all).")] = "-",
    filter: Filter = "",  # noqa: A002 - the name in the contract
    order_by: OrderBy = "",
    limit: Limit = LIMIT,
    total: Total = False,
    deleted: Deleted = False,
    state: State = "",
    language: Language = "",
) -> None:
    """List the variants of a product, or of all products."""
    listing = session.client.variants.list(
        to_product_name(product),
        filter=join_filters(filter, build_state_filter(state, VariantState)),
        order_by=order_by,
        page_size=compute_page_size(limit),
        include_total_size=total,
        show_deleted=deleted,
        accept_language=language,
    )
    product_name = to_product_name(product)
    session.show_listing(
        listing,
        columns=COLUMNS,
        limit=limit,
        check_parent=(lambda: session.client.products.get(product_name)) if product != "-" else None,
    )


def show_variant(session: Session, name: Name, language: Language = "") -> None:
    """Show one variant."""
    variant = session.client.variants.get(find_variant_name(session, name), accept_language=language)
    session.screen.show_message(variant)


def create_variant(
    session: Session,
    product: Annotated[str, typer.Argument(help="Id or full name of the product.")],
    sku: Annotated[str, typer.Option("--sku", help="Stock keeping unit. It cannot be changed later.")],
    variant_id: Annotated[str, typer.Option("--id", help="Its id (default: chosen by the server).")] = "",
    display_name: Annotated[str, typer.Option("--name", help="Name that distinguishes it from other variants.")] = "",
    price: Price = None,
    option: OptionPairs = None,
    tax_class: Annotated[str, TAX_CLASS] = "",
    weight_g: WeightG = None,
    barcode: Annotated[str, typer.Option("--barcode", help="GTIN, EAN, UPC or a code of your own.")] = "",
    label: Label = None,
    minimum: Minimum = None,
    maximum: Maximum = None,
    multiple: Multiple = None,
) -> None:
    """Create a variant of a product."""
    variant = Variant(
        sku=sku,
        display_name=display_name,
        prices=parse_prices(price or ()),
        options=parse_labels(option or ()),
        tax_class=tax_class,
        weight_g=weight_g,
        barcode=barcode,
        labels=parse_labels(label or ()),
        quantity_rules=_change_rules(QuantityRules(), minimum=minimum, maximum=maximum, multiple=multiple),
    )
    created = session.client.variants.create(
        to_product_name(product), variant, variant_id=variant_id, **session.creation_options
    )
    session.screen.show_message(created)


def update_variant(
    session: Session,
    name: Name,
    display_name: Annotated[
        str | None, typer.Option("--name", help="Name that distinguishes it from other variants.")
    ] = None,
    price: Price = None,
    option: OptionPairs = None,
    tax_class: Annotated[
        str | None, typer.Option("--tax-class", help="Tax class, such as reduced (default: the standard class).")
    ] = None,
    weight_g: WeightG = None,
    barcode: Annotated[str | None, typer.Option("--barcode", help="GTIN, EAN, UPC or a code of your own.")] = None,
    label: Label = None,
    minimum: Minimum = None,
    maximum: Maximum = None,
    multiple: Multiple = None,
    clear: Clear = None,
    etag: Etag = "",
) -> None:
    """Change the given fields of a variant. Options and labels, if given, replace all existing ones.

    A price changes that of its currency, and EUR= removes it; prices in other currencies do not change. A quantity rule
    changes alone, too.
    """
    full_name, prices, rules = find_variant_name(session, name), None, None
    if price or (minimum, maximum, multiple) != (None, None, None):
        current = session.client.variants.get(full_name)
        etag = etag or current.etag  # so that no change in between is lost
        prices = change_prices(current.prices, price) if price else None
        rules = _change_rules(current.quantity_rules, minimum=minimum, maximum=maximum, multiple=multiple)
    changes, mask = build_update(
        Variant,
        full_name,
        etag=etag,
        clear=clear or (),
        display_name=display_name,
        prices=prices,
        options=parse_labels(option) if option else None,
        tax_class=tax_class,
        weight_g=weight_g,
        barcode=barcode,
        labels=parse_labels(label) if label else None,
        quantity_rules=rules,
    )
    session.screen.show_message(session.client.variants.update(changes, update_mask=mask, **session.write_options))


def translate_variant(
    session: Session,
    name: Name,
    language: Tag,
    display_name: LocalName = None,
    option: Option = None,
    remove: Remove = False,
) -> None:
    """Change the name and the options of a variant in one language. Options, if given, replace all existing ones."""
    variant = session.client.variants.get(find_variant_name(session, name))
    update = session.client.variants.update
    texts = {"display_name": display_name, "options": parse_options(option)}
    translate(session, variant, language, update=update, remove=remove, **texts)


def _change_rules(
    rules: QuantityRules, *, minimum: int | None, maximum: int | None, multiple: int | None
) -> QuantityRules | None:
    """Return quantity rules with those changed that are not None; None if none is given."""
    given = {"minimum": minimum, "maximum": maximum, "multiple": multiple}
    changes = {rule: limit for rule, limit in given.items() if limit is not None}
    if not changes:
        return None
    changed = QuantityRules()
    changed.CopyFrom(rules)
    for rule, limit in changes.items():
        setattr(changed, rule, limit)
    return changed
