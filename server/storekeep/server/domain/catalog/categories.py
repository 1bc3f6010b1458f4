"""Categories: a tree of groups of products without cycles. A category in use cannot be deleted."""

from __future__ import annotations

from collections.abc import Collection as Ids

import msgspec

from storekeep.server.domain.catalog.pricing_versions import raise_existing_version
from storekeep.server.domain.catalog.translations import LocalizedText
from storekeep.server.domain.errors import CategoryCycle, CategoryNotFound, InvalidField, ResourceInUse
from storekeep.server.domain.standard.collections import ACTIVE, LIFECYCLE_STATES, Collection
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import catalog as store

DEPTH_MAX = 20
"""The maximum number of ancestors of a category when its parent is set. Bounds the check for cycles."""


class Category(msgspec.Struct, frozen=True):
    """A group of products; see `Category` in the contract."""

    id: str
    display_name: str
    description: str = ""
    parent_id: str = ""
    state: str = ACTIVE
    version: int = 0
    create_time_us: int = 0
    update_time_us: int = 0
    delete_time_us: int | None = None
    translations: dict[str, LocalizedText] = {}

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"categories/{self.id}"


def require_category(tx: Transaction, category_id: str) -> None:
    """Raise unless the category exists and is not deleted. An empty id is no reference and passes.

    Raises: CategoryNotFound.
    """
    if category_id and CATEGORIES.find(tx, (category_id,)).delete_time_us is not None:
        raise CategoryNotFound(f"categories/{category_id}")


def _check_parent(tx: Transaction, new: Category, old: Category | None) -> None:
    """Walk up from the new parent to check existence, cycles and depth.

    Raises: CategoryNotFound, CategoryCycle, InvalidField for more than `DEPTH_MAX` ancestors.
    """
    if old is not None and old.parent_id == new.parent_id:
        return
    require_category(tx, new.parent_id)
    ancestor_id = new.parent_id
    for _ in range(DEPTH_MAX):
        if not ancestor_id:
            return
        if ancestor_id == new.id:
            raise CategoryCycle(new.name, parent=f"categories/{new.parent_id}")
        ancestor_id = CATEGORIES.find(tx, (ancestor_id,)).parent_id
    if ancestor_id:
        raise InvalidField("category.parent_category", f"a category can have at most {DEPTH_MAX} ancestors")


def _check_unused(tx: Transaction, category: Category) -> None:
    child = store.CATEGORY_IN.one(tx, category_id=category.id)
    if child is not None:
        raise ResourceInUse(category.name, user=f"categories/{child[0]}")
    product = store.PRODUCT_IN.one(tx, category_id=category.id)
    if product is not None:
        raise ResourceInUse(category.name, user=f"products/{product[0]}")


def _note_move(tx: Transaction, new: Category, old: Category | None) -> None:
    """Let promotions of a category apply to the categories that are now below it."""
    if new.parent_id != ("" if old is None else old.parent_id):
        raise_existing_version(tx)


def find_descendants(tx: Transaction, category_ids: Ids[str]) -> dict[str, list[str]]:
    """Return each category with all categories below it. Without categories, it reads nothing."""
    if not category_ids:
        return {}
    children: dict[str, list[str]] = {}
    for category_id, parent_id in store.CATEGORY_PARENTS.all(tx):
        children.setdefault(parent_id, []).append(category_id)
    found = {}
    for category_id in category_ids:
        below = [category_id]
        for one in below:  # grows while it is read; the tree has no cycles
            below.extend(children.get(one, ()))
        found[category_id] = below
    return found


CATEGORIES = Collection(
    Category,
    store.Category,
    key=("id",),
    pattern="categories/{}",
    event="category",
    not_found=CategoryNotFound,
    check=_check_parent,
    store_parts=_note_move,
    check_unused=_check_unused,
)
LISTING = Listing(
    method="ListCategories",
    query=lambda: store.Category.select(*CATEGORIES.rows.fields),
    columns={
        "display_name": Column(store.Category.display_name, FilterField(Kind.TEXT), sortable=True),
        "parent_category": Column(store.Category.parent_id, FilterField(Kind.TEXT, prefix="categories/")),
        "state": Column(
            store.Category.state, FilterField(Kind.STATE, choices=LIFECYCLE_STATES, prefix="CATEGORY_STATE_")
        ),
        "create_time": Column(store.Category.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Category.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.Category.id,),
    read_rows=CATEGORIES.read_rows,
    deleted=store.Category.delete_time_us,
)
