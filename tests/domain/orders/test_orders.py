"""Orders: placement of all lines or none, frozen prices, states and history."""

from __future__ import annotations

import pytest

from storekeep.server.domain.orders.states import ORDER_STEPS
from storekeep.v1 import orders_pb2
from tests.support.order_cases import IN_STATE
from tests.support.records import Records
from tests.support.refusals import list_shortages, refused
from tests.support.resources import ADDRESS, PRODUCT, VARIANT
from tests.support.shops import MAIN, Shop, get_amount, money, new_id, new_request_id

STEPS = {
    "CONFIRMED": Shop.confirm,
    "CANCELLED": Shop.cancel,
    "COMPLETED": lambda shop, order: shop.orders.CompleteOrder(orders_pb2.CompleteOrderRequest(name=order.name)),
}


def get_order(shop: Shop, name: str) -> orders_pb2.Order:
    return shop.orders.GetOrder(orders_pb2.GetOrderRequest(name=name))


def list_history(shop: Shop, order: orders_pb2.Order, **fields) -> orders_pb2.ListOrderHistoryResponse:
    return shop.orders.ListOrderHistory(orders_pb2.ListOrderHistoryRequest(name=order.name, **fields))


def make_order_in_state(shop: Shop, state: str) -> orders_pb2.Order:
    order = shop.order()
    return order if state == "PLACED" else STEPS[state](shop, order)


# -- placing


def test_order_says_all_that_was_asked_for(shop: Shop):
    customer, reference = shop.customer().name, new_id()
    product = shop.product(display_name="Chai")
    large = shop.variant(parent=product.name, prices={"EUR": "19.99"}, stock=5, display_name="Large")
    plain = shop.variant(parent=product.name, prices={"EUR": "0.01"}, stock=5)
    order = shop.order(
        (plain.sku, 2),
        (large.sku, 3),
        customer=customer,
        shipping_address=ADDRESS,
        external_reference=reference,
        note="Ring twice.",
    )
    assert (order.customer, order.location, order.etag) == (customer, MAIN, "v1")
    assert order.state == orders_pb2.ORDER_STATE_PLACED
    lines = [(line.line_number, line.sku, line.quantity) for line in order.lines]
    assert lines == [(1, plain.sku, 2), (2, large.sku, 3)]
    assert [line.display_name for line in order.lines] == ["Chai", "Chai, Large"]
    assert [str(get_amount(line.subtotal)) for line in order.lines] == ["0.02", "59.97"]
    assert order.total == money("59.99")
    assert (order.external_reference, order.note, order.cancel_reason) == (reference, "Ring twice.", "")
    assert order.shipping_address.locality == ADDRESS["locality"]
    assert get_order(shop, order.name) == order


def test_absent_address_stays_absent(shop: Shop):
    assert not get_order(shop, shop.order().name).HasField("shipping_address")


TOTALS = (("EUR", "0.1", "0.3"), ("JPY", "1999", "5997"), ("KWD", "1.999", "5.997"))


@pytest.mark.parametrize(("currency_code", "price", "total"), TOTALS)
def test_total_is_exact_in_any_currency(shop: Shop, currency_code: str, price: str, total: str):
    sku = shop.variant(prices={currency_code: price}, stock=3).sku
    order = shop.order((sku, 1), (sku, 2), currency_code=currency_code)
    assert order.total == money(total, currency_code)
    assert get_order(shop, order.name).total == order.total


def test_price_of_zero_is_a_price(shop: Shop):
    order = shop.order((shop.variant(prices={"EUR": "0"}, stock=1).sku, 1))
    assert order.total == money("0")


def test_prices_and_names_are_frozen(shop: Shop):
    variant = shop.variant(stock=2)
    order = shop.order((variant.sku, 1))
    product = PRODUCT.get(shop, variant.name.partition("/variants/")[0])
    product.display_name = "Renamed"
    PRODUCT.update(shop, product, "display_name")
    variant.ClearField("prices")
    variant.prices.append(money("99"))
    VARIANT.update(shop, variant, "prices")
    assert get_order(shop, order.name) == order
    assert shop.order((variant.sku, 1)).total == money("99")


def test_one_short_line_leaves_all_stock_untouched(shop: Shop, records: Records):
    there, short, shorter = (shop.variant(stock=stock).sku for stock in (9, 2, 1))
    request = shop.order_request((there, 1), (short, 3), (shorter, 1), (shorter, 1))
    before = records.everything()
    with refused("OUT_OF_STOCK") as refusal:
        shop.orders.PlaceOrder(request)
    assert records.everything() == before
    assert refusal.metadata == list_shortages(dict(sorted({short: (3, 2), shorter: (2, 1)}.items())))


def test_sku_that_was_never_in_stock_is_out_of_it(shop: Shop):
    sku = shop.variant().sku
    with refused("OUT_OF_STOCK") as refusal:
        shop.order((sku, 1))
    assert refusal.metadata["available-1"] == "0"


