"""Stock: what is on hand is the sum of the ledger, and what is promised never exceeds it."""

from __future__ import annotations

import pytest

from storekeep.v1 import inventory_pb2
from tests.records import Records
from tests.refusals import refused
from tests.resources import PRODUCT, VARIANT
from tests.shops import MAIN, Shop

CAUSES = ("RECEIVE", "ADJUST", "COUNT", "WRITE_OFF")


def set_stock(shop: Shop, sku: str, quantity: int, **fields) -> inventory_pb2.StockLevel:
    request = inventory_pb2.SetStockRequest(name=f"{MAIN}/stockLevels/{sku}", quantity=quantity, **fields)
    return shop.inventory.SetStock(request)


def ledger(shop: Shop, sku: str) -> list[inventory_pb2.StockMovement]:
    request = inventory_pb2.ListStockMovementsRequest(filter=f"sku = {sku}")
    return list(shop.inventory.ListStockMovements(request).stock_movements)


def availability(shop: Shop, *skus: str, location: str = "") -> list[tuple[int, bool]]:
    request = inventory_pb2.CheckAvailabilityRequest(skus=skus, location=location)
    answer = shop.inventory.CheckAvailability(request).availabilities
    assert [one.sku for one in answer] == list(skus)
    return [(one.available, one.for_sale) for one in answer]


# -- adjusting


def test_first_adjustment_makes_the_level(shop: Shop):
    sku = shop.variant().sku
    level = shop.adjust(sku, 5)
    assert (level.name, level.sku) == (f"{MAIN}/stockLevels/{sku}", sku)
    assert (level.on_hand, level.allocated, level.available, level.etag) == (5, 0, 5, "v1")
    assert shop.level(sku) == level


@pytest.mark.parametrize("cause", CAUSES)
def test_adjustment_is_one_movement_of_the_ledger(shop: Shop, cause: str):
    sku = shop.variant(stock=5).sku
    shop.adjust(sku, -2, cause=f"STOCK_MOVEMENT_CAUSE_{cause}", reason="as told")
    movement = ledger(shop, sku)[-1]
    assert inventory_pb2.StockMovementCause.Name(movement.cause) == f"STOCK_MOVEMENT_CAUSE_{cause}"
    assert (movement.quantity_delta, movement.on_hand, movement.reason) == (-2, 3, "as told")
    assert (movement.stock_level, movement.actor) == (f"{MAIN}/stockLevels/{sku}", shop.subject)
    assert shop.inventory.GetStockMovement(inventory_pb2.GetStockMovementRequest(name=movement.name)) == movement


def test_adjustment_without_a_cause_is_an_adjustment(shop: Shop):
    sku = shop.variant(stock=1).sku
    assert ledger(shop, sku)[0].cause == inventory_pb2.STOCK_MOVEMENT_CAUSE_ADJUST


def test_adjustment_takes_what_is_there_and_not_what_is_promised(shop: Shop):
    sku = shop.variant(stock=5).sku
    shop.order((sku, 3))
    with refused("OUT_OF_STOCK") as refusal:
        shop.adjust(sku, -3)
    assert refusal.metadata == {"skus": sku, f"wanted.{sku}": "3", f"available.{sku}": "2"}
    assert shop.adjust(sku, -2).available == 0


def test_adjustment_below_nothing_leaves_no_level(shop: Shop):
    sku = shop.variant().sku
    with refused("OUT_OF_STOCK"):
        shop.adjust(sku, -1)
    with refused("STOCK_LEVEL_NOT_FOUND") as refusal:
        shop.level(sku)
    assert refusal.metadata == {"resource": f"{MAIN}/stockLevels/{sku}"}


def test_on_hand_is_the_sum_of_the_ledger(shop: Shop):
    sku = shop.variant().sku
    for delta in (10, -3, 7, -14):
        shop.adjust(sku, delta)
    set_stock(shop, sku, 4)
    movements = ledger(shop, sku)
    assert sum(movement.quantity_delta for movement in movements) == shop.level(sku).on_hand == 4
    assert [movement.on_hand for movement in movements] == [10, 7, 14, 0, 4]


# -- counting


def test_count_puts_the_difference_into_the_ledger(shop: Shop):
    sku = shop.variant(stock=5).sku
    assert set_stock(shop, sku, 2, reason="counted").on_hand == 2
    movement = ledger(shop, sku)[-1]
    assert (movement.quantity_delta, movement.cause, movement.reason) == (
        -3,
        inventory_pb2.STOCK_MOVEMENT_CAUSE_COUNT,
        "counted",
    )


