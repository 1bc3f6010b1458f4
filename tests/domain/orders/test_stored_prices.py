"""What an order stores of its price: each name once, and all that the calculation found."""

from __future__ import annotations

from contextlib import closing
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from storekeep.server.domain.orders.orders import decode_pricing, get_order
from storekeep.server.domain.orders.pricing import freeze_terms
from storekeep.server.domain.pricing import promotions
from storekeep.server.domain.pricing.calculation import price_basket
from storekeep.server.domain.pricing.promotions import PROMOTIONS
from storekeep.v1 import pricing_pb2
from tests.domain.orders.test_order_promotions import TENTH, promote
from tests.domain.orders.test_order_taxes import show
from tests.support.databases import Database
from tests.support.order_cases import apply
from tests.support.order_inputs import prepare
from tests.support.orders_together import open_shop, order
from tests.support.placing import CALL
from tests.support.pricing_inputs import make_case
from tests.support.shops import Shop


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**64))
def test_stored_terms_say_all_that_the_calculation_found(seed: int) -> None:
    basket, terms = make_case(Random(seed))
    priced = price_basket(basket, terms)
    frozen = freeze_terms(basket, terms, priced, tax_address=None)
    stored = decode_pricing(msgspec.json.encode(frozen))
    for one in (frozen, stored):
        assert one.amounts == tuple(line.amount for line in priced.lines)
        assert (one.shipping, one.applied) == (priced.shipping, priced.promotions)
    assert stored == frozen
    for one in (frozen.clear(), decode_pricing(msgspec.json.encode(frozen.clear()))):
        assert (one.amounts, one.shipping, one.applied) == ((), None, ())


def test_order_stores_each_promotion_once(database: Database) -> None:
    prepare(database)
    with closing(open_shop(database)) as store:
        for name in ("one", "two", "three"):
            PROMOTIONS.create(store, CALL, promotions.Promotion(name, action=promotions.Action(percentage_ppm=100_000)))
            promotions.activate_promotion(store, CALL, name, etag="")
        placed = order(("TIN-RED", 1), ("TIN-RED", 2))(store)
        assert get_order(store, placed.id) == placed
    with database.opened() as session:
        ((row,),) = session.rows("SELECT pricing FROM orders")
        ((entry,),) = session.rows("SELECT after FROM audit_entries WHERE type = 'order.placed'")
    assert placed.pricing is not None
    assert [len(amount.shares) for amount in placed.pricing.amounts] == [3, 3]
    for stored in (row, bytes(entry).decode()):
        assert [stored.count(f"promotions/{name}") for name in ("one", "two", "three")] == [1, 1, 1]


def test_promotion_of_an_order_reduces_a_line_that_is_added_when_no_promotion_is_active(shop: Shop) -> None:
    category = shop.category()
    first, second = (shop.variant(stock=9, parent=shop.product(category=category.name).name).sku for _ in range(2))
    name = promote(shop, [], action=TENTH | {"items": {"categories": [category.name]}})
    placed = shop.order((first, 1))
    shop.pricing.EndPromotion(pricing_pb2.EndPromotionRequest(name=name))
    edited = shop.orders.ApplyOrderEdit(apply(placed, add={second: 1}))
    assert [show(line.total) for line in edited.lines] == ["9.00", "9.00"]


def test_items_of_an_order_without_promotions_keep_no_facts_to_compare() -> None:
    basket, terms = make_case(Random(1))
    terms = msgspec.structs.replace(terms, promotions=())
    frozen = freeze_terms(basket, terms, price_basket(basket, terms), tax_address=None)
    assert [(item.product_id, item.labels) for item in frozen.items] == [("", {})] * len(frozen.items)
