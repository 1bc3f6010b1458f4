"""Products: catalogue entries whose variants are sold.

The category of a product must exist. Products are only soft-deleted, so that orders keep valid references.
"""

from __future__ import annotations

import msgspec

from storekeep.server.domain.catalog.categories import require_category
from storekeep.server.domain.catalog.documents import index_product
from storekeep.server.domain.errors import ProductNotFound
from storekeep.server.domain.standard.collections import ACTIVE, LIFECYCLE_STATES, Collection
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import catalog as store


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

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"products/{self.id}"


def _check_category(tx: Transaction, new: Product, old: Product | None) -> None:
    if old is None or old.category_id != new.category_id:
        require_category(tx, new.category_id)


def _index_product(tx: Transaction, new: Product, old: Product | None) -> None:
    if old is None or (old.display_name, old.description) != (new.display_name, new.description):
        index_product(tx, new.id)


PRODUCTS = Collection(
    Product,
    store.Product,
    key=("id",),
    pattern="products/{}",
    event="product",
    not_found=ProductNotFound,
    check=_check_category,
    store_parts=_index_product,
)
LISTING = Listing(
    method="ListProducts",
    query=lambda: store.Product.select(*PRODUCTS.rows.fields),
    columns={
        "display_name": Column(store.Product.display_name, FilterField(Kind.TEXT), sortable=True),
        "category": Column(store.Product.category_id, FilterField(Kind.TEXT, prefix="categories/")),
        "labels": Column(store.Product.labels, FilterField(Kind.MAP)),
        "state": Column(
            store.Product.state, FilterField(Kind.STATE, choices=LIFECYCLE_STATES, prefix="PRODUCT_STATE_")
        ),
        "create_time": Column(store.Product.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Product.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.Product.id,),
    read_rows=PRODUCTS.read_rows,
    deleted=store.Product.delete_time_us,
)
