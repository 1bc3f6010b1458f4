"""Stock levels: adjustment, counts, backorders, transfers, low stock, and the ledger of movements."""

from __future__ import annotations

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from storekeep.v1 import inventory_pb2, orders_pb2, products_pb2
from tests.support.processes import ServerProcess
from tests.support.records import Records
from tests.support.refusals import list_shortages, refused
from tests.support.resources import PRODUCT, VARIANT
from tests.support.shops import MAIN, Shop, new_request_id

SIGNED_CAUSES = (
    ("RECEIVE", 2),
    ("ADJUST", 2),
    ("ADJUST", -2),
    ("COUNT", 2),
    ("COUNT", -2),
    ("WRITE_OFF", -2),
    ("RETURN", 2),
)
OWN_CAUSES = ("TRANSFER", "RESERVE", "RELEASE", "ALLOCATE", "DEALLOCATE", "SHIP")


def set_stock(shop: Shop, sku: str, quantity: int, **fields) -> inventory_pb2.StockLevel:
    request = inventory_pb2.SetStockRequest(name=f"{MAIN}/stockLevels/{sku}", quantity=quantity, **fields)
    return shop.inventory.SetStock(request)


def list_movements(shop: Shop, sku: str) -> list[inventory_pb2.StockMovement]:
    request = inventory_pb2.ListStockMovementsRequest(filter=f"sku = {sku}")
    return list(shop.inventory.ListStockMovements(request).stock_movements)


def check_availability(shop: Shop, *skus: str, location: str = "") -> list[tuple[int, bool]]:
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


@pytest.mark.parametrize(("cause", "delta"), SIGNED_CAUSES)
def test_adjustment_is_one_movement_of_the_ledger(shop: Shop, cause: str, delta: int):
    sku = shop.variant(stock=5).sku
    shop.adjust(sku, delta, cause=f"STOCK_MOVEMENT_CAUSE_{cause}", reason="as told")
    movement = list_movements(shop, sku)[-1]
    assert inventory_pb2.StockMovementCause.Name(movement.cause) == f"STOCK_MOVEMENT_CAUSE_{cause}"
    assert (movement.quantity_delta, movement.on_hand, movement.reason) == (delta, 5 + delta, "as told")
    assert (movement.stock_level, movement.actor) == (f"{MAIN}/stockLevels/{sku}", shop.subject)
    assert shop.inventory.GetStockMovement(inventory_pb2.GetStockMovementRequest(name=movement.name)) == movement


@pytest.mark.parametrize(("cause", "delta"), [("RECEIVE", -2), ("RETURN", -2), ("WRITE_OFF", 2)])
def test_adjustment_with_a_sign_that_contradicts_its_cause_is_refused(
    shop: Shop, records: Records, cause: str, delta: int
):
    sku = shop.variant(stock=5).sku
    before = records.everything()
    direction = "negative" if delta > 0 else "positive"
    with refused("INVALID_FIELD") as refusal:
        shop.adjust(sku, delta, cause=f"STOCK_MOVEMENT_CAUSE_{cause}")
    assert f"quantity_delta: must be {direction}, because {cause} " in refusal.text
    item = inventory_pb2.AdjustStockRequest(
        name=f"{MAIN}/stockLevels/{sku}", quantity_delta=delta, cause=f"STOCK_MOVEMENT_CAUSE_{cause}"
    )
    batch = inventory_pb2.BatchAdjustStockRequest(parent=MAIN, requests=[item])
    with refused("INVALID_FIELD") as refusal:
        shop.inventory.BatchAdjustStock(batch)
    assert "requests[0].quantity_delta: must be " in refusal.text
    assert records.everything() == before


