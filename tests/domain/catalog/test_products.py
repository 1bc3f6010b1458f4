"""Products, and the standard methods of all resources: create, read, update, archive, delete, undelete."""

from __future__ import annotations

import uuid

import pytest

from storekeep.v1 import products_pb2
from tests.support.refusals import refused
from tests.support.resources import CATEGORY, KINDS, PRODUCT, Kind
from tests.support.shops import Shop, new_id

each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
each_archived = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.archives], ids=str)


@each_kind
def test_create_with_an_id_makes_it_under_that_name(shop: Shop, kind: Kind):
    resource_id = new_id()
    made = shop.stub(f"Create{kind.noun}")(kind.create_request(shop, resource_id, **kind.changes))
    assert made.name.endswith(f"/{resource_id}")
    assert made.etag == "v1"
    assert made.create_time == made.update_time
    assert not made.HasField("delete_time")
    assert kind.get(shop, made.name) == made


@each_kind
def test_create_without_an_id_makes_one_that_sorts_by_time(shop: Shop, kind: Kind):
    request = kind.create_request(shop, "")
    if kind.noun == "Variant":
        request.variant.sku = new_id()
    made = shop.stub(f"Create{kind.noun}")(request)
    assert uuid.UUID(made.name.rpartition("/")[2]).version == 7


@each_kind
def test_create_keeps_every_field(shop: Shop, kind: Kind):
    request = kind.create_request(shop, new_id(), **kind.changes)
    made = shop.stub(f"Create{kind.noun}")(request)
    draft = getattr(request, kind.field)
    assert all(getattr(made, field) == getattr(draft, field) for field in kind.changes)


@each_kind
def test_batch_get_answers_in_the_order_of_the_names(shop: Shop, kind: Kind):
    made = [kind.make(shop) for _ in range(4)]
    made = [made[2], made[0], made[3], made[1]]
    batch = shop.stub(f"BatchGet{kind.plural}")(kind.batch_request(one.name for one in made))
    assert list(getattr(batch, kind.items)) == made


@each_kind
def test_batch_get_answers_a_name_as_often_as_it_is_asked_for(shop: Shop, kind: Kind):
    made = kind.make(shop)
    batch = shop.stub(f"BatchGet{kind.plural}")(kind.batch_request([made.name] * 3))
    assert list(getattr(batch, kind.items)) == [made] * 3


@each_kind
def test_batch_get_names_the_first_that_is_missing(shop: Shop, kind: Kind):
    missing = f"{kind.missing}-2"
    with refused(kind.not_found) as refusal:
        shop.stub(f"BatchGet{kind.plural}")(kind.batch_request([kind.make(shop).name, missing, kind.missing]))
    assert refusal.metadata == {"resource": missing}


@each_kind
@pytest.mark.parametrize("count", [0, 1001])
def test_batch_get_of_none_or_too_many_is_refused(shop: Shop, kind: Kind, count: int):
    with refused("INVALID_FIELD") as refusal:
        shop.stub(f"BatchGet{kind.plural}")(kind.batch_request([kind.missing] * count))
    assert list(refusal.violations) == ["names"]


@each_kind
def test_deleted_resource_can_be_read_and_brought_back(shop: Shop, kind: Kind):
    made = kind.make(shop)
    gone = kind.do(shop, "Delete", made.name)
    assert gone.HasField("delete_time")
    assert kind.get(shop, made.name) == gone
    back = kind.do(shop, "Undelete", made.name)
    assert not back.HasField("delete_time")
    assert kind.update(shop, kind.changed(back), *kind.changes).etag == "v4"


@each_archived
def test_archived_resource_is_archived_until_it_is_not(shop: Shop, kind: Kind):
    made = kind.make(shop)
    archived = kind.do(shop, "Archive", made.name)
    assert archived.state != made.state
    assert kind.get(shop, made.name) == archived
    assert kind.do(shop, "Unarchive", made.name).state == made.state


@each_archived
def test_illegal_state_names_both_states(shop: Shop, kind: Kind):
    name = kind.make(shop).name
    with refused("ILLEGAL_STATE") as refusal:
        kind.do(shop, "Unarchive", name)
    assert refusal.metadata == {"resource": name, "state": "ACTIVE", "wanted": "ACTIVE"}


@each_kind
def test_times_rise_with_every_change(shop: Shop, kind: Kind):
    made = kind.make(shop)
    changed = kind.update(shop, kind.changed(made), *kind.changes)
    assert changed.create_time == made.create_time
    assert changed.update_time.ToMicroseconds() > made.update_time.ToMicroseconds()


def test_create_product_with_a_deleted_category_is_refused(shop: Shop):
    category = shop.category().name
    CATEGORY.do(shop, "Delete", category)
    with refused("CATEGORY_NOT_FOUND") as refusal:
        shop.product(category=category)
    assert refusal.metadata == {"resource": category}


def test_product_keeps_a_category_that_was_archived(shop: Shop):
    category = shop.category().name
    product = shop.product(category=category)
    CATEGORY.do(shop, "Archive", category)
    assert PRODUCT.get(shop, product.name).category == category


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        ({f"k{number}": "" for number in range(65)}, "product.labels"),
        ({"": "x"}, "product.labels[]"),
        ({"k" * 64: "x"}, f"product.labels[{'k' * 64}]"),
        ({"k": "v" * 256}, "product.labels[k]"),
    ],
    ids=["too many", "no key", "long key", "long value"],
)
def test_labels_beyond_their_limits_are_refused(shop: Shop, labels: dict[str, str], field: str):
    with refused("INVALID_FIELD") as refusal:
        shop.product(labels=labels)
    assert list(refusal.violations) == [field]


@pytest.mark.parametrize(
    ("media", "field"),
    [
        ([{"uri": "https://img.example/x.jpg"}] * 51, "product.media"),
        ([{"uri": ""}], "product.media[0].uri"),
        ([{"uri": "javascript:alert(1)"}], "product.media[0].uri"),
        ([{"uri": "https://img.example/a b.jpg"}], "product.media[0].uri"),
        ([{"uri": "https://img.example/a.jpg\n"}], "product.media[0].uri"),
        ([{"uri": "https://img.example/" + "x" * 2_048}], "product.media[0].uri"),
        ([{"uri": "https://img.example/a.jpg", "alt_text": "t" * 501}], "product.media[0].alt_text"),
    ],
    ids=["too many", "no URL", "script", "space", "line end", "long URL", "long text"],
)
def test_media_beyond_their_limits_are_refused(shop: Shop, media: list[dict[str, str]], field: str):
    with refused("INVALID_FIELD") as refusal:
        shop.product(media=media)
    assert list(refusal.violations) == [field]


def test_description_may_be_as_long_as_the_contract_says(shop: Shop):
    assert len(shop.product(description="d" * 10_000).description) == 10_000
    with refused("INVALID_FIELD"):
        shop.product(description="d" * 10_001)


def test_deleted_product_keeps_its_name_taken(shop: Shop):
    product = shop.product()
    PRODUCT.do(shop, "Delete", product.name)
    with refused("ALREADY_EXISTS") as refusal:
        shop.products.CreateProduct(
            products_pb2.CreateProductRequest(product=product, product_id=product.name.removeprefix("products/"))
        )
    assert refusal.metadata == {"resource": product.name}
