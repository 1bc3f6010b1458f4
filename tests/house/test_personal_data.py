"""The contract decides for every field that looks personal whether it is, and older permissions keep what they read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.type import date_pb2

from storekeep.server.domain.access.personal_data import READERS
from storekeep.server.domain.access.users import User
from storekeep.server.domain.addresses import Address
from storekeep.server.domain.customers import Customer, LabelledAddress
from storekeep.server.domain.exemptions import Exemption
from storekeep.server.domain.orders.fulfillments import Fulfillment, Parcel
from storekeep.server.domain.orders.notes import OrderNote
from storekeep.server.domain.orders.orders import Order
from storekeep.server.domain.orders.quotes import Quote
from storekeep.server.domain.stock.reservations import Reservation
from storekeep.server.transport import contract, personal_data
from storekeep.v1 import addresses_pb2, customers_pb2, inventory_pb2, options_pb2, orders_pb2, quotes_pb2, users_pb2
from tests.support.checkout import ROOT

REFERENCE = ROOT / "docs/reference"
LOOKS_PERSONAL = re.compile(
    r"(^|_)(address(es)?(_?lines?_?\d*)?|bank_account|bic|birth\w*|city|company|contact\w*|content|e?mails?(_address(es)?)?|"
    r"(family|first|full|given|last|maiden|middle|nick|sur|user|person\w*)_?names?|fax\w*|gender|i[dp]_(address|card)|iban|"
    r"identity_card|ip|latitude|locality|longitude|mobile\w*|name_on\w*|nationality|notes?|organization|passport\w*|"
    r"person|phones?(_\w+)?|photo\w*|postal_(address|code)|post_?code|query|reason|recipient\w*|salutation|signature_name|"
    r"social_security\w*|ssn|street\w*|tax_id|tel|telephone\w*|tracking\w*|user_agent|vat\w*|zip(_?code)?)$"
)
"""Names of fields that are often personal."""
PERSONAL_KINDS = {"google.type.Date", "google.type.LatLng", "google.type.PhoneNumber", "google.type.PostalAddress"}
"""Messages of others that hold what a text may hold, such as a date of birth."""
WITHOUT_PERSONS = {
    "AdjustStockRequest.reason": "about stock",
    "CommitReservationRequest.reason": "about stock",
    "MethodErrors.reasons": "error reasons",
    "SearchProductsRequest.query": "about products",
    "SetStockRequest.reason": "about stock",
    "StockMovement.reason": "about stock",
    "TransferStockRequest.reason": "about stock",
    "WebhookEndpoint.state_reason": "written by the server",
}
"""Fields that look personal in messages without persons -> why they are not."""
DECIDED: tuple[Any, ...] = (
    addresses_pb2.Address,
    customers_pb2.Customer,
    customers_pb2.CustomerAddress,
    customers_pb2.CustomerTaxExemption,
    inventory_pb2.Reservation,
    orders_pb2.Fulfillment,
    orders_pb2.Order,
    orders_pb2.OrderNote,
    orders_pb2.OrderTaxExemption,
    orders_pb2.Parcel,
    users_pb2.User,
    quotes_pb2.Quote,
)
"""Messages about persons: each of their texts is decided."""
NOT_PERSONAL = {
    "actor",
    "carrier",
    "coupon_codes",
    "currency_code",
    "customer",
    "etag",
    "external_reference",
    "groups",
    "labels",
    "language_code",
    "location",
    "merged_into",
    "name",
    "number",
    "order",
    "quote",
    "region_code",
    "roles",
    "shipping_method",
    "source",
}
"""Their texts that are not personal: names of resources, numbers, languages, and labels for programs."""
STORED: dict[type[msgspec.Struct], Any] = {
    Customer: customers_pb2.Customer,
    LabelledAddress: customers_pb2.CustomerAddress,
    Address: addresses_pb2.Address,
    Order: orders_pb2.Order,
    OrderNote: orders_pb2.OrderNote,
    Fulfillment: orders_pb2.Fulfillment,
    Parcel: orders_pb2.Parcel,
    Quote: quotes_pb2.Quote,
    Exemption: orders_pb2.OrderTaxExemption,
    Reservation: inventory_pb2.Reservation,
    User: users_pb2.User,
}
"""The stored copies of messages about persons."""
PERSONS = [stored for stored in STORED if hasattr(stored, "PERSONAL")]
"""The stored resources whose personal fields are encrypted."""
STORED_OTHERWISE = {
    "encrypted",
    "secrets_digest",
    "id",
    "customer_id",
    "order_id",
    "location_id",
    "state",
    "currency_code",
    "unique_reference",
    "identity",
}
"""Texts of stored copies that the contract names differently, or that are codes."""


NEWER = {"accounts.read", "accounts.write"}
"""Permissions that read personal data only since users exist, which no older role reads."""


def walk(descriptor: Descriptor) -> Iterator[Descriptor]:
    yield descriptor
    for nested in descriptor.nested_types:
        yield from walk(nested)


MESSAGES = [
    message
    for file in (*contract.FILES, addresses_pb2)
    for top in file.DESCRIPTOR.message_types_by_name.values()
    for message in walk(top)
    if not message.GetOptions().map_entry
]


def is_decided(field: FieldDescriptor) -> bool:
    return field.GetOptions().HasExtension(options_pb2.personal)


def is_text(field: FieldDescriptor) -> bool:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return True
    return field.type == FieldDescriptor.TYPE_STRING


def holds_values(field: FieldDescriptor) -> bool:
    """Return whether a field can hold personal data itself, and not in fields of a message of ours."""
    if field.message_type is not None:
        return is_text(field) or field.message_type.full_name.startswith(("google.type.", "google.protobuf."))
    return field.type not in (FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_ENUM)


def looks_personal(field: FieldDescriptor) -> bool:
    if field.message_type is not None and field.message_type.full_name in PERSONAL_KINDS:
        return True
    return holds_values(field) and LOOKS_PERSONAL.search(field.name) is not None


def list_undecided(messages: Iterable[Descriptor]) -> list[str]:
    """Return the fields that look personal, of which the contract does not say whether they are."""
    return [
        f"{message.name}.{field.name}"
        for message in messages
        for field in message.fields
        if looks_personal(field) and not is_decided(field)
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(
            (name, "string")
            for name in ("phone_number", "given_name", "nickname", "zip_code", "contact_email", "mobile")
        ),
        *(
            (name, "string")
            for name in ("street_2", "address_line1", "billing_address", "passport_number", "user_agent")
        ),
        ("birth_date", ".google.type.Date"),
        ("anniversary", ".google.type.Date"),
        ("phone", "int64"),
        ("iban", "bytes"),
        ("emails", "string"),
    ],
)
def test_new_field_that_looks_personal_is_noticed(name: str, kind: str) -> None:
    file = descriptor_pb2.FileDescriptorProto(name="new.proto", package="new", dependency=["google/type/date.proto"])
    field = file.message_type.add(name="Location").field.add(name=name, number=1, label=1)
    if kind.startswith("."):
        field.type, field.type_name = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE, kind
    else:
        field.type = descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(date_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    assert list_undecided([pool.FindMessageTypeByName("new.Location")]) == [f"Location.{name}"]


def test_field_that_looks_personal_says_whether_it_is() -> None:
    undecided = list_undecided(MESSAGES)
    assert sorted(set(undecided) - WITHOUT_PERSONS.keys()) == []
    assert sorted(WITHOUT_PERSONS.keys() - set(undecided) - {"MethodErrors.reasons"}) == []


@pytest.mark.parametrize("message", [kind.DESCRIPTOR for kind in DECIDED], ids=lambda message: message.name)
def test_every_text_about_a_person_is_decided(message: Descriptor) -> None:
    undecided = {field.name for field in message.fields if is_text(field) and not is_decided(field)}
    assert undecided <= NOT_PERSONAL


def test_every_personal_field_has_a_category_and_a_purpose() -> None:
    options = [
        (f"{message.name}.{field.name}", field.GetOptions().Extensions[options_pb2.personal])
        for message in MESSAGES
        for field in message.fields
        if is_decided(field)
    ]
    assert [name for name, option in options if not option.category or not option.purpose.endswith(".")] == []
    assert len(options) > 40


def test_every_record_has_a_function_that_masks_it() -> None:
    records = {
        message.full_name
        for message in MESSAGES
        for field in message.fields
        if field.GetOptions().Extensions[options_pb2.personal].category == options_pb2.PERSONAL_CATEGORY_RECORD
    }
    assert records == personal_data.RECORDS.keys()


@pytest.mark.parametrize("stored", STORED, ids=lambda stored: stored.__name__)
def test_stored_copy_names_its_texts_as_the_contract_does(stored: type[msgspec.Struct]) -> None:
    """Stored copies are masked by the names of their fields."""
    names = set(STORED[stored].DESCRIPTOR.fields_by_name) | STORED_OTHERWISE | personal_data.STORED_ONLY
    texts = {field.name for field in msgspec.structs.fields(stored) if _holds_text(field.type)}
    assert texts <= names


def _holds_text(kind: object) -> bool:
    return "str" in str(kind) or "Address" in str(kind) or "Parcel" in str(kind)


OTHER_NAMES = {
    Customer: {"tax_exemption": "exemption"},
    Order: {"price_details": "pricing", "tax_exemption": "pricing", "tax_address": "pricing"},
    Quote: {"price_details": "pricing", "tax_exemption": "exemption"},
}
"""Fields of the contract that stored resources have under other names."""


@pytest.mark.parametrize("stored", PERSONS, ids=lambda stored: stored.__name__)
def test_every_personal_field_of_a_resource_is_stored_encrypted(stored: Any) -> None:
    paths = personal_data.list_personal_paths(STORED[stored].DESCRIPTOR)
    names = OTHER_NAMES.get(stored, {})
    fields = {names.get(field, field) for field in (path.partition(".")[0] for path in paths)}
    assert fields == stored.PERSONAL.hidden.keys() - personal_data.STORED_ONLY


def test_every_resource_with_personal_data_is_encrypted() -> None:
    assert {STORED[stored] for stored in PERSONS} == set(personal_data.RESOURCES)


def test_reference_names_every_table_with_encrypted_values() -> None:
    sections = (REFERENCE / "database.md").read_text().split("\n## ")[1:]
    tables = [section.partition("\n")[0] for section in sections if "\n| `encrypted` |" in section]
    places = (REFERENCE / "personal-data.md").read_text()
    assert len(tables) > 5
    assert [name for name in tables if f"`{name}`" not in places] == []


def test_older_permissions_that_read_personal_data_are_known() -> None:
    methods = contract.read_contract().methods.values()
    reading = {
        method.permission
        for method in methods
        if method.response_type is not None and personal_data.has_personal_data(method.response_type.DESCRIPTOR)
    }
    assert reading - {"customers.export", "customers.erase", "customers.merge", *NEWER} == READERS
