"""Products: catalogue entries whose variants are sold.

The category of a product must exist. Products are only soft-deleted, so that orders keep valid references. A draft is
active from its publish time on, even before that is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from storekeep.server.domain.calls import Call
from storekeep.server.domain.catalog.categories import require_category
from storekeep.server.domain.catalog.documents import index_product
from storekeep.server.domain.catalog.translations import LocalizedText
from storekeep.server.domain.errors import IllegalState, ProductNotFound
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.collections import ACTIVE, ARCHIVED, Collection, Key
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing, ListRequest
from storekeep.server.domain.standard.pages import Page, PageTokens
from storekeep.server.domain.standard.resources import check_etag, check_not_deleted
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import catalog as store

DRAFT = "DRAFT"
ARCHIVED_WAY_OUT = "unarchive it to put it back on sale"
STATES = (DRAFT, ACTIVE, ARCHIVED)
"""DRAFT can change to ACTIVE only; ACTIVE and ARCHIVED to each other."""


class MediaLink(msgspec.Struct, frozen=True):
    """A link to an image, a video or a document."""

    uri: str
    alt_text: str = ""


class Product(msgspec.Struct, frozen=True):
    """A product; see `Product` in the contract."""

    id: str
    display_name: str
    description: str = ""
    category_id: str = ""
    state: str = ACTIVE
    labels: dict[str, str] = {}
    version: int = 0
    create_time_us: int = 0
    update_time_us: int = 0
    delete_time_us: int | None = None
    publish_time_us: int | None = None
    media: tuple[MediaLink, ...] = ()
    translations: dict[str, LocalizedText] = {}

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"products/{self.id}"

    def apply_publishing(self, now_us: int) -> Product:
        """Return the product as ACTIVE from its publish time on, even if it is stored as DRAFT."""
        if self.state == DRAFT and self.publish_time_us is not None and self.publish_time_us <= now_us:
            return msgspec.structs.replace(self, state=ACTIVE)
        return self


def _check_product(tx: Transaction, new: Product, old: Product | None) -> None:
    if old is not None and old.state != DRAFT and new.publish_time_us != old.publish_time_us:
        problem = "only drafts have a publish time that can be changed"
        way_out = "archive it to take it off sale" if old.state == ACTIVE else ARCHIVED_WAY_OUT
        raise IllegalState(old.name, state=old.state, target=DRAFT, problem=problem, way_out=way_out)
    if old is None or old.category_id != new.category_id:
        require_category(tx, new.category_id)


def _index_product(tx: Transaction, new: Product, old: Product | None) -> None:
    if old is None or _list_texts(old) != _list_texts(new):
        index_product(tx, new.id)


def _list_texts(product: Product) -> tuple[object, ...]:
    """Return what the search document has of the product itself."""
    return product.display_name, product.description, product.translations


PRODUCTS = Collection(
    Product,
    store.Product,
    key=("id",),
    pattern="products/{}",
    event="product",
    not_found=ProductNotFound,
    check=_check_product,
    store_parts=_index_product,
    apply_time=Product.apply_publishing,
)
LISTING = Listing(
    method="ListProducts",
    query=lambda: store.Product.select(*PRODUCTS.rows.fields),
    columns={
        "display_name": Column(store.Product.display_name, FilterField(Kind.TEXT), sortable=True),
        "category": Column(store.Product.category_id, FilterField(Kind.TEXT, prefix="categories/")),
        "labels": Column(store.Product.labels, FilterField(Kind.MAP)),
        "state": Column(
            store.Product.state,
            FilterField(Kind.STATE, choices=STATES, prefix="PRODUCT_STATE_"),
            matches=store.compare_product_state,
        ),
        "create_time": Column(store.Product.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Product.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.Product.id,),
    read_rows=PRODUCTS.read_rows,
    deleted=store.Product.delete_time_us,
)


# -- reading, as far as the caller may see drafts


def get_product(db: Store, key: Key, *, sees_drafts: bool) -> Product:
    """Return one product, deleted or not.

    Raises: ProductNotFound, also for a draft that the caller may not see.
    """
    product = PRODUCTS.get(db, key)
    if product.state == DRAFT and not sees_drafts:
        raise ProductNotFound(product.name)
    return product


def batch_get_products(db: Store, keys: Sequence[Key], *, sees_drafts: bool) -> list[Product]:
    """Return all products with these keys, in the order of the keys, as of one point in time.

    Raises: ProductNotFound, also for a draft that the caller may not see; BatchTooLarge.
    """

    def keep_visible(_tx: Transaction, products: list[Product]) -> list[Product]:
        return [product for product in products if sees_drafts or product.state != DRAFT]

    return PRODUCTS.batch_get(db, keys, keep_visible=keep_visible)


def list_products(db: Store, request: ListRequest, *, tokens: PageTokens, sees_drafts: bool) -> Page[Product]:
    """Return one page of the products that the caller may see.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
    """

    def work(tx: Transaction) -> Page[Product]:
        hidden = store.is_draft(tx.now_us)
        listing = LISTING if sees_drafts else replace(LISTING, query=lambda: LISTING.query().where(~hidden))
        return listing.page(tx, request, tokens=tokens)

    return db.snapshot(work)


# -- publishing


def publish_product(db: Store, call: Call, key: Key, *, etag: str) -> Product:
    """Publish a draft now.

    Raises: ProductNotFound, ResourceDeleted, EtagMismatch, IllegalState.
    """

    def effect(mutation: Mutation) -> Product:
        old = PRODUCTS.find(mutation.tx, key)
        check_not_deleted(old)
        check_etag(old, etag)
        if old.state != DRAFT:
            way_out = ARCHIVED_WAY_OUT if old.state == ARCHIVED else ""
            raise IllegalState(old.name, state=old.state, target=ACTIVE, way_out=way_out)
        new = msgspec.structs.replace(old, publish_time_us=mutation.tx.now_us)
        return PRODUCTS.replace(mutation, old, new, action="published")

    return mutate(db, call, effect, Product)
