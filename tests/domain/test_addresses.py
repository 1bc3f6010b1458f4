"""The countries of addresses and areas: those of ISO 3166 and Kosovo. What is stored already stays usable."""

from __future__ import annotations

from collections.abc import Callable

import pycountry
import pytest

from storekeep.client import (
    Address,
    Customer,
    CustomerAddress,
    InvalidRequest,
    Location,
    PlaceOrderLine,
    Quote,
    Storekeep,
    TaxArea,
    TaxZone,
)
from storekeep.server.domain.addresses import REGION_CODES, check_region
from storekeep.server.domain.errors import InvalidField
from tests.support.shops import Shop, new_id

NOWHERE = Address(recipient="Ada", region_code="XX")


def test_codes_are_those_of_the_standard_and_kosovo() -> None:
    assert {country.alpha_2 for country in pycountry.countries} | {"XK"} == REGION_CODES


def test_stored_code_is_accepted() -> None:
    check_region("XX", field="address", known={"XX"})
    with pytest.raises(InvalidField):
        check_region("XX", field="address", known={"AA"})


def test_country_that_does_not_exist_is_refused_wherever_it_is_written(client: Storekeep, shop: Shop) -> None:
    sku, customer = shop.variant(stock=5).sku, shop.customer().name
    order = client.orders.place(customer=customer, lines=[(sku, 1)], currency_code="EUR")
    new_quote = Quote(customer=customer, lines=[PlaceOrderLine(sku=sku, quantity=1)], currency_code="EUR")
    order.shipping_address.CopyFrom(NOWHERE)
    quote = client.quotes.create(new_quote)
    quote.billing_address.CopyFrom(NOWHERE)
    new_quote.tax_address.CopyFrom(NOWHERE)
    sold = {"customer": customer, "lines": [(sku, 1)], "currency_code": "EUR"}
    places: dict[str, Callable[[], object]] = {
        "shipping_address": lambda: client.orders.place(**sold, shipping_address=NOWHERE),
        "billing_address": lambda: client.orders.place(**sold, billing_address=NOWHERE),
        "tax_address": lambda: client.orders.quote(**sold, tax_address=NOWHERE),
        "order.shipping_address": lambda: client.orders.update(order, update_mask=["shipping_address"]),
        "quote.tax_address": lambda: client.quotes.create(new_quote),
        "quote.billing_address": lambda: client.quotes.update(quote, update_mask=["billing_address"]),
        "customer.addresses[0].address": lambda: client.customers.create(
            Customer(display_name="Ada", addresses=[CustomerAddress(label="home", address=NOWHERE)])
        ),
        "location.address": lambda: client.inventory.create_location(
            Location(display_name="Nowhere", address=NOWHERE), location_id=new_id("x")
        ),
        "tax_zone.areas[1]": lambda: client.tax_zones.create(
            TaxZone(areas=[TaxArea(administrative_area=new_id("a")), TaxArea(region_code="QM")])
        ),
    }
    for field, write in places.items():
        with pytest.raises(InvalidRequest, match="is not a country of ISO 3166") as refused:
            write()
        assert [problem.field for problem in refused.value.fields] == [f"{field}.region_code"]


def test_kosovo_is_a_country(client: Storekeep) -> None:
    home = CustomerAddress(label="home", address=Address(recipient="Ada", region_code="XK"))
    assert client.customers.create(Customer(display_name="Ada", addresses=[home])).addresses[0] == home
