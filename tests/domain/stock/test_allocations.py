"""Allocation of stock to orders: the choice of locations and the movements in the ledger."""

from __future__ import annotations

import pytest

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.orders.cancellations import cancel_order
from storekeep.server.domain.samples import load_sample
from storekeep.server.domain.stock.expiry import set_expirers
from storekeep.server.domain.stock.levels import adjust_stock
from storekeep.server.store.engine import Store
from storekeep.server.wiring.expirers import EXPIRERS
from storekeep.v1 import inventory_pb2
from tests.support.databases import Database
from tests.support.placing import place
from tests.support.refusals import list_shortages, refused
from tests.support.shops import MAIN, Shop
from tests.support.statements import record_statements
from tests.support.stores import open_store

CALL = Call(Caller("serviceAccounts/test"), "storekeep.v1.OrderService/PlaceOrder")
Movement = tuple[str, str, int, int, int]


def list_movements(shop: Shop, sku: str, **fields) -> list[Movement]:
    """Return (cause, location, line, on-hand delta, allocated delta) of each movement, oldest first."""
    request = inventory_pb2.ListStockMovementsRequest(filter=f"sku = {sku}", page_size=100, **fields)
    return [
        (
            inventory_pb2.StockMovementCause.Name(movement.cause).removeprefix("STOCK_MOVEMENT_CAUSE_"),
            movement.stock_level.partition("/stockLevels/")[0],
            movement.line_number,
            movement.quantity_delta,
            movement.allocated_delta,
        )
        for movement in shop.inventory.ListStockMovements(request).stock_movements
    ]


def make_stocked_sku(shop: Shop, *levels: tuple[str, int]) -> str:
    """Return a new SKU with stock at the given locations.

    Args:
        levels: (location name, units).
    """
    sku = shop.variant().sku
    for location, units in levels:
        shop.adjust(sku, units, location=location)
    return str(sku)


def order_and_list_units(shop: Shop, sku: str, *quantities: int, **fields) -> dict[tuple[str, int], int]:
    """Place an order with one line for each quantity. Return (location, line) -> allocated units."""
    shop.order(*((sku, quantity) for quantity in quantities), **fields)
    return {
        (location, line): units for cause, location, line, _, units in list_movements(shop, sku) if cause == "ALLOCATE"
    }


def test_order_writes_its_allocations_to_the_ledger(shop: Shop):
    sku = shop.variant(stock=5).sku
    order = shop.order((sku, 2), (sku, 1))
    request = inventory_pb2.ListStockMovementsRequest(filter=f"sku = {sku}")
    movements = shop.inventory.ListStockMovements(request).stock_movements[1:]
    assert [(m.line_number, m.allocated_delta, m.quantity_delta, m.on_hand) for m in movements] == [
        (1, 2, 0, 5),
        (2, 1, 0, 5),
    ]
    assert {(m.source, m.actor, m.cause) for m in movements} == {
        (order.name, shop.subject, inventory_pb2.STOCK_MOVEMENT_CAUSE_ALLOCATE)
    }


def test_cancelled_order_releases_its_allocations(shop: Shop):
    sku = shop.variant(stock=5).sku
    shop.cancel(shop.order((sku, 2), (sku, 1)))
    assert list_movements(shop, sku)[1:] == [
        ("ALLOCATE", MAIN, 1, 0, 2),
        ("ALLOCATE", MAIN, 2, 0, 1),
        ("DEALLOCATE", MAIN, 1, 0, -2),
        ("DEALLOCATE", MAIN, 2, 0, -1),
    ]
    assert shop.level(sku).available == 5


# -- choice of locations


def test_stock_is_taken_from_the_location_of_the_lowest_priority(shop: Shop):
    first = shop.location(priority=-1).name
    sku = make_stocked_sku(shop, (MAIN, 9), (first, 2))
    assert order_and_list_units(shop, sku, 2) == {(first, 1): 2}


def test_stock_is_taken_from_where_most_is_left_among_equals(shop: Shop):
    other = shop.location().name
    sku = make_stocked_sku(shop, (MAIN, 5), (other, 6))
    assert order_and_list_units(shop, sku, 1) == {(other, 1): 1}
    shop.order((sku, 1))
    shop.order((sku, 1))
    assert [shop.level(sku, location=location).allocated for location in (MAIN, other)] == [1, 2]


