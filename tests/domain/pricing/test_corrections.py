"""What is refused of zones and promotions, and what an order keeps of large promotions."""

from __future__ import annotations

import msgspec
import pytest

from storekeep.client import (
    AlreadyExists,
    CategoryNotFound,
    ItemSelection,
    ProductNotFound,
    Promotion,
    PromotionAction,
    SkuNotFound,
    Storekeep,
    TaxArea,
    TaxZone,
)
from storekeep.server.domain.orders.pricing import OrderPricing
from storekeep.server.domain.pricing.discounts import selects
from storekeep.server.domain.pricing.frozen_selections import compact_promotions, expand_promotions
from storekeep.server.domain.pricing.terms import DEFAULT_RULES, Action, Conditions, Item, Selection
from storekeep.server.domain.pricing.terms import Promotion as PromotionTerms
from tests.support.pricing import TEN_PERCENT, make_area, make_zone
from tests.support.shops import new_id

ITEMS = tuple(Item(f"SKU-{number:058}", product_id=f"p{number}") for number in range(500))


# -- zones


def test_zone_with_the_area_of_another_is_refused_and_names_it(client: Storekeep) -> None:
    area = make_area()
    zone = make_zone(client, area)
    same = TaxArea(region_code="DE", postal_code_prefix=f" {area.postal_code_prefix.upper()} ")
    with pytest.raises(AlreadyExists) as caught:
        make_zone(client, make_area(), same)
    assert caught.value.metadata["resource"] == zone.name
    other = make_zone(client)
    with pytest.raises(AlreadyExists):
        client.tax_zones.update(TaxZone(name=other.name, areas=[same]), update_mask=["areas"])
    client.tax_zones.update(TaxZone(name=zone.name, areas=[area, make_area()]), update_mask=["areas"])


def test_area_of_a_deleted_zone_is_free_and_its_zone_cannot_come_back(client: Storekeep) -> None:
    area = make_area()
    zone = make_zone(client, area)
    client.tax_zones.delete(zone.name)
    taken = make_zone(client, area)
    with pytest.raises(AlreadyExists):
        client.tax_zones.undelete(zone.name)
    client.tax_zones.delete(taken.name)
    client.tax_zones.undelete(zone.name)


# -- promotions


@pytest.mark.parametrize(
    ("selection", "error"),
    [
        (ItemSelection(skus=["NO-SUCH-SKU"]), SkuNotFound),
        (ItemSelection(products=["products/nowhere"]), ProductNotFound),
        (ItemSelection(categories=["categories/nowhere"]), CategoryNotFound),
    ],
    ids=["sku", "product", "category"],
)
def test_promotion_on_what_does_not_exist_is_refused(
    client: Storekeep, selection: ItemSelection, error: type[Exception]
) -> None:
    action = PromotionAction(kind="PROMOTION_ACTION_KIND_PERCENTAGE", percentage_ppm=1, items=selection)
    with pytest.raises(error):
        client.promotions.create(Promotion(action=action), promotion_id=new_id("p"))
    made = client.promotions.create(TEN_PERCENT)
    with pytest.raises(error):
        client.promotions.update(Promotion(name=made.name, action=action), update_mask=["action"])


# -- what an order keeps


def make_large(number: int) -> PromotionTerms:
    """Return a promotion whose three selections list 500 SKUs each, half of them of the items."""
    skus = frozenset([item.sku for item in ITEMS[number % 250 :: 2]] + [f"other-{number}-{n:040}" for n in range(250)])
    chosen = Selection(skus=skus)
    action = Action("PERCENTAGE", 1, items=chosen, bought=Selection(skus=skus, inverted=True))
    return PromotionTerms(f"promotions/{number}", action, conditions=Conditions(items=chosen))


def test_order_keeps_a_hundred_maximal_promotions_in_bounded_space() -> None:
    promotions = [make_large(number) for number in range(100)]
    kept = compact_promotions(promotions, ITEMS)
    pricing = OrderPricing(DEFAULT_RULES, 1, promotions=kept, items=ITEMS)
    without = OrderPricing(DEFAULT_RULES, 1, items=ITEMS)
    assert len(msgspec.json.encode(pricing)) - len(msgspec.json.encode(without)) < 200_000
    for before, after in zip(promotions, expand_promotions(kept, ITEMS), strict=True):
        for part in ("items", "bought"):
            selected = [[selects(getattr(one.action, part), item) for item in ITEMS] for one in (before, after)]
            assert selected[0] == selected[1]


def test_small_selections_are_kept_as_they_are() -> None:
    small = PromotionTerms("promotions/p", Action("PERCENTAGE", 1, items=Selection(skus=frozenset({"A"}))))
    assert compact_promotions([small], ITEMS) == (small,)
    assert expand_promotions((small,), ITEMS) == (small,)


def test_selection_of_nothing_and_new_lines_are_not_selected() -> None:
    promotions = [
        make_large(0),
        PromotionTerms(
            "promotions/none",
            Action("PERCENTAGE", 1, items=Selection(skus=frozenset(f"N{number}" for number in range(1_001)))),
        ),
    ]
    kept = compact_promotions(promotions, ITEMS[:1])
    new = (*ITEMS[:1], Item("NEW"))
    for promotion in expand_promotions(kept, new)[1:]:
        assert not any(selects(promotion.action.items, item) for item in new)
