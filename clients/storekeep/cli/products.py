"""`storekeep products`: commands for products."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from storekeep.cli.changes import Clear, build_update
from storekeep.cli.commands import LIMIT, Etag, Label, Limit, command, new_group
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.pairs import parse_labels
from storekeep.cli.sessions import Session, compute_page_size
from storekeep.cli.steps import Step, add_steps
from storekeep.cli.times import parse_time
from storekeep.cli.translations import Description, Language, Name, Remove, Tag, translate
from storekeep.client import Product, ProductMedia, ProductState, to_timestamp
from storekeep.client.names import to_category_name, to_product_name

COLUMNS = ("name", "display_name", "category", "state", "update_time")
VARIANT_COLUMNS = ("sku", "name", "display_name", "options", "prices", "state")
LISTING = ResourceListing(
    "List products.",
    example="storekeep products list --state active --limit 20",
    method=lambda session: session.client.products.list,
    columns=COLUMNS,
    filters=('state = ACTIVE AND display_name : "tea"', "labels.season = autumn", "-category:*"),
    states=lambda: ProductState,
    soft_deletion=True,
    has_languages=True,
)

STEPS = (
    Step("publish", "Put drafts on sale now.", lambda s: s.client.products.publish),
    Step("archive", "Take products off sale; they remain readable.", lambda s: s.client.products.archive),
    Step("unarchive", "Put archived products back on sale.", lambda s: s.client.products.unarchive),
    Step("delete", "Delete products; they can be undeleted.", lambda s: s.client.products.delete),
    Step("undelete", "Restore deleted products.", lambda s: s.client.products.undelete),
)


Media = Annotated[
    list[str] | None,
    typer.Option("--media", metavar="URL[ TEXT]", help="Link to an image or document, and its text. May be repeated."),
]
PublishTime = Annotated[
    str | None,
    typer.Option(
        "--publish-time",
        metavar="TIME",
        help="When the draft goes on sale, such as 2027-03-01T09:00+01:00 (default offset: local time).",
    ),
]


def add_products(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(
        app,
        "products",
        help="Manage products. SKUs and prices belong to their variants.",
        example="storekeep products list",
    )
    add_listing(group, LISTING)
    command(group, "show", example="storekeep products show chai")(show_product)
    command(group, "search", example='storekeep products search "green tea"')(search_products)
    create = 'storekeep products create --id chai --name "Chai" --category drinks'
    command(group, "create", example=create, writes=True)(create_product)
    update = 'storekeep products update chai --description "Black tea with spices"'
    command(group, "update", example=update, writes=True)(update_product)
    translate_example = 'storekeep products translate chai de --name "Masala Chai"'
    command(group, "translate", example=translate_example, writes=True)(translate_product)
    add_steps(group, STEPS, noun="products", example_name="chai", to_name=to_product_name, columns=COLUMNS)


def show_product(
    session: Session, name: Annotated[str, typer.Argument(help="Id or full name.")], language: Language = ""
) -> None:
    """Show one product and the SKUs and prices of its variants. In other formats, only the product."""
    product = session.client.products.get(to_product_name(name), accept_language=language)
    session.screen.show_message(product)
    if session.screen.has_default_layout:
        variants = session.client.variants.list(
            product.name, page_size=compute_page_size(LIMIT), accept_language=language
        )
        session.show_listing(variants, columns=VARIANT_COLUMNS, limit=LIMIT)


def search_products(
    session: Session,
    query: Annotated[str, typer.Argument(help="Words that must all occur; the last may be a prefix.")],
    limit: Limit = LIMIT,
    archived: Annotated[bool, typer.Option("--archived", help="Include archived products.")] = False,
    drafts: Annotated[bool, typer.Option("--drafts", help="Include drafts, if you may change products.")] = False,
    language: Language = "",
) -> None:
    """Search products by words in their names, descriptions, SKUs and barcodes, best match first."""
    listing = session.client.products.search(
        query,
        page_size=compute_page_size(limit, page_size_max=100),
        show_archived=archived,
        show_drafts=drafts,
        accept_language=language,
    )
    session.show_listing(listing, columns=COLUMNS, limit=limit)


def create_product(
    session: Session,
    display_name: Annotated[str, typer.Option("--name", help="Display name.")],
    product_id: Annotated[str, typer.Option("--id", help="Its id (default: chosen by the server).")] = "",
    description: Annotated[str, typer.Option("--description", help="At most 10,000 characters.")] = "",
    category: Annotated[str, typer.Option("--category", help="Id or full name of its category.")] = "",
    label: Label = None,
    media: Media = None,
    draft: Annotated[bool, typer.Option("--draft", help="Do not put it on sale yet.")] = False,
    publish_time: PublishTime = None,
) -> None:
    """Create a product. Add its SKUs and prices with `storekeep variants create`."""
    product = Product(
        display_name=display_name,
        description=description,
        category=to_category_name(category) if category else "",
        labels=parse_labels(label or ()),
        media=_parse_media(media or ()),
        publish_time=to_timestamp(parse_time(publish_time)) if publish_time else None,
    )
    created = session.client.products.create(product, product_id=product_id, draft=draft, **session.creation_options)
    session.screen.show_message(created)


def update_product(
    session: Session,
    name: Annotated[str, typer.Argument(help="Id or full name.")],
    display_name: Annotated[str | None, typer.Option("--name", help="Display name.")] = None,
    description: Annotated[str | None, typer.Option("--description", help="At most 10,000 characters.")] = None,
    category: Annotated[
        str | None, typer.Option("--category", help="Id or full name of its category; empty for none.")
    ] = None,
    label: Label = None,
    media: Media = None,
    publish_time: PublishTime = None,
    clear: Clear = None,
    etag: Etag = "",
) -> None:
    """Change the given fields of a product. Labels and media, if given, replace all existing ones.

    --clear publish_time lets a draft wait for `storekeep products publish`.
    """
    changes, mask = build_update(
        Product,
        to_product_name(name),
        etag=etag,
        clear=clear or (),
        display_name=display_name,
        description=description,
        category=to_category_name(category) if category else category,
        labels=parse_labels(label) if label else None,
        media=_parse_media(media) if media else None,
        publish_time=None if publish_time is None else to_timestamp(parse_time(publish_time)),
    )
    session.screen.show_message(session.client.products.update(changes, update_mask=mask, **session.write_options))


def translate_product(
    session: Session,
    name: Annotated[str, typer.Argument(help="Id or full name.")],
    language: Tag,
    display_name: Name = None,
    description: Description = None,
    remove: Remove = False,
) -> None:
    """Change the name and the description of a product in one language. Other languages do not change."""
    product = session.client.products.get(to_product_name(name))
    update = session.client.products.update
    texts = {"display_name": display_name, "description": description}
    translate(session, product, language, update=update, remove=remove, **texts)


def _parse_media(texts: Iterable[str]) -> list[ProductMedia]:
    """Parse links such as `https://img.example/chai.jpg A box of chai`; an empty text stands for no link."""
    links = (text.split(maxsplit=1) for text in texts if text.strip())
    return [ProductMedia(uri=uri, alt_text=" ".join(alt_text)) for uri, *alt_text in links]