@pytest.mark.parametrize("digits", ["007", "9" * 30, "1e5"])
def test_sku_that_looks_like_a_number_is_a_text_in_filters(shop: Shop, digits: str):
    sku = shop.variant(sku=digits, stock=5).sku
    assert [movement.quantity_delta for movement in list_movements(shop, sku)] == [5]
    levels = shop.inventory.ListStockLevels(inventory_pb2.ListStockLevelsRequest(parent=MAIN, filter=f"sku = {sku}"))
    assert [level.sku for level in levels.stock_levels] == [sku]
    variants = shop.products.ListVariants(products_pb2.ListVariantsRequest(parent="products/-", filter=f"sku = {sku}"))
    assert [variant.sku for variant in variants.variants] == [sku]
    order = shop.order((sku, 1))
    orders = shop.orders.ListOrders(orders_pb2.ListOrdersRequest(filter=f"lines.sku:{sku}"))
    assert [found.name for found in orders.orders] == [order.name]


@pytest.mark.parametrize("cause", OWN_CAUSES)
def test_cause_that_other_calls_have_is_refused(shop: Shop, cause: str):
    with refused("INVALID_FIELD") as refusal:
        shop.adjust(shop.variant(stock=5).sku, 1, cause=f"STOCK_MOVEMENT_CAUSE_{cause}")
    assert list(refusal.violations) == ["cause"]


def test_adjustment_without_a_cause_is_an_adjustment(shop: Shop):
    sku = shop.variant(stock=1).sku
    assert list_movements(shop, sku)[0].cause == inventory_pb2.STOCK_MOVEMENT_CAUSE_ADJUST


def test_adjustment_cannot_subtract_allocated_units(shop: Shop):
    sku = shop.variant(stock=5).sku
    shop.order((sku, 3))
    with refused("OUT_OF_STOCK") as refusal:
        shop.adjust(sku, -3)
    assert refusal.metadata == list_shortages({sku: (3, 2)})
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
    movements = list_movements(shop, sku)
    assert sum(movement.quantity_delta for movement in movements) == shop.level(sku).on_hand == 4
    assert [movement.on_hand for movement in movements] == [10, 7, 14, 0, 4]


# -- counting


def test_count_puts_the_difference_into_the_ledger(shop: Shop):
    sku = shop.variant(stock=5).sku
    assert set_stock(shop, sku, 2, reason="counted").on_hand == 2
    movement = list_movements(shop, sku)[-1]
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
    assert list_movements(shop, sku) == []


@pytest.mark.parametrize(("stock", "expected_quantity"), [(5, 4), (5, 0), (0, 1)])
def test_count_that_expected_something_else_is_refused(shop: Shop, stock: int, expected_quantity: int):
    sku = shop.variant(stock=stock).sku
    with refused("QUANTITY_MISMATCH") as refusal:
        set_stock(shop, sku, 9, expected_quantity=expected_quantity)
    assert refusal.metadata["on_hand"] == str(stock)
    assert refusal.metadata["expected_quantity"] == str(expected_quantity)


def test_count_that_expected_nothing_makes_the_first_level(shop: Shop):
    assert set_stock(shop, shop.variant().sku, 9, expected_quantity=0).on_hand == 9


def test_count_below_the_allocated_units_is_refused(shop: Shop):
    sku = shop.variant(stock=5).sku
    shop.order((sku, 3))
    with refused("COUNT_BELOW_COMMITTED") as refusal:
        set_stock(shop, sku, 2)
    facts = {key: refusal.metadata[key] for key in ("quantity", "reserved", "allocated", "backorder_limit")}
    assert facts == {"quantity": "2", "reserved": "0", "allocated": "3", "backorder_limit": "0"}
    assert set_stock(shop, sku, 3).available == 0


def test_loss_of_promised_units_can_be_recorded(shop: Shop):
    sku = shop.variant(stock=5).sku
    order = shop.order((sku, 4))
    level = set_stock(shop, sku, 3, backorder_shortage=True, reason="one broken")
    assert (level.on_hand, level.allocated, level.backorder_limit, level.available) == (3, 4, 1, 0)
    assert [(m.quantity_delta, m.reason) for m in list_movements(shop, sku) if m.quantity_delta < 0] == [
        (-2, "one broken")
    ]
    with refused("OUT_OF_STOCK"):
        shop.order((sku, 1))
    assert set_stock(shop, sku, 2, backorder_shortage=True).backorder_limit == 2
    shop.cancel(order)
    level = set_stock(shop, sku, 2, backorder_shortage=True)
    assert (level.on_hand, level.allocated, level.backorder_limit) == (2, 0, 2), "enough is there: the limit stays"


