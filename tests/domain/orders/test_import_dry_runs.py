"""Dry runs of an import in several calls: each call names the units that the orders of earlier ones would allocate."""

from __future__ import annotations

from storekeep.v1 import orders_pb2 as pb
from tests.support.historic_orders import historic, import_batch, line
from tests.support.refusals import refused
from tests.support.shops import MAIN, Shop

IMPORTED = pb.ORDER_IMPORT_OUTCOME_IMPORTED
REFUSED = pb.ORDER_IMPORT_OUTCOME_REFUSED


def test_dry_run_counts_the_units_that_orders_of_earlier_calls_would_take(shop: Shop):
    sku, other = shop.variant(stock=4).sku, shop.location().name
    shop.adjust(sku, 3, location=other)
    three = historic(shop, line(sku))
    requested = [three] + [historic(shop, line(sku), location=location) for location in (MAIN, other)]
    cases: list[tuple[dict[str, int], list[int]]] = [
        ({}, [IMPORTED, IMPORTED, IMPORTED]),
        ({"": 4}, [IMPORTED, REFUSED, IMPORTED]),
        ({"": 5}, [REFUSED, REFUSED, REFUSED]),
        ({MAIN: 2}, [IMPORTED, REFUSED, IMPORTED]),
        ({other: 1}, [IMPORTED, IMPORTED, REFUSED]),
        ({other: 3, "": 2}, [REFUSED, REFUSED, REFUSED]),
    ]
    for taken, outcomes in cases:
        units = [pb.TakenUnits(sku=sku, location=location, quantity=quantity) for location, quantity in taken.items()]
        results = [import_batch(shop, order, validate_only=True, taken_units=units)[0] for order in requested]
        assert [result.outcome for result in results] == outcomes, taken
    assert shop.level(sku).allocated == 0
    with refused("INVALID_FIELD"):
        import_batch(shop, three, taken_units=[pb.TakenUnits(sku=sku, quantity=1)])


def test_dry_run_returns_the_units_that_each_order_would_allocate(shop: Shop):
    sku, other = shop.variant(stock=4).sku, shop.location().name
    shop.adjust(sku, 3, location=other)
    wide, repeated = historic(shop, line(sku, quantity=6)), historic(shop, line(sku, quantity=1), line(sku, quantity=2))
    shipped = historic(shop, line(sku), ship_time=repeated.order_time)
    for orders, taken in (
        ([wide, wide, repeated], [{MAIN: 4, other: 2}, {}, {}]),
        ([repeated, shipped], [{MAIN: 3}, {}]),
    ):
        results = import_batch(shop, *orders, validate_only=True)
        assert [{one.location: one.quantity for one in result.taken_units} for result in results] == taken
        assert {one.sku for result in results for one in result.taken_units} == {sku}
    assert not import_batch(shop, repeated)[0].taken_units