def test_count_without_a_difference_writes_nothing(shop: Shop, records: Records):
    sku = shop.variant(stock=5).sku
    before = records.everything()
    assert set_stock(shop, sku, 5, expected_quantity=5).etag == "v1"
    assert records.everything() == before


def test_count_of_zero_makes_a_level_without_a_movement(shop: Shop):
    sku = shop.variant().sku
    assert set_stock(shop, sku, 0).on_hand == 0
    assert shop.level(sku).available == 0
    assert ledger(shop, sku) == []


@pytest.mark.parametrize(("stock", "expected_quantity"), [(5, 4), (5, 0), (0, 1)])
def test_count_that_expected_something_else_is_refused(shop: Shop, stock: int, expected_quantity: int):
    sku = shop.variant(stock=stock).sku
    with refused("QUANTITY_MISMATCH") as refusal:
        set_stock(shop, sku, 9, expected_quantity=expected_quantity)
    assert refusal.metadata["on_hand"] == str(stock)
    assert refusal.metadata["expected_quantity"] == str(expected_quantity)


def test_count_that_expected_nothing_makes_the_first_level(shop: Shop):
    assert set_stock(shop, shop.variant().sku, 9, expected_quantity=0).on_hand == 9


def test_count_below_what_is_promised_is_refused(shop: Shop):
    sku = shop.variant(stock=5).sku
    shop.order((sku, 3))
    with refused("OUT_OF_STOCK"):
        set_stock(shop, sku, 2)
    assert set_stock(shop, sku, 3).available == 0


# -- reading


def test_availability_is_of_all_locations_or_of_one(shop: Shop):
    location = shop.location().name
    sku = shop.variant(stock=5).sku
    shop.adjust(sku, 2, location=location)
    shop.order((sku, 1), location=location)
    assert availability(shop, sku) == [(6, True)]
    assert availability(shop, sku, location=location) == [(1, True)]
    assert availability(shop, sku, location=MAIN) == [(5, True)]


def test_availability_answers_in_the_order_of_the_skus(shop: Shop):
    skus = [shop.variant(stock=stock).sku for stock in (3, 0, 1)]
    assert availability(shop, *skus, skus[0]) == [(3, True), (0, True), (1, True), (3, True)]


@pytest.mark.parametrize("kind", [VARIANT, PRODUCT], ids=str)
def test_availability_says_what_is_off_sale(shop: Shop, kind):
    variant = shop.variant(stock=2)
    kind.do(shop, "Archive", variant.name if kind is VARIANT else variant.name.partition("/variants/")[0])
    assert availability(shop, variant.sku) == [(2, False)]


def test_availability_sees_an_order_at_once(shop: Shop):
    sku = shop.variant(stock=2).sku
    order = shop.order((sku, 2))
    assert availability(shop, sku) == [(0, True)]
    shop.cancel(order)
    assert availability(shop, sku) == [(2, True)]


def test_batch_of_levels_answers_in_the_order_of_the_names(shop: Shop):
    names = [f"{MAIN}/stockLevels/{shop.variant(stock=stock).sku}" for stock in (1, 2, 3)][::-1]
    for parent in (MAIN, "locations/-"):
        request = inventory_pb2.BatchGetStockLevelsRequest(parent=parent, names=names)
        assert [level.on_hand for level in shop.inventory.BatchGetStockLevels(request).stock_levels] == [3, 2, 1]


def test_batch_of_one_location_refuses_the_levels_of_another(shop: Shop):
    name = f"{MAIN}/stockLevels/{shop.variant(stock=1).sku}"
    request = inventory_pb2.BatchGetStockLevelsRequest(parent=shop.location().name, names=[name])
    with refused("INVALID_FIELD") as refusal:
        shop.inventory.BatchGetStockLevels(request)
    assert list(refusal.violations) == ["names[0]"]


@pytest.mark.parametrize("number", ["0", "9223372036854775807", "9223372036854775808", "9999999999999999999"])
def test_movement_that_is_not_there_is_not_found(shop: Shop, number: str):
    with refused("STOCK_MOVEMENT_NOT_FOUND"):
        shop.inventory.GetStockMovement(inventory_pb2.GetStockMovementRequest(name=f"stockMovements/{number}"))


def test_movements_are_listed_oldest_first_by_default(shop: Shop):
    sku = shop.variant().sku
    for _ in range(3):
        shop.adjust(sku, 1)
    assert [movement.on_hand for movement in ledger(shop, sku)] == [1, 2, 3]