def test_order_allocates_its_units_and_leaves_them_on_hand(shop: Shop):
    sku = shop.variant(stock=5).sku
    shop.order((sku, 1), (sku, 2))
    level = shop.level(sku)
    assert (level.on_hand, level.allocated, level.available, level.etag) == (5, 3, 2, "v2")


def test_dry_run_allocates_nothing(shop: Shop):
    sku = shop.variant(stock=1).sku
    tried = shop.order((sku, 1), validate_only=True, request_id=new_request_id())
    assert tried.total == money("10")
    assert shop.level(sku).allocated == 0
    with refused("ORDER_NOT_FOUND"):
        get_order(shop, tried.name)


# -- states


@pytest.mark.parametrize("state", IN_STATE)
@pytest.mark.parametrize("wanted", STEPS)
def test_step_is_taken_exactly_where_the_table_has_it(shop: Shop, state: str, wanted: str):
    order = IN_STATE[state](shop)
    if wanted in ORDER_STEPS[state]:
        assert orders_pb2.OrderState.Name(STEPS[wanted](shop, order).state) == f"ORDER_STATE_{wanted}"
        return
    with refused("ILLEGAL_STATE") as refusal:
        STEPS[wanted](shop, order)
    assert refusal.metadata == {"resource": order.name, "state": state, "wanted": wanted}
    assert refusal.text.startswith(f"order {order.number} is ")
    assert get_order(shop, order.name) == order


@pytest.mark.parametrize("state", ["PLACED", "CONFIRMED"])
def test_cancellation_releases_the_stock_and_keeps_the_order(shop: Shop, state: str):
    order = make_order_in_state(shop, state)
    sku = order.lines[0].sku
    cancelled = shop.cancel(order, reason="changed their mind")
    assert shop.level(sku).allocated == 0
    assert cancelled.cancel_reason == "changed their mind"
    (line,) = cancelled.lines
    assert (line.quantity, line.open_quantity, line.cancelled_quantity) == (1, 0, 1)
    assert (line.subtotal, line.total, cancelled.total) == (order.lines[0].subtotal, money("0"), money("0"))
    assert get_order(shop, order.name) == cancelled


def test_released_stock_is_sold_again(shop: Shop):
    sku = shop.variant(stock=1).sku
    shop.cancel(shop.order((sku, 1)))
    assert shop.order((sku, 1)).name


def test_confirmation_keeps_the_stock_allocated(shop: Shop):
    order = make_order_in_state(shop, "CONFIRMED")
    assert shop.level(order.lines[0].sku).allocated == 1


# -- reading


def test_history_lists_every_change_in_order(shop: Shop):
    order = make_order_in_state(shop, "CONFIRMED")
    shop.cancel(order, reason="late")
    entries = list_history(shop, order).entries
    assert [(entry.sequence, entry.method, entry.reason) for entry in entries] == [
        (1, "PlaceOrder", ""),
        (2, "ConfirmOrder", ""),
        (3, "CancelOrder", "late"),
    ]
    assert [(entry.from_state, entry.to_state) for entry in entries] == [(0, 1), (1, 2), (2, 3)]
    assert {entry.actor for entry in entries} == {shop.subject}
    assert [entry.create_time.ToMicroseconds() for entry in entries] == sorted(
        entry.create_time.ToMicroseconds() for entry in entries
    )


def test_history_comes_page_by_page(shop: Shop):
    order = shop.cancel(make_order_in_state(shop, "CONFIRMED"))
    first = list_history(shop, order, page_size=2)
    rest = list_history(shop, order, page_size=2, page_token=first.next_page_token)
    assert [entry.sequence for entry in [*first.entries, *rest.entries]] == [1, 2, 3]
    assert rest.next_page_token == ""


def test_page_token_of_the_history_of_another_order_is_refused(shop: Shop):
    one, other = make_order_in_state(shop, "CONFIRMED"), make_order_in_state(shop, "CONFIRMED")
    token = list_history(shop, one, page_size=1).next_page_token
    with refused("INVALID_PAGE_TOKEN"):
        list_history(shop, other, page_token=token)


def test_batch_get_answers_whole_orders_in_the_order_of_the_names(shop: Shop):
    sku = shop.variant(stock=9).sku
    orders = [shop.order((sku, 1), (sku, 2)) for _ in range(3)][::-1]
    request = orders_pb2.BatchGetOrdersRequest(names=[order.name for order in orders])
    assert list(shop.orders.BatchGetOrders(request).orders) == orders


@pytest.mark.parametrize("count", [0, 501])
def test_batch_get_of_none_or_too_many_is_refused(shop: Shop, count: int):
    with refused("INVALID_FIELD"):
        shop.orders.BatchGetOrders(orders_pb2.BatchGetOrdersRequest(names=["orders/x"] * count))


def test_list_shows_whole_orders_newest_first(shop: Shop):
    customer, sku = shop.customer().name, shop.variant(stock=9).sku
    orders = [shop.order((sku, 1), (sku, 1), customer=customer) for _ in range(3)]
    request = orders_pb2.ListOrdersRequest(filter=f"customer = {customer}")
    assert list(shop.orders.ListOrders(request).orders) == orders[::-1]
