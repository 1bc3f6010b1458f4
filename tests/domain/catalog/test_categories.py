"""Categories: a tree without cycles; categories in use cannot be deleted."""

from __future__ import annotations

import pytest

from storekeep.server.domain.catalog.categories import DEPTH_MAX
from storekeep.v1 import products_pb2
from tests.support.mutations import copy_message
from tests.support.refusals import refused
from tests.support.resources import CATEGORY, PRODUCT
from tests.support.shops import Shop


def create_chain(shop: Shop, length: int) -> list[products_pb2.Category]:
    """Create categories, each the child of the previous one."""
    made = [shop.category()]
    while len(made) < length:
        made.append(shop.category(parent_category=made[-1].name))
    return made


def move_category(shop: Shop, category: products_pb2.Category, *, below: str) -> products_pb2.Category:
    return CATEGORY.update(shop, copy_message(category, parent_category=below, etag=""), "parent_category")


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_category_below_itself_is_refused(shop: Shop, depth: int):
    made = create_chain(shop, depth + 1)
    with refused("CATEGORY_CYCLE") as refusal:
        move_category(shop, made[0], below=made[-1].name)
    assert refusal.metadata == {"category": made[0].name, "parent": made[-1].name}


def test_category_moves_with_what_is_below_it(shop: Shop):
    top, middle, bottom = create_chain(shop, 3)
    other = shop.category()
    assert move_category(shop, middle, below=other.name).parent_category == other.name
    assert CATEGORY.get(shop, bottom.name).parent_category == middle.name
    assert move_category(shop, top, below=bottom.name).parent_category == bottom.name


def test_category_moves_to_the_top(shop: Shop):
    assert move_category(shop, create_chain(shop, 2)[1], below="").parent_category == ""


def test_tree_is_as_deep_as_it_may_be_and_not_deeper(shop: Shop):
    made = create_chain(shop, DEPTH_MAX + 1)
    assert made[-1].parent_category == made[-2].name
    with refused("INVALID_FIELD") as refusal:
        shop.category(parent_category=made[-1].name)
    assert list(refusal.violations) == ["category.parent_category"]


def test_category_below_a_missing_one_is_refused(shop: Shop):
    with refused("CATEGORY_NOT_FOUND") as refusal:
        shop.category(parent_category=CATEGORY.missing)
    assert refusal.metadata == {"resource": CATEGORY.missing}


def test_category_with_a_child_is_deleted_only_after_it(shop: Shop):
    parent, child = create_chain(shop, 2)
    with refused("RESOURCE_IN_USE") as refusal:
        CATEGORY.do(shop, "Delete", parent.name)
    assert refusal.metadata == {"resource": parent.name, "user": child.name}
    CATEGORY.do(shop, "Delete", child.name)
    assert CATEGORY.do(shop, "Delete", parent.name).HasField("delete_time")


def test_category_with_a_product_is_deleted_only_after_it(shop: Shop):
    category = shop.category().name
    product = shop.product(category=category).name
    with refused("RESOURCE_IN_USE") as refusal:
        CATEGORY.do(shop, "Delete", category)
    assert refusal.metadata["user"] == product
    PRODUCT.do(shop, "Delete", product)
    assert CATEGORY.do(shop, "Delete", category).HasField("delete_time")


def test_archived_category_leaves_its_products_on_sale(shop: Shop):
    category = shop.category().name
    product = shop.product(category=category)
    sku = shop.variant(parent=product.name, stock=1).sku
    CATEGORY.do(shop, "Archive", category)
    assert shop.order((sku, 1)).name
