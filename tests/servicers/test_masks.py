"""Update masks (AIP-134): they change the named fields and nothing else."""

from __future__ import annotations

import pytest

from storekeep.v1 import products_pb2
from tests.support.records import Records
from tests.support.refusals import refused
from tests.support.resources import KINDS, LOCATION, PRODUCT, VARIANT, Kind
from tests.support.shops import Shop

each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
FIELDS = [(kind, field) for kind in KINDS for field in kind.changes]
NAMED = [kind for kind in KINDS if kind is not VARIANT]
"""The kinds that require a display name."""
CLEARABLE = [(kind, field) for kind, field in FIELDS if field != "display_name" or kind not in NAMED]
each_field = pytest.mark.parametrize(("kind", "field"), FIELDS, ids=str)


def differences(one, other) -> set[str]:
    """Return the fields that differ between two resources, without those that every change sets."""
    names = [field.name for field in one.DESCRIPTOR.fields]
    return {name for name in names if getattr(one, name) != getattr(other, name)} - {"etag", "update_time"}


@each_field
def test_mask_of_one_field_changes_it_alone(shop: Shop, kind: Kind, field: str):
    resource = kind.make(shop)
    updated = kind.update(shop, kind.changed(resource), field)
    assert differences(resource, updated) == {field}
    assert kind.get(shop, resource.name) == updated


@each_field
def test_mask_of_one_field_needs_no_other_in_the_message(shop: Shop, kind: Kind, field: str):
    resource = kind.make(shop)
    sparse = type(resource)(name=resource.name, **{field: kind.changes[field]})
    assert differences(resource, kind.update(shop, sparse, field)) == {field}


@each_kind
def test_star_changes_all_and_clears_what_is_absent(shop: Shop, kind: Kind):
    full = kind.update(shop, kind.changed(kind.make(shop)), *kind.changes)
    sparse = type(full)(name=full.name, display_name="Alone")
    assert differences(full, kind.update(shop, sparse, "*")) == set(kind.changes)


@each_kind
def test_absent_mask_changes_what_the_message_sets(shop: Shop, kind: Kind):
    full = kind.update(shop, kind.changed(kind.make(shop)), *kind.changes)
    sparse = type(full)(name=full.name, display_name="Alone")
    assert differences(full, kind.update(shop, sparse)) == {"display_name"}


@each_kind
def test_absent_mask_with_the_whole_resource_changes_nothing(shop: Shop, kind: Kind):
    resource = kind.make(shop)
    assert kind.update(shop, resource) == resource


@pytest.mark.parametrize(("kind", "field"), CLEARABLE, ids=str)
def test_mask_clears_what_the_message_leaves_out(shop: Shop, kind: Kind, field: str):
    full = kind.update(shop, kind.changed(kind.make(shop)), *kind.changes)
    cleared = kind.update(shop, type(full)(name=full.name), field)
    assert differences(full, cleared) == {field}
    assert not getattr(cleared, field) or not cleared.HasField(field)


@pytest.mark.parametrize("kind", NAMED, ids=str)
def test_mask_cannot_clear_a_required_field(shop: Shop, kind: Kind):
    resource = kind.make(shop)
    with refused("INVALID_FIELD") as refusal:
        kind.update(shop, type(resource)(name=resource.name), "display_name")
    assert list(refusal.violations) == [f"{kind.field}.display_name"]


@each_kind
@pytest.mark.parametrize("path", ["nothing", "displayName", "display_name.x", "", "*.display_name", "\x00", "🫖"])
def test_unknown_path_is_refused_and_named(shop: Shop, records: Records, kind: Kind, path: str):
    resource = kind.make(shop)
    before = records.last_sequence()
    with refused("INVALID_UPDATE_MASK") as refusal:
        kind.update(shop, kind.changed(resource), "display_name", path)
    assert refusal.metadata["path"] == path
    assert refusal.metadata["allowed"].startswith("display_name")
    assert records.last_sequence() == before


@each_kind
@pytest.mark.parametrize("path", ["name", "create_time", "update_time", "delete_time", "etag"])
def test_path_that_only_the_server_writes_is_refused(shop: Shop, kind: Kind, path: str):
    with refused("INVALID_UPDATE_MASK") as refusal:
        kind.update(shop, kind.make(shop), path)
    assert refusal.metadata["path"] == path


def test_state_is_not_written_by_an_update(shop: Shop):
    with refused("INVALID_UPDATE_MASK"):
        PRODUCT.update(shop, shop.product(), "state")


def test_immutable_path_is_refused(shop: Shop):
    variant = shop.variant()
    variant.sku = "OTHER"
    with refused("INVALID_UPDATE_MASK") as refusal:
        VARIANT.update(shop, variant, "sku")
    assert refusal.metadata["path"] == "sku"


def test_path_into_a_map_or_a_message_is_refused(shop: Shop):
    with refused("INVALID_UPDATE_MASK"):
        PRODUCT.update(shop, shop.product(labels={"a": "b"}), "labels.a")
    with refused("INVALID_UPDATE_MASK"):
        LOCATION.update(shop, shop.location(), "address.locality")


def test_star_beside_other_paths_is_refused(shop: Shop):
    with refused("INVALID_UPDATE_MASK"):
        PRODUCT.update(shop, shop.product(), "*", "display_name")


def test_path_named_twice_is_changed_once(shop: Shop):
    product = shop.product()
    product.display_name = "Twice"
    assert PRODUCT.update(shop, product, "display_name", "display_name").display_name == "Twice"


@each_kind
def test_update_without_name_is_refused(shop: Shop, kind: Kind):
    resource = kind.make(shop)
    resource.name = ""
    with refused("INVALID_FIELD") as refusal:
        kind.update(shop, resource, "display_name")
    assert list(refusal.violations) == [f"{kind.field}.name"]


@each_kind
def test_update_without_resource_is_refused(shop: Shop, kind: Kind):
    with refused("INVALID_FIELD") as refusal:
        shop.stub(f"Update{kind.noun}")(kind.request(f"Update{kind.noun}"))
    assert kind.field in " ".join(refusal.violations)


def test_very_long_path_is_refused_with_an_error_that_arrives(shop: Shop):
    with refused("INVALID_UPDATE_MASK"):
        PRODUCT.update(shop, shop.product(), "é" * 64_000)


def test_output_only_fields_of_a_new_resource_are_ignored(shop: Shop):
    product = products_pb2.Product(display_name="Tea", state="PRODUCT_STATE_ARCHIVED", etag="v9", name="products/other")
    product.delete_time.GetCurrentTime()
    made = shop.products.CreateProduct(products_pb2.CreateProductRequest(product=product))
    assert made.state == products_pb2.PRODUCT_STATE_ACTIVE
    assert made.etag == "v1"
    assert made.name != product.name
    assert not made.HasField("delete_time")