def test_line_is_taken_whole_where_one_location_has_it_all(shop: Shop):
    first, last = shop.location(priority=-1).name, shop.location(priority=5).name
    sku = make_stocked_sku(shop, (first, 2), (MAIN, 2), (last, 3))
    assert order_and_list_units(shop, sku, 3) == {(last, 1): 3}


def test_line_is_split_where_no_location_has_it_all(shop: Shop):
    first, last = shop.location(priority=-1).name, shop.location(priority=5).name
    sku = make_stocked_sku(shop, (first, 2), (MAIN, 2), (last, 3))
    assert order_and_list_units(shop, sku, 6) == {(first, 1): 2, (MAIN, 1): 2, (last, 1): 2}


def test_lines_of_one_sku_are_each_taken_whole_where_they_can_be(shop: Shop):
    other = shop.location(priority=1).name
    sku = make_stocked_sku(shop, (MAIN, 3), (other, 3))
    assert order_and_list_units(shop, sku, 2, 3) == {(MAIN, 1): 2, (other, 2): 3}


def test_named_location_is_the_only_one_that_gives(shop: Shop):
    other = shop.location(priority=-1).name
    sku = make_stocked_sku(shop, (MAIN, 1), (other, 9))
    with refused("OUT_OF_STOCK") as refusal:
        shop.order((sku, 2), location=MAIN)
    assert refusal.metadata == list_shortages({sku: (2, 1)})


def test_shortage_reports_the_units_of_all_locations(shop: Shop):
    sku = make_stocked_sku(shop, (MAIN, 1), (shop.location().name, 2))
    with refused("OUT_OF_STOCK") as refusal:
        shop.order((sku, 3), (sku, 1))
    assert refusal.metadata == list_shortages({sku: (4, 3)})
    assert all(cause == "ADJUST" for cause, *_ in list_movements(shop, sku))


def test_split_order_releases_all_its_parts(shop: Shop):
    other = shop.location().name
    sku = make_stocked_sku(shop, (MAIN, 2), (other, 3))
    shop.cancel(shop.order((sku, 5)))
    assert [shop.level(sku, location=location).allocated for location in (MAIN, other)] == [0, 0]


# -- number of statements


@pytest.fixture
def store(database: Database):
    opened = open_store(database.url)
    set_expirers(opened, EXPIRERS)
    load_sample(opened)
    yield opened
    opened.close()


def test_order_costs_eight_statements_however_many_lines(store: Store):
    skus = ("MUG-BLUE", "TIN-RED", "TIN-GREEN", "STRAINER")
    place(store, "ada-marsh", (skus[0], 1))  # caches the data key of the customer
    for lines in (1, 4, 100):
        items = tuple((skus[number % len(skus)], 1) for number in range(lines))
        assert len(record_statements(lambda items=items: place(store, "ada-marsh", *items))) == 8


def test_cancelling_costs_ten_statements_however_many_lines(store: Store):
    items = tuple(("SHORTBREAD-12", 1) for _ in range(20))
    for lines in (1, 20):
        order = place(store, "ada-marsh", *items[:lines])
        assert len(record_statements(lambda order=order: cancel_order(store, CALL, order.id))) == 10


def test_ledger_refuses_to_be_changed(store: Store, database: Database):
    adjust_stock(store, CALL, ("main", "MUG-BLUE"), quantity_delta=1)
    store.close()
    with database.opened() as session:
        before = session.rows("SELECT * FROM stock_movements ORDER BY id")
        for statement in (
            "UPDATE stock_movements SET quantity_delta = 7",
            "UPDATE stock_movements SET reason = 'another' WHERE id = 1",
            "DELETE FROM stock_movements",
            "DELETE FROM stock_movements WHERE id = 1",
            *(["TRUNCATE stock_movements"] if database.engine == "postgresql" else []),
        ):
            with pytest.raises(Exception, match="stock_movements is append-only"):
                session.run(statement)
        assert session.rows("SELECT * FROM stock_movements ORDER BY id") == before