# -- reading


def test_availability_is_of_all_locations_or_of_one(shop: Shop):
    location = shop.location().name
    sku = shop.variant(stock=5).sku
    shop.adjust(sku, 2, location=location)
    shop.order((sku, 1), location=location)
    assert check_availability(shop, sku) == [(6, True)]
    assert check_availability(shop, sku, location=location) == [(1, True)]
    assert check_availability(shop, sku, location=MAIN) == [(5, True)]


def test_availability_answers_in_the_order_of_the_skus(shop: Shop):
    skus = [shop.variant(stock=stock).sku for stock in (3, 0, 1)]
    assert check_availability(shop, *skus, skus[0]) == [(3, True), (0, True), (1, True), (3, True)]


@pytest.mark.parametrize("kind", [VARIANT, PRODUCT], ids=str)
def test_availability_says_what_is_off_sale(shop: Shop, kind):
    variant = shop.variant(stock=2)
    kind.do(shop, "Archive", variant.name if kind is VARIANT else variant.name.partition("/variants/")[0])
    assert check_availability(shop, variant.sku) == [(2, False)]


def test_availability_sees_an_order_at_once(shop: Shop):
    sku = shop.variant(stock=2).sku
    order = shop.order((sku, 2))
    assert check_availability(shop, sku) == [(0, True)]
    shop.cancel(order)
    assert check_availability(shop, sku) == [(2, True)]


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
    assert [movement.on_hand for movement in list_movements(shop, sku)] == [1, 2, 3]


def test_availability_lists_locations_in_the_order_of_use(shop: Shop):
    first, empty = shop.location(priority=-1).name, shop.location().name
    sku = shop.variant(stock=5).sku
    shop.adjust(sku, 2, location=first)
    shop.adjust(sku, 1, location=empty)
    shop.adjust(sku, -1, location=empty)
    (one,) = shop.inventory.CheckAvailability(inventory_pb2.CheckAvailabilityRequest(skus=[sku])).availabilities
    assert [(there.location, there.available) for there in one.locations] == [(first, 2), (MAIN, 5)]


# -- backorder limit and safety threshold


def update_level(
    shop: Shop, sku: str, *, location: str = MAIN, etag: str = "", **fields: int
) -> inventory_pb2.StockLevel:
    level = inventory_pb2.StockLevel(name=f"{location}/stockLevels/{sku}", etag=etag, **fields)
    return shop.inventory.UpdateStockLevel(
        inventory_pb2.UpdateStockLevelRequest(stock_level=level, update_mask=FieldMask(paths=list(fields)))
    )


def test_safety_threshold_is_not_for_sale(shop: Shop):
    sku = shop.variant(stock=5).sku
    level = update_level(shop, sku, safety_threshold=3)
    assert (level.safety_threshold, level.available, check_availability(shop, sku)) == (3, 2, [(2, True)])
    with refused("OUT_OF_STOCK") as refusal:
        shop.order((sku, 3))
    assert refusal.metadata["available-1"] == "2"
    shop.order((sku, 2))
    assert shop.level(sku).available == 0


def test_threshold_above_all_stock_shows_nothing_and_takes_nothing_back(shop: Shop):
    sku = shop.variant(stock=5).sku
    order = shop.order((sku, 4))
    assert update_level(shop, sku, safety_threshold=9).available == 0
    assert check_availability(shop, sku) == [(0, True)]
    shop.cancel(order)
    assert shop.level(sku).available == 0


def test_safety_stock_can_be_adjusted(shop: Shop):
    sku = shop.variant(stock=5).sku
    update_level(shop, sku, safety_threshold=5)
    assert shop.adjust(sku, -4).on_hand == 1


