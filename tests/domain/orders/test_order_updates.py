"""Updates of placed orders: each field until its state, with its old and new value in the history."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.v1 import addresses_pb2, customers_pb2, orders_pb2
from tests.domain.orders.test_order_changes import call_at_once, list_changes, list_history
from tests.support.hostile.accounts import make_account, sign_in
from tests.support.order_cases import (
    make_cancelled,
    make_completed,
    make_confirmed,
    make_fulfilled,
    make_partially_fulfilled,
    make_two_line_order,
    put_on_hold,
    update,
)
from tests.support.records import Records
from tests.support.refusals import refused
from tests.support.shops import Shop, money, new_id, new_request_id

HOME = addresses_pb2.Address(recipient="Ada", address_lines=["Yard 2", "Quay 12"], locality="Galway", region_code="IE")
OFFICE = addresses_pb2.Address(recipient="Ada", address_lines=["Ring 1"], locality="Wien", region_code="AT", phone="1")
SOON, LATER = Timestamp(seconds=1_800_000_000), Timestamp(seconds=1_800_086_400)
VALUES: dict[str, Any] = {
    "shipping_address": HOME,
    "billing_address": OFFICE,
    "shipping": money("4.90"),
    "email": "ada@shop.example",
    "phone": "+43 1 234",
    "language_code": "de-AT",
    "ship_by_time": SOON,
    "deliver_by_time": LATER,
    "external_reference": "web-7",
    "note": "Ring twice.",
    "labels": {"gift": "yes", "channel": ""},
}
"""A value of each field that can change, other than its default."""


def change(shop: Shop, order: orders_pb2.Order, *paths: str, **fields: Any) -> orders_pb2.Order:
    return shop.orders.UpdateOrder(update(order, *paths, **fields))


def send(shop: Shop, order: orders_pb2.Order, **fields: Any) -> orders_pb2.Order:
    """Update an order with the fields that the message sets."""
    return shop.orders.UpdateOrder(orders_pb2.UpdateOrderRequest(order=order, **fields))


def differences(one: orders_pb2.Order, other: orders_pb2.Order) -> set[str]:
    """Return the fields that differ, without those that every change sets."""
    names = [field.name for field in one.DESCRIPTOR.fields]
    return {name for name in names if getattr(one, name) != getattr(other, name)} - {"etag", "update_time"}


def copy(order: orders_pb2.Order, **fields: Any) -> orders_pb2.Order:
    """Return a copy of an order with other values in some fields."""
    made = orders_pb2.Order()
    made.CopyFrom(order)
    for name, value in fields.items():
        made.ClearField(name)
        made.MergeFrom(orders_pb2.Order(**{name: value}))
    return made


# -- the fields of a new order


def test_new_order_has_the_contacts_of_its_customer_at_that_time(shop: Shop):
    customer = shop.customer(email="ada@home.example", phone="+353 1")
    order = shop.order(customer=customer.name)
    assert (order.email, order.phone) == ("ada@home.example", "+353 1")
    changed = customers_pb2.Customer(name=customer.name, email="new@home.example", phone="2")
    shop.customers.UpdateCustomer(customers_pb2.UpdateCustomerRequest(customer=changed))
    assert shop.get_order(order) == order
    own = shop.order(customer=customer.name, email="gift@home.example")
    assert (own.email, own.phone) == ("gift@home.example", "2")


@pytest.mark.parametrize("contact", [("ada@home.example", ""), ("", "+353 1"), ("", "")])
def test_new_order_has_the_only_contact_of_its_customer(shop: Shop, contact: tuple[str, str]):
    customer = shop.customer(email=contact[0], phone=contact[1])
    order = shop.order(customer=customer.name)
    assert (order.email, order.phone) == contact


def test_replies_have_contacts_only_for_callers_that_may_read_them(shop: Shop, channel: grpc.Channel):
    customer = shop.customer(email="ada@home.example", phone="+353 1")
    writer, *readers = (
        sign_in(channel, shop, make_account(shop, permissions=["orders.write", "customers.personal.read", *more]))
        for more in ((), ("orders.read",), ("customers.read",))
    )
    request = shop.order_request(customer=customer.name, request_id=new_request_id())
    dry = orders_pb2.PlaceOrderRequest(validate_only=True)
    dry.MergeFrom(request)
    placed = writer.orders.PlaceOrder(request)
    confirm = orders_pb2.ConfirmOrderRequest(name=placed.name, validate_only=True)
    replies = [
        placed,
        writer.orders.PlaceOrder(dry),
        writer.orders.PlaceOrder(request),
        writer.orders.ConfirmOrder(confirm),
        writer.orders.UpdateOrder(update(placed, note="ring twice")),
    ]
    assert [(reply.email, reply.phone) for reply in replies] == [("", "")] * len(replies)
    for reader in (shop, *readers):
        confirmed = reader.orders.ConfirmOrder(confirm)
        assert (confirmed.email, confirmed.phone) == ("ada@home.example", "+353 1")


def test_new_order_keeps_all_fields(shop: Shop):
    order = shop.order(**VALUES)
    assert {name for name, value in VALUES.items() if getattr(order, name) != value} == set()
    assert shop.get_order(order) == order
    reply = shop.orders.ListOrders(orders_pb2.ListOrdersRequest(filter=f"customer = {order.customer}"))
    assert list(reply.orders) == [order]


# -- updates


@pytest.mark.parametrize("field", VALUES)
def test_mask_of_one_field_changes_it_alone(shop: Shop, field: str):
    order = make_confirmed(shop)
    updated = change(shop, order, **{field: VALUES[field]})
    assert differences(order, updated) == {field} | ({"total"} if field == "shipping" else set())
    assert getattr(updated, field) == VALUES[field]
    assert shop.get_order(order) == updated
    assert updated.etag == "v3"


def test_star_clears_what_is_absent_and_an_absent_mask_changes_what_is_set(shop: Shop):
    order = shop.order(**VALUES)
    assert differences(order, change(shop, order, note="x")) == {"note"}
    cleared = change(shop, order, "*")
    assert differences(order, cleared) == {*VALUES, "total"}
    assert differences(cleared, send(shop, copy(cleared, phone="7"))) == {"phone"}


def test_whole_order_without_a_change_writes_nothing(shop: Shop, records: Records):
    order = shop.order(**VALUES)
    before = records.last_sequence()
    assert send(shop, order) == order
    assert change(shop, order, **VALUES) == order
    assert records.last_sequence() == before


def test_history_tells_the_old_and_the_new_value_of_each_field(shop: Shop):
    order = change(shop, shop.order(shipping_address=OFFICE, labels={"gift": "no", "vip": "1"}), **VALUES)
    entry = list_history(shop, order)[-1]
    assert entry.method == "UpdateOrder"
    assert list_changes(entry) == {
        "total": ("10.00", "14.90"),
        "shipping": ("0.00", "4.90"),
        "external_reference": ("", "web-7"),
        "note": ("", "Ring twice."),
        "email": ("", "ada@shop.example"),
        "phone": ("", "+43 1 234"),
        "ship_by_time": ("", "2027-01-15T08:00:00Z"),
        "deliver_by_time": ("", "2027-01-16T08:00:00Z"),
        "shipping_address.address_lines": ("Ring 1", "Yard 2\nQuay 12"),
        "shipping_address.locality": ("Wien", "Galway"),
        "shipping_address.region_code": ("AT", "IE"),
        "shipping_address.phone": ("1", ""),
        "billing_address.recipient": ("", "Ada"),
        "billing_address.address_lines": ("", "Ring 1"),
        "billing_address.locality": ("", "Wien"),
        "billing_address.region_code": ("", "AT"),
        "billing_address.phone": ("", "1"),
        "labels.gift": ("no", "yes"),
        "labels.vip": ("1", ""),
        "labels.channel": ("", '""'),
        "language_code": ("", "de-AT"),
    }


def test_reason_of_an_update_is_in_the_history(shop: Shop):
    order = shop.order()
    shop.orders.UpdateOrder(orders_pb2.UpdateOrderRequest(order=copy(order, phone="1"), reason="the customer called"))
    assert list_history(shop, order)[-1].reason == "the customer called"


def test_total_follows_the_shipping_cost(shop: Shop):
    order = shop.order(shipping=money("5"))
    assert change(shop, order, shipping=money("2.50")).total == money("12.50")
    free = change(shop, order, "shipping")
    assert (free.total, free.HasField("shipping")) == (money("10"), False)
    assert change(shop, order, shipping=money("0")) == free


def test_shipping_cost_that_makes_the_total_too_large_is_refused(shop: Shop):
    sku = shop.variant(prices={"JPY": str(10**12)}, stock=10**7).sku
    rest = shop.variant(prices={"JPY": str(223_372_036_854)}, stock=10**6).sku
    order = shop.order(*[(sku, 10**6)] * 9, (rest, 10**6), currency_code="JPY")
    with refused("INVALID_AMOUNT") as refusal:
        change(shop, order, shipping=money("1000000", "JPY"))
    assert list(refusal.violations) == ["order.shipping"]
    assert shop.get_order(order) == order


def test_held_order_can_be_updated(shop: Shop):
    held = put_on_hold(shop, shop.order())
    assert change(shop, held, shipping_address=HOME).held


# -- states


def test_field_that_can_no_longer_change_is_named_with_the_state(shop: Shop):
    order = make_partially_fulfilled(shop)
    with refused("FIELD_NOT_CHANGEABLE") as refusal:
        change(shop, order, note="x", shipping_address=HOME)
    assert refusal.metadata == {
        "resource": order.name,
        "field": "shipping_address",
        "state": "PARTIALLY_FULFILLED",
    }
    assert shop.get_order(order) == order


def test_fixed_fields_may_be_sent_along_if_they_are_equal(shop: Shop):
    order = make_confirmed(shop)
    change(shop, order, shipping_address=HOME, shipping=money("4.90"))
    shop.ship(shop.fulfill(order))
    read = shop.get_order(order)
    assert differences(read, send(shop, copy(read, labels={"packed": "yes"}))) == {"labels"}


@pytest.mark.parametrize("make", [make_cancelled, make_completed, make_fulfilled])
def test_reference_note_and_labels_change_in_every_state(shop: Shop, make: Any):
    order = make(shop)
    fields = {name: VALUES[name] for name in ("external_reference", "note", "labels")}
    assert differences(order, change(shop, order, **fields)) == set(fields)


# -- invalid values


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"labels": {f"k{number}": "" for number in range(65)}}, "order.labels"),
        ({"labels": {"": "x"}}, "order.labels[]"),
        ({"labels": {"k" * 64: "x"}}, f"order.labels[{'k' * 64}]"),
        ({"labels": {"k": "x" * 256}}, "order.labels[k]"),
        ({"email": "no address"}, "order.email"),
        ({"phone": "1" * 41}, "order.phone"),
        ({"note": "x" * 2001}, "order.note"),
        ({"external_reference": "x" * 101}, "order.external_reference"),
        ({"shipping_address": addresses_pb2.Address(region_code="xx")}, "order.shipping_address.region_code"),
        ({"billing_address": addresses_pb2.Address()}, "order.billing_address.region_code"),
        ({"ship_by_time": Timestamp(seconds=4_102_444_800)}, "order.ship_by_time"),
        ({"ship_by_time": LATER, "deliver_by_time": SOON}, "order.deliver_by_time"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_value_out_of_bounds_is_refused_by_its_path(shop: Shop, fields: dict[str, Any], path: str):
    order = shop.order()
    with refused("INVALID_FIELD") as refusal:
        change(shop, order, **fields)
    assert list(refusal.violations) == [path]
    assert shop.get_order(order) == order
    with refused("INVALID_FIELD") as refusal:
        shop.order(**fields)
    assert list(refusal.violations) == [path.removeprefix("order.")]


def test_time_that_contradicts_the_stored_one_is_refused(shop: Shop):
    order = shop.order(ship_by_time=LATER)
    with refused("INVALID_FIELD"):
        change(shop, order, deliver_by_time=SOON)
    assert change(shop, order, ship_by_time=SOON, deliver_by_time=SOON).deliver_by_time == SOON


def test_update_without_a_name_is_refused(shop: Shop):
    with refused("INVALID_FIELD") as refusal:
        send(shop, orders_pb2.Order(note="x"))
    assert list(refusal.violations) == ["order.name"]


# -- races


def test_updates_at_once_of_different_fields_all_take_effect(shop: Shop):
    order = make_two_line_order(shop)
    requests = [update(order, **{field: value}) for field, value in VALUES.items()]
    assert set(call_at_once(*((shop.orders.UpdateOrder, request) for request in requests))) == {""}
    after = shop.get_order(order)
    assert differences(order, after) == {*VALUES, "total"}
    assert after.etag == f"v{1 + len(VALUES)}"


def test_of_updates_at_once_with_one_etag_one_wins(shop: Shop):
    order = shop.order()
    requests = [send_etag(order, str(number)) for number in range(4)]
    lost = call_at_once(*((shop.orders.UpdateOrder, request) for request in requests))
    assert sorted(lost) == ["", *["ETAG_MISMATCH"] * 3]
    assert shop.get_order(order).etag == "v2"


def send_etag(order: orders_pb2.Order, phone: str) -> orders_pb2.UpdateOrderRequest:
    """Build an update that requires the order's etag."""
    return update(order, "phone", phone=phone, etag=order.etag)


# -- lists


def test_orders_are_found_by_their_contacts_and_promised_times(shop: Shop):
    customer, email = shop.customer().name, f"{new_id()}@shop.example"
    promised = shop.order(customer=customer, email=email, phone=new_id(), ship_by_time=SOON, deliver_by_time=LATER)
    plain = shop.order(customer=customer)

    def found(text: str) -> list[orders_pb2.Order]:
        request = orders_pb2.ListOrdersRequest(filter=f"customer = {customer} AND ({text})", order_by="create_time")
        return list(shop.orders.ListOrders(request).orders)

    assert found(f'email = "{email}"') == found(f"phone = {promised.phone}") == [promised]
    assert found('ship_by_time < "2027-01-15T08:00:01Z"') == [promised]
    assert found('ship_by_time < "2027-01-15T08:00:00Z"') == []
    assert found('NOT ship_by_time < "2027-01-15T08:00:01Z"') == [plain]
    assert found('deliver_by_time != "2027-01-16T08:00:00Z"') == [plain]
