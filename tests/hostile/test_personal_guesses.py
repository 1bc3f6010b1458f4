"""Callers without `customers.personal.read` do not learn whether they guessed a value, whatever they try.

Each way to guess costs nothing and leaves no trace: a dry run, or a call that is refused. A right and a wrong guess
must end in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from storekeep.v1 import orders_pb2, users_pb2
from storekeep.v1.addresses_pb2 import Address
from tests.support.planted import MARK, plant_address
from tests.support.refusals import parse_refusal, refused
from tests.support.shops import Shop, money, new_id

READ = "customers.personal.read"


def find_outcome(call: Callable[[], Any]) -> str:
    """Return how a call ends: the reason and the text of its error, or its reply."""
    try:
        return str(call())
    except grpc.RpcError as error:
        outcome = parse_refusal(error)
        return f"{outcome.reason}: {outcome.text} {sorted(outcome.violations)}"


ORDER_GUESSES: dict[str, tuple[Any, Any]] = {
    "shipping_address": (plant_address("1"), plant_address("2")),
    "billing_address": (plant_address("3"), plant_address("2")),
    "email": (f"{MARK}right@example.com", f"{MARK}wrong@example.com"),
    "phone": (f"{MARK}right", f"{MARK}wrong"),
    "note": (f"{MARK}right", f"{MARK}wrong"),
}
"""Field of an order -> its value, and another one."""


@pytest.mark.parametrize("validate_only", [True, False])
@pytest.mark.parametrize("field", ["shipping_address", "billing_address", "email", "phone"])
def test_field_of_an_ended_order_is_refused_whether_or_not_it_was_guessed(
    admin: Shop, impersonal: Shop, field: str, validate_only: bool
) -> None:
    order = admin.cancel(admin.order(**{name: values[0] for name, values in ORDER_GUESSES.items()}))
    outcomes = []
    for guess in ORDER_GUESSES[field]:
        guessed = orders_pb2.Order(name=order.name, **{field: guess})
        request = orders_pb2.UpdateOrderRequest(order=guessed, validate_only=validate_only)
        outcomes.append(find_outcome(lambda: impersonal.orders.UpdateOrder(request)))  # noqa: B023 - called at once
    assert outcomes[0] == outcomes[1]
    assert outcomes[0].startswith("FIELD_NOT_CHANGEABLE")
    same = orders_pb2.Order(name=order.name, **{field: ORDER_GUESSES[field][0]})
    assert admin.orders.UpdateOrder(orders_pb2.UpdateOrderRequest(order=same)).etag == order.etag


def test_tracking_number_of_a_cancelled_fulfilment_is_refused_whether_or_not_it_was_guessed(
    admin: Shop, impersonal: Shop
) -> None:
    order = admin.order()
    admin.confirm(order)
    name = admin.fulfill(order, (1, 1)).name
    requests = [
        orders_pb2.UpdateFulfillmentRequest(
            fulfillment=orders_pb2.Fulfillment(name=name, parcels=[orders_pb2.Parcel(tracking_number=guess)])
        )
        for guess in (f"{MARK}right", f"{MARK}wrong")
    ]
    admin.orders.UpdateFulfillment(requests[0])
    admin.orders.CancelFulfillment(orders_pb2.CancelFulfillmentRequest(name=name))
    outcomes = [find_outcome(lambda: impersonal.orders.UpdateFulfillment(one)) for one in requests]  # noqa: B023
    assert outcomes[0] == outcomes[1]
    assert outcomes[0].startswith("FIELD_NOT_CHANGEABLE")


def build_import(admin: Shop, **fields: Any) -> orders_pb2.HistoricOrder:
    """Build an order of another system with all its personal data."""
    order = orders_pb2.HistoricOrder(
        number=new_id("H"),
        customer=admin.customer().name,
        currency_code="EUR",
        lines=[orders_pb2.HistoricOrderLine(sku=admin.variant().sku, quantity=1, unit_price=money("10"))],
        carrier="dhl",
        tracking_number=f"{MARK}right",
        **{name: values[0] for name, values in ORDER_GUESSES.items()},
        **fields,
    )
    order.order_time.FromDatetime(datetime(2025, 1, 2, tzinfo=UTC))
    order.ship_time.FromDatetime(datetime(2025, 1, 3, tzinfo=UTC))
    return order


@pytest.mark.parametrize("field", [*ORDER_GUESSES, "tracking_number"])
def test_repeated_import_does_not_tell_whether_a_value_was_guessed(admin: Shop, impersonal: Shop, field: str) -> None:
    imported = build_import(admin)
    admin.orders.ImportOrders(orders_pb2.ImportOrdersRequest(orders=[imported]))
    wrong = orders_pb2.HistoricOrder()
    wrong.CopyFrom(imported)
    value = (ORDER_GUESSES | {"tracking_number": ("", f"{MARK}wrong")})[field][1]
    if isinstance(value, Address):
        getattr(wrong, field).CopyFrom(value)
    else:
        setattr(wrong, field, value)
    outcomes = [
        find_outcome(lambda: impersonal.orders.ImportOrders(orders_pb2.ImportOrdersRequest(orders=[guess])))  # noqa: B023
        for guess in (imported, wrong)
    ]
    assert outcomes[0] == outcomes[1]
    assert "ALREADY_THERE" in outcomes[0]
    reply = admin.orders.ImportOrders(orders_pb2.ImportOrdersRequest(orders=[wrong]))
    assert reply.results[0].problem == orders_pb2.ORDER_IMPORT_PROBLEM_NUMBER_TAKEN


def test_repeated_import_by_who_may_not_read_personal_data_still_compares_the_rest(
    admin: Shop, impersonal: Shop
) -> None:
    imported = build_import(admin)
    admin.orders.ImportOrders(orders_pb2.ImportOrdersRequest(orders=[imported]))
    imported.lines[0].quantity = 2
    reply = impersonal.orders.ImportOrders(orders_pb2.ImportOrdersRequest(orders=[imported]))
    assert reply.results[0].problem == orders_pb2.ORDER_IMPORT_PROBLEM_NUMBER_TAKEN


@pytest.mark.parametrize("validate_only", [True, False])
def test_own_address_of_a_user_is_refused_as_that_of_another(
    admin: Shop, impersonal: Shop, validate_only: bool
) -> None:
    emails = [f"{new_id('mail')}@example.com" for _ in range(2)]
    users = [
        admin.users.CreateUser(users_pb2.CreateUserRequest(user=users_pb2.User(display_name="Ann", email=email)))
        for email in emails
    ]
    texts = []
    for email in (*emails, emails[0].upper()):
        changed = users_pb2.User(name=users[0].name, email=email)
        with refused("ALREADY_EXISTS") as caught:
            impersonal.users.UpdateUser(users_pb2.UpdateUserRequest(user=changed, validate_only=validate_only))
        texts.append(caught.text)
    assert len(set(texts)) == 1
    same = users_pb2.User(name=users[0].name, email=emails[0])
    assert admin.users.UpdateUser(users_pb2.UpdateUserRequest(user=same)).etag == users[0].etag