def test_backorder_limit_is_sold_beyond_what_is_on_hand(shop: Shop):
    sku = shop.variant().sku
    assert update_level(shop, sku, backorder_limit=3).available == 3
    shop.order((sku, 3))
    with refused("OUT_OF_STOCK"):
        shop.order((sku, 1))
    with refused("OUT_OF_STOCK"):
        update_level(shop, sku, backorder_limit=2)
    shop.adjust(sku, 1)
    assert update_level(shop, sku, backorder_limit=2).available == 0


def test_backordered_units_cannot_be_adjusted_away(shop: Shop):
    sku = shop.variant(stock=1).sku
    update_level(shop, sku, backorder_limit=3)
    with refused("OUT_OF_STOCK") as refusal:
        shop.adjust(sku, -2)
    assert refusal.metadata["available-1"] == "1"


def test_update_of_a_level_to_what_it_is_writes_nothing(shop: Shop, records: Records):
    sku = shop.variant(stock=1).sku
    update_level(shop, sku, backorder_limit=3, safety_threshold=1)
    before = records.everything()
    assert update_level(shop, sku, backorder_limit=3).etag == "v2"
    assert records.everything() == before


@pytest.mark.parametrize("fields", [{"safety_threshold": -1}, {"backorder_limit": 10**9 + 1}])
def test_update_beyond_the_limits_is_refused(shop: Shop, fields: dict[str, int]):
    with refused("INVALID_FIELD"):
        update_level(shop, shop.variant(stock=1).sku, **fields)


# -- transfers


def transfer(shop: Shop, destination: str, *lines: tuple[str, int], **fields) -> inventory_pb2.TransferStockResponse:
    wanted = [inventory_pb2.TransferLine(sku=sku, quantity=quantity) for sku, quantity in lines]
    chosen = {"source": MAIN} | fields
    return shop.inventory.TransferStock(
        inventory_pb2.TransferStockRequest(lines=wanted, destination=destination, **chosen)
    )


def test_transfer_moves_units_with_two_movements_of_one_source(shop: Shop, records: Records):
    north = shop.location().name
    sku, other = shop.variant(stock=5).sku, shop.variant(stock=1).sku
    shop.adjust(other, 1, location=north)
    before = records.last_sequence()
    moved = transfer(shop, north, (sku, 2), (other, 1), (sku, 1), reason="opening")
    levels = [(level.name, level.on_hand) for level in moved.stock_levels]
    expected = [(MAIN, sku, 2), (MAIN, other, 0), (north, sku, 3), (north, other, 2)]
    assert levels == [
        (f"{location}/stockLevels/{one}", units)
        for location, one, units in sorted(expected, key=lambda row: (row[0] != MAIN, row[1]))
    ]
    assert [(kind, name) for kind, name, _ in records.events_after(before)] == [
        *(("stock_level.updated", level.name) for level in moved.stock_levels),
        ("stock.out", f"{MAIN}/stockLevels/{other}"),
    ]
    assert [shop.level(sku, location=location) for location in (MAIN, north)] == [
        next(level for level in moved.stock_levels if level.name == f"{location}/stockLevels/{sku}")
        for location in (MAIN, north)
    ]
    movements = shop.inventory.ListStockMovements(
        inventory_pb2.ListStockMovementsRequest(filter=f'source = "{moved.source}" AND sku = {sku}')
    ).stock_movements
    assert [(one.quantity_delta, one.on_hand, one.reason, one.cause) for one in movements] == [
        (-3, 2, "opening", inventory_pb2.STOCK_MOVEMENT_CAUSE_TRANSFER),
        (3, 3, "opening", inventory_pb2.STOCK_MOVEMENT_CAUSE_TRANSFER),
    ]


def test_transfer_of_too_much_moves_nothing(shop: Shop, records: Records):
    north = shop.location().name
    sku, short = shop.variant(stock=5).sku, shop.variant(stock=5).sku
    shop.order((short, 4))
    before = records.everything()
    with refused("OUT_OF_STOCK") as refusal:
        transfer(shop, north, (sku, 5), (short, 2))
    assert refusal.metadata == list_shortages({short: (2, 1)})
    assert records.everything() == before


