"""Masking changes the texts of personal data and nothing else: fields without a text stay empty."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct

from storekeep.server.transport.personal_data import MASK, find_masked_path, mask_message
from storekeep.v1 import audit_pb2, customers_pb2, orders_pb2

BEFORE = {
    "email": "ann@example.com",
    "phone": "",
    "tax_id": None,
    "display_name": "Ann",
    "version": 3.0,
    "addresses": [{"label": "home", "address": {"recipient": "Ann", "address_lines": ["1 Quay", ""], "locality": ""}}],
}
MASKED = {
    **BEFORE,
    "email": MASK,
    "display_name": MASK,
    "addresses": [{"label": MASK, "address": {"recipient": MASK, "address_lines": [MASK, ""], "locality": ""}}],
}


@pytest.mark.parametrize("side", ["before", "after"])
def test_record_of_a_customer_is_masked_where_it_has_texts(side: str) -> None:
    entry = audit_pb2.AuditEntry(resource="customers/ann", **{side: ParseDict(BEFORE, Struct())})
    mask_message(entry)
    assert MessageToDict(getattr(entry, side)) == MASKED
    assert not entry.HasField("after" if side == "before" else "before")


def test_record_of_another_resource_is_not_masked() -> None:
    entry = audit_pb2.AuditEntry(resource="products/ann", before=ParseDict(BEFORE, Struct()))
    mask_message(entry)
    assert MessageToDict(entry.before) == BEFORE


@pytest.mark.parametrize(
    ("change", "masked"),
    [
        ({"field": "email", "old_value": "", "new_value": "a@b.example"}, ("", MASK)),
        ({"field": "email", "old_value": "a@b.example", "new_value": ""}, (MASK, "")),
        ({"field": "shipping_address.recipient", "old_value": "Ann", "new_value": "Bob"}, (MASK, MASK)),
        ({"field": "state", "old_value": "PLACED", "new_value": "CONFIRMED"}, ("PLACED", "CONFIRMED")),
    ],
)
def test_change_of_an_order_is_masked_where_it_has_texts(change: dict[str, str], masked: tuple[str, str]) -> None:
    message = orders_pb2.OrderFieldChange(**change)
    mask_message(message)
    assert (message.old_value, message.new_value) == masked


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"email": MASK}, "email"),
        ({"email": f"{MASK}@example.com", "labels": {"email": MASK}}, ""),
        (
            {"addresses": [{"label": "home"}, {"address": {"address_lines": ["1 Quay", MASK]}}]},
            "addresses.address.address_lines",
        ),
    ],
)
def test_mask_in_a_request_is_found_in_personal_fields(fields: Any, path: str) -> None:
    assert find_masked_path(ParseDict(fields, customers_pb2.Customer())) == path
