"""The hashes of audit entries: every field changes the hash, with and without a key."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import fields, replace

from storekeep.server.domain.keys.audit_chain import AuditedChange, LegacyChange, prepare_key

KEYED = AuditedChange(
    sequence=7,
    create_time_us=1_000_000,
    type="order.placed",
    actor="serviceAccounts/till",
    method="storekeep.v1.OrderService/PlaceOrder",
    resource="orders/1",
    request_id="00000000-0000-4000-8000-000000000000",
    api_key="serviceAccounts/till/apiKeys/main",
    session_id="00000000-0000-4000-8000-000000000001",
)
KEYLESS = LegacyChange(
    create_time_us=1_000_000,
    type="order.placed",
    actor="serviceAccounts/till",
    method="storekeep.v1.OrderService/PlaceOrder",
    resource="orders/1",
    request_id="00000000-0000-4000-8000-000000000000",
)
Change = AuditedChange | LegacyChange
PREVIOUS, BEFORE, AFTER = bytes(32), b'{"id":1}', b'{"id":2}'
CHANGED_FIELDS = [(change, field.name) for change in (KEYED, KEYLESS) for field in fields(change)]


def compute_hash(
    change: Change,
    *,
    key: bytes = bytes(32),
    previous: bytes = PREVIOUS,
    before: bytes | None = BEFORE,
    after: bytes | None = AFTER,
) -> bytes:
    """Return the hash of an entry with this content."""
    if isinstance(change, LegacyChange):
        return change.chain(previous, before, after)
    return change.chain(prepare_key(key), previous, before, after)


@pytest.mark.parametrize(
    ("change", "field"), CHANGED_FIELDS, ids=[f"{type(change).__name__}-{field}" for change, field in CHANGED_FIELDS]
)
def test_each_field_is_hashed(change: Change, field: str):
    value = getattr(change, field)
    other = value + 1 if isinstance(value, int) else f"{value}x"
    assert compute_hash(replace(change, **{field: other})) != compute_hash(change)


OTHERS: dict[str, Callable[[Change], bytes]] = {
    "hash before it": lambda change: compute_hash(change, previous=bytes(31) + b"\1"),
    "before": lambda change: compute_hash(change, before=b'{"id":3}'),
    "after": lambda change: compute_hash(change, after=b'{"id":3}'),
    "no before": lambda change: compute_hash(change, before=None),
    "no after": lambda change: compute_hash(change, after=None),
    "an empty before": lambda change: compute_hash(change, before=b""),
    "before and after in each other's place": lambda change: compute_hash(change, before=AFTER, after=BEFORE),
    "a byte moved from one to the other": lambda change: compute_hash(
        change, before=BEFORE + AFTER[:1], after=AFTER[1:]
    ),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("change", [KEYED, KEYLESS], ids=["keyed", "keyless"])
def test_what_stands_around_the_fields_is_hashed(change: Change, other: Callable[[Change], bytes]):
    assert other(change) != compute_hash(change)


def test_neighbouring_fields_do_not_run_into_each_other():
    one, other = replace(KEYED, method="a", resource="bc"), replace(KEYED, method="ab", resource="c")
    assert compute_hash(one) != compute_hash(other)


def test_hash_takes_the_key():
    assert compute_hash(KEYED, key=b"k" * 32) != compute_hash(KEYED)
