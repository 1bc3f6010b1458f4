"""Records of every mutation: one event and one audit entry; none for a dry run or a retry."""

from __future__ import annotations

import msgspec
import pytest

from tests.support.mutations import (
    CHANGES,
    CREATES,
    MANY,
    RPCS_THAT_CHANGE,
    Change,
    copy_message,
    etag_holder,
    has_version_etag,
    normalize_reply,
)
from tests.support.records import Records
from tests.support.resources import KINDS, Kind
from tests.support.shops import Shop, new_request_id

each_change = pytest.mark.parametrize("change", CHANGES, ids=str)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


def test_table_of_changes_has_every_mutation_of_the_contract():
    assert {change.rpc for change in CHANGES} == RPCS_THAT_CHANGE - MANY


@each_change
def test_change_writes_its_one_event(shop: Shop, records: Records, change: Change):
    request = change.prepare(shop)
    before = records.last_sequence()
    reply = change.send(shop, request)
    *others, (kind, resource, after) = records.events_after(before)
    assert (kind, resource) == (change.event, reply.name)
    assert tuple(kind for kind, *_ in others) == change.also
    assert has_version_etag(reply, after.get("version"))


@each_change
def test_change_writes_its_one_audit_entry(shop: Shop, records: Records, change: Change):
    request = copy_message(change.prepare(shop), request_id=new_request_id())
    before = records.last_sequence()
    reply = change.send(shop, request)
    *others, (actor, method, resource, request_id, old, new) = records.audit_entries_after(before)
    assert (actor, method, resource, request_id) == (shop.subject, change.method, reply.name, request.request_id)
    assert {entry[:2] + entry[3:4] for entry in others} <= {(actor, method, request_id)}
    assert has_version_etag(reply, new.get("version"))
    assert (old is None) == (new.get("version", 1) == 1)
    assert old is None or old["version"] == new["version"] - 1


def test_sequences_of_events_and_audit_entries_have_no_gap(shop: Shop, records: Records):
    shop.product()
    for table in ("events", "audit_entries"):
        assert records.value(f"SELECT COUNT(*) = MAX(sequence) AND MIN(sequence) = 1 FROM {table}")


def test_event_holds_what_the_audit_entry_holds(shop: Shop, records: Records):
    before = records.last_sequence()
    shop.confirm(shop.order())
    changes = [after for *_, after in records.audit_entries_after(before)]
    assert [after for *_, after in records.events_after(before)] == changes
    assert msgspec.json.encode(changes)


# -- dry runs


@each_change
def test_dry_run_leaves_nothing(shop: Shop, records: Records, change: Change):
    request = copy_message(change.prepare(shop), validate_only=True, request_id=new_request_id())
    before = records.everything()
    change.send(shop, request)
    assert records.everything() == before


@each_change
def test_dry_run_answers_as_the_real_thing(shop: Shop, change: Change):
    request = change.prepare(shop)
    tried = change.send(shop, copy_message(request, validate_only=True))
    assert normalize_reply(tried) == normalize_reply(change.send(shop, request))


@each_change
def test_dry_run_with_request_id_leaves_the_id_free(shop: Shop, change: Change):
    request = copy_message(change.prepare(shop), request_id=new_request_id())
    change.send(shop, copy_message(request, validate_only=True))
    assert change.send(shop, request).name


@each_change
def test_dry_run_of_what_fails_leaves_nothing(shop: Shop, records: Records, change: Change):
    request = copy_message(change.prepare(shop), validate_only=True)
    if etag_holder(request) is None:
        request.location = "locations/nowhere"
    elif change.rpc in CREATES:
        change.send(shop, copy_message(request, validate_only=False))
    else:
        etag_holder(request).etag = "v999"
    before = records.everything()
    with pytest.raises(Exception, match=r"no such|exists|changed since|belongs to"):
        change.send(shop, request)
    assert records.everything() == before


# -- changes without effect


@each_kind
def test_update_to_the_same_values_writes_nothing(shop: Shop, records: Records, kind: Kind):
    resource = kind.make(shop)
    before = records.everything()
    assert kind.update(shop, resource, *kind.changes) == resource
    assert records.everything() == before
