"""Price history: which price held when, and the lowest one of some days."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.catalog.price_history import PastPrice, find_lowest_price, make_listing
from storekeep.server.domain.catalog.products import PRODUCTS, Product
from storekeep.server.domain.catalog.variants import VARIANTS, Variant
from storekeep.server.domain.errors import PriceNotFound, UnknownCurrency
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.money import Money
from storekeep.server.domain.pricing.prices import PRICES, Price
from storekeep.server.domain.standard.lists import ListRequest
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.runtime.durations import DAY_US
from tests.support.databases import Database
from tests.support.installations import SECRET
from tests.support.stores import open_store

CALL = Call(Caller("serviceAccounts/test"), "storekeep.v1.PricingService/Test")
START_US = 1_000 * DAY_US


class Shop:
    """A shop with one variant, and a clock that the test moves.

    Attributes:
        day: the time, in days.
    """

    def __init__(self, database: Database) -> None:
        self.day = 0.0
        self.store = open_store(database.url, clock=lambda: START_US + round(self.day * DAY_US))
        PRODUCTS.create(self.store, CALL, Product("p", "P"))
        self.variant = VARIANTS.create(self.store, CALL, Variant("p", "v", "A", prices=(Money("EUR", 1_000),)))

    def set_base(self, amount_minor: int) -> None:
        """Change the price of the variant."""
        new = Variant("p", "v", "A", prices=(Money("EUR", amount_minor),))
        VARIANTS.update(self.store, CALL, new, fields=["prices"], etag="")

    def add(
        self, price_id: str, amount_minor: int, *, start: float | None = None, end: float | None = None, **fields: Any
    ):
        """Create a price in a window of days."""
        times = {
            "start_time_us": None if start is None else START_US + round(start * DAY_US),
            "end_time_us": None if end is None else START_US + round(end * DAY_US),
        }
        PRICES.create(self.store, CALL, Price(price_id, "A", "EUR", amount_minor, **times, **fields))

    def lowest(self, *, days: int = 30, group: str = "") -> int:
        """Return the lowest price of the last days."""
        found = find_lowest_price(self.store, "A", "EUR", customer_group=group, days=days, time_us=None)
        return found.amount.amount_minor

    def spans(self) -> list[tuple[str, float, float | None, int]]:
        """Return (price, first day, last day, amount) of the history, the latest first."""
        tokens = PageTokens(Keyring.from_secret(SECRET))
        listing = make_listing("A", "")
        page = self.store.snapshot(lambda tx: listing.page(tx, ListRequest(), tokens=tokens))
        return [
            (item.price_id, to_day(item.start_time_us), to_day(item.end_time_us), item.amount_minor)
            for item in page.items
        ]


def to_day(time_us: int | None) -> Any:
    return None if time_us is None else (time_us - START_US) / DAY_US


@pytest.fixture
def shop(database: Database) -> Iterator[Shop]:
    """A shop with a variant for 10.00 EUR since day 0."""
    made = Shop(database)
    yield made
    made.store.close()


def test_change_of_the_base_price_ends_its_span(shop: Shop):
    shop.day = 1
    shop.set_base(800)
    shop.day = 2
    shop.set_base(900)
    assert shop.spans() == [("", 2, None, 900), ("", 1, 2, 800), ("", 0, 1, 1_000)]


def test_planned_price_that_is_deleted_before_it_starts_never_held(shop: Shop):
    shop.add("sale", 500, start=5, end=6)
    shop.day = 1
    PRICES.delete(shop.store, CALL, ("sale",), etag="")
    assert shop.spans() == [("", 0, None, 1_000)]


def test_price_that_changes_while_it_holds_has_two_spans(shop: Shop):
    shop.add("sale", 500, start=1, end=6)
    shop.day = 3
    PRICES.update(shop.store, CALL, Price("sale", amount_minor=400), fields=["amount_minor"], etag="")
    assert shop.spans() == [("sale", 3, 6, 400), ("sale", 1, 3, 500), ("", 0, None, 1_000)]
    shop.day = 4
    PRICES.delete(shop.store, CALL, ("sale",), etag="")
    assert shop.spans()[0] == ("sale", 3, 4, 400)


def test_lowest_price_counts_what_held_in_the_days_before(shop: Shop):
    shop.day = 10
    shop.set_base(700)
    shop.day = 11
    shop.set_base(1_200)
    assert shop.lowest() == 700
    shop.day = 40.5
    assert shop.lowest() == 700
    shop.day = 41.5
    assert shop.lowest() == 1_200


def test_price_that_a_more_specific_one_hides_does_not_count(shop: Shop):
    shop.add("season", 1_500, start=0, end=10)
    shop.day = 5
    assert shop.lowest(days=3) == 1_500
    shop.day = 11
    assert shop.lowest(days=3) == 1_000


def test_prices_of_other_groups_and_of_quantities_do_not_count(shop: Shop):
    shop.add("gold", 300, customer_group="gold")
    shop.add("many", 100, minimum_quantity=10)
    shop.day = 1
    assert shop.lowest() == 1_000
    assert shop.lowest(group="gold") == 300
    assert shop.lowest(group="silver") == 1_000


def test_sku_without_a_price_has_no_lowest_one(shop: Shop):
    for sku, currency, error in (
        ("B", "EUR", PriceNotFound),
        ("A", "USD", PriceNotFound),
        ("A", "ABC", UnknownCurrency),
    ):
        with pytest.raises(error):
            find_lowest_price(shop.store, sku, currency, customer_group="", days=0, time_us=None)
    with pytest.raises(PriceNotFound):
        find_lowest_price(shop.store, "A", "EUR", customer_group="", days=1, time_us=START_US)


def test_page_of_the_history_is_one_of_its_sku(shop: Shop):
    assert [PastPrice("A", "EUR", "", START_US, None, 1_000)] == shop.store.snapshot(
        lambda tx: (
            make_listing("A", "EUR").page(tx, ListRequest(), tokens=PageTokens(Keyring.from_secret(SECRET))).items
        )
    )