def test_transfer_to_where_it_comes_from_is_refused(shop: Shop):
    with refused("INVALID_FIELD") as refusal:
        transfer(shop, MAIN, (shop.variant(stock=1).sku, 1))
    assert list(refusal.violations) == ["destination"]


def test_retried_transfer_moves_once(shop: Shop):
    north, sku = shop.location().name, shop.variant(stock=5).sku
    request_id = new_request_id()
    first = transfer(shop, north, (sku, 2), request_id=request_id)
    assert transfer(shop, north, (sku, 2), request_id=request_id) == first
    assert transfer(shop, north, (sku, 2), validate_only=True).stock_levels[0].on_hand == 1
    assert shop.level(sku).on_hand == 3


# -- low stock


def list_low_stock(shop: Shop, **fields) -> list[tuple[str, int]]:
    request = inventory_pb2.ListLowStockRequest(page_size=1000, **fields)
    return [(level.sku, level.available) for level in shop.inventory.ListLowStock(request).stock_levels]


def test_low_stock_is_listed_lowest_first(shop: Shop):
    location = shop.location().name
    skus = [shop.variant(stock=stock, location=location).sku for stock in (5, 2, 3, 1)]
    update_level(shop, skus[0], location=location, safety_threshold=4)
    update_level(shop, skus[1], location=location, backorder_limit=50)
    shop.order((skus[2], 3), location=location)
    assert list_low_stock(shop, location=location) == [(skus[2], 0)]
    expected = sorted([(1, skus[0]), (2, skus[1]), (0, skus[2]), (1, skus[3])])
    assert [sku for sku, _ in list_low_stock(shop, location=location, available_max=2)] == [sku for _, sku in expected]


def test_low_stock_leaves_out_what_is_off_sale(shop: Shop):
    location = shop.location().name
    variant = shop.variant(stock=1, location=location)
    assert list_low_stock(shop, location=location, available_max=1) == [(variant.sku, 1)]
    VARIANT.do(shop, "Archive", variant.name)
    assert list_low_stock(shop, location=location, available_max=1) == []


def test_low_stock_is_paged(shop: Shop):
    location = shop.location().name
    skus = {shop.variant(stock=1, location=location).sku for _ in range(5)}
    skus_listed, token = [], ""
    while True:
        page = shop.inventory.ListLowStock(
            inventory_pb2.ListLowStockRequest(location=location, available_max=1, page_size=2, page_token=token)
        )
        skus_listed += [level.sku for level in page.stock_levels]
        token = page.next_page_token
        if not token:
            break
    assert (len(skus_listed), set(skus_listed)) == (5, skus)


@pytest.mark.parametrize(
    "other", [{"available_max": 2}, {"available_max": 0}, {"location": MAIN}, {"location": ""}], ids=str
)
def test_page_token_of_low_stock_is_of_one_bound_and_one_location(shop: Shop, other: dict):
    location = shop.location().name
    for _ in range(2):
        shop.variant(stock=1, location=location)
    wanted = {"location": location, "available_max": 1, "page_size": 1}
    token = shop.inventory.ListLowStock(inventory_pb2.ListLowStockRequest(**wanted)).next_page_token
    assert token
    with refused("INVALID_PAGE_TOKEN"):
        shop.inventory.ListLowStock(inventory_pb2.ListLowStockRequest(**wanted | other, page_token=token))


# -- database constraints


@pytest.mark.parametrize(
    "change",
    [
        "allocated = on_hand + 1",
        "reserved = on_hand + backorder_limit + 1",
        "on_hand = on_hand - 3",
        "allocated = -1",
        "safety_threshold = -1",
        "backorder_limit = -1",
    ],
)
def test_oversell_by_hand_is_refused_by_the_database(shop: Shop, server: ServerProcess, change: str):
    sku = shop.variant(stock=5).sku
    shop.order((sku, 3))
    with server.database.opened() as session, pytest.raises(Exception, match=r"CHECK constraint|check constraint"):
        session.run(f"UPDATE stock_levels SET {change} WHERE sku = ?", sku)
    assert (shop.level(sku).on_hand, shop.level(sku).allocated) == (5, 3)
