"""The standard methods of the resources of pricing, once for each."""

from __future__ import annotations

import uuid

import pytest

from storekeep.client import (
    AlreadyExists,
    EtagMismatch,
    InvalidUpdateMask,
    NotFound,
    ResourceDeleted,
    ResourceNotDeleted,
    Storekeep,
)
from tests.support.pricing import KINDS, WINDOW, Kind
from tests.support.shops import money, new_id

each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "start_time" in kind.changes], ids=str)
@pytest.mark.parametrize("field", ["start_time", "end_time"])
def test_filter_and_its_negation_find_each_resource_once_if_it_has_a_time_or_not(
    client: Storekeep, kind: Kind, field: str
):
    methods, bound = kind.methods(client), '"2024-01-01T00:00:00Z"'
    without, made = kind.make(client), kind.make(client)
    within = methods.update(kind.change(made), update_mask=[name for name in kind.changes if name in WINDOW])
    both = {without.name, within.name}
    for term in (f"{field}:*", *(f"{field} {operator} {bound}" for operator in ("=", "!=", "<", "<=", ">", ">="))):
        found = {item.name for item in methods.list(filter=term, page_size=1000)} & both
        others = {item.name for item in methods.list(filter=f"-{term}", page_size=1000)} & both
        assert (found | others, found & others) == (both, set()), term
        assert (without.name in found) == ("!=" in term), term


@each_kind
def test_created_resource_is_read_listed_and_found(client: Storekeep, kind: Kind):
    methods = kind.methods(client)
    made = kind.make(client)
    assert made.etag == "v1"
    assert methods.get(made.name) == made
    assert made in list(methods.list(order_by="create_time desc", page_size=5))
    with pytest.raises(AlreadyExists):
        kind.make(client, made.name.rpartition("/")[2])


@each_kind
def test_every_field_is_changed_and_found_by_a_filter(client: Storekeep, kind: Kind):
    methods = kind.methods(client)
    made = kind.make(client)
    changed = methods.update(kind.change(made), update_mask=list(kind.changes))
    expected = kind.change(made)
    expected.etag = "v2"
    expected.update_time.CopyFrom(changed.update_time)
    if kind.field == "promotion":
        expected.spent.CopyFrom(money("0"))
    assert changed == expected
    assert changed in list(methods.list(filter=kind.filter))
    assert made.name not in [item.name for item in methods.list(filter=f"NOT ({kind.filter})")]


@each_kind
def test_one_field_is_changed_and_no_other(client: Storekeep, kind: Kind):
    methods = kind.methods(client)
    made = kind.make(client)
    for version, field in enumerate(kind.order, 2):
        before = methods.get(made.name)
        after = methods.update(kind.change(made), update_mask=[field])
        assert after.etag == f"v{version}"
        assert [name for name in kind.changes if getattr(after, name) != getattr(before, name)] == [field]


@each_kind
def test_etag_and_mask_are_checked(client: Storekeep, kind: Kind):
    methods = kind.methods(client)
    made = kind.make(client)
    stale = kind.change(made)
    stale.etag = "v9"
    with pytest.raises(EtagMismatch):
        methods.update(stale)
    with pytest.raises(InvalidUpdateMask):
        methods.update(made, update_mask=["name"])
    with pytest.raises(EtagMismatch):
        methods.delete(made.name, etag="v9")
    assert methods.get(made.name) == made


@each_kind
def test_deleted_resource_is_hidden_until_it_is_restored(client: Storekeep, kind: Kind):
    methods = kind.methods(client)
    made = kind.make(client)
    deleted = methods.delete(made.name)
    assert deleted.HasField("delete_time")
    assert methods.get(made.name) == deleted
    query = {"order_by": "create_time desc", "page_size": 5}
    assert made.name not in [item.name for item in methods.list(**query)]
    assert deleted in list(methods.list(show_deleted=True, **query))
    with pytest.raises(NotFound):
        methods.delete(made.name)
    with pytest.raises(ResourceDeleted):
        methods.update(kind.change(made))
    restored = methods.undelete(made.name)
    assert not restored.HasField("delete_time")
    with pytest.raises(ResourceNotDeleted):
        methods.undelete(made.name)


@each_kind
def test_missing_resource_is_not_found(client: Storekeep, kind: Kind):
    methods = kind.methods(client)
    missing = kind.change(kind.build(client))
    missing.name = f"{kind.make(client).name.partition('/')[0]}/nowhere"
    for call in (methods.get, methods.delete, methods.undelete):
        with pytest.raises(NotFound):
            call(missing.name)
    with pytest.raises(NotFound):
        methods.update(missing)


@each_kind
def test_retry_has_one_effect_and_a_dry_run_none(client: Storekeep, kind: Kind):
    new, resource_id, request_id = kind.build(client), new_id("r"), str(uuid.uuid4())
    create = kind.methods(client).create
    options = {f"{kind.field}_id": resource_id}
    tried = create(new, validate_only=True, **options)
    with pytest.raises(NotFound):
        kind.methods(client).get(tried.name)
    made = create(new, request_id=request_id, **options)
    assert create(new, request_id=request_id, **options) == made


@each_kind
def test_each_change_is_an_event_with_the_resource(client: Storekeep, kind: Kind):
    methods = kind.methods(client)
    made = kind.make(client)
    states = [made, methods.update(kind.change(made)), methods.delete(made.name), methods.undelete(made.name)]
    events = list(client.events.list(filter=f'resource = "{made.name}"'))
    verbs = ("created", "updated", "deleted", "undeleted")
    assert [event.type for event in events] == [f"{kind.noun}.{verb}" for verb in verbs]
    for event, state in zip(events, states, strict=True):
        content = type(made)()
        assert event.content.Unpack(content)
        assert content == state
