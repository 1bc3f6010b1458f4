"""Orders that are cancelled unit by unit: after each step, they cost what the second implementation says.

So the amounts that a shop refunds step by step add up to the whole to the cent, whichever unit goes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from storekeep.server.domain.pricing.baskets import Basket, BasketLine
from storekeep.server.domain.pricing.terms import (
    Action,
    Conditions,
    Item,
    Promotion,
    Selection,
    TaxComponent,
    TaxRate,
    TaxZone,
    Terms,
    UnitPrice,
)
from storekeep.v1 import addresses_pb2, orders_pb2, pricing_pb2
from tests.domain.orders.test_order_promotions import promote
from tests.support.buyers import verify
from tests.support.pricing_model import Model, ModelLine
from tests.support.processes import ServerProcess
from tests.support.shops import Shop, get_amount, money

pytestmark = pytest.mark.engine("sqlite", reason="the calculation does not depend on the engine")

QUEBEC = addresses_pb2.Address(recipient="Ada", region_code="CA", administrative_area="QC")
ZONE = "taxZones/qc"
RATES = {"": ((50_000, False), (99_750, True)), "reduced": ((70_000, False),)}
"""Tax class -> the parts per million of each component, and whether it is compound."""
PRICES = {"A": 1999, "B": 333, "C": 7}
CLASSES = {"A": "", "B": "reduced", "C": ""}
SHIPPING = 499
BASKETS = [(3, 4, 5), (1, 1, 1), (5, 2, 40)]


@pytest.fixture(scope="module", autouse=True)
def tax(shop: Shop, server: ServerProcess) -> Iterator[None]:
    """A zone with a compound component and a reduced class."""
    areas = [pricing_pb2.TaxArea(region_code="CA", administrative_area="QC")]
    zone = pricing_pb2.TaxZone(areas=areas)
    shop.pricing.CreateTaxZone(pricing_pb2.CreateTaxZoneRequest(tax_zone=zone, tax_zone_id="qc"))
    for tax_class, parts in RATES.items():
        components = [
            pricing_pb2.TaxComponent(display_name=f"tax {ppm}", rate_ppm=ppm, compound=compound)
            for ppm, compound in parts
        ]
        rate = pricing_pb2.TaxRate(tax_zone=ZONE, tax_class=tax_class, components=components)
        shop.pricing.CreateTaxRate(pricing_pb2.CreateTaxRateRequest(tax_rate=rate))
    yield
    verify(server)


@pytest.fixture(scope="module")
def terms(shop: Shop, tax: None) -> Terms:
    """Create variants and promotions, and return their terms for the second implementation."""
    skus = {
        name: shop.variant(
            stock=10_000, prices={"EUR": f"{price // 100}.{price % 100:02}"}, tax_class=CLASSES[name]
        ).sku
        for name, price in PRICES.items()
    }
    every, pair = list(skus.values()), [skus["A"], skus["B"]]
    percentage = {"kind": "PROMOTION_ACTION_KIND_PERCENTAGE"}
    amount = {"kind": "PROMOTION_ACTION_KIND_AMOUNT", "target": "PROMOTION_TARGET_ORDER"}
    promotions = (
        Promotion(
            promote(shop, pair, action=percentage | {"percentage_ppm": 125_000}, priority=9),
            Action("PERCENTAGE", 125_000, items=Selection(skus=frozenset(pair))),
            priority=9,
        ),
        Promotion(
            promote(
                shop,
                every,
                action=amount | {"amount": money("10")},
                priority=5,
                currency_code="EUR",
                conditions={"min_subtotal": money("30")},
            ),
            Action("AMOUNT", 1000, "ORDER", items=Selection(skus=frozenset(every))),
            conditions=Conditions(subtotal_min_minor=3000),
            priority=5,
            currency_code="EUR",
        ),
        Promotion(
            promote(shop, [skus["C"]], action=percentage | {"percentage_ppm": 333_333, "max_units": 2}, priority=1),
            Action("PERCENTAGE", 333_333, items=Selection(skus=frozenset([skus["C"]])), units_max=2),
            priority=1,
        ),
    )
    rates = {
        (ZONE, tax_class): (
            TaxRate(
                f"taxRates/{tax_class}",
                ZONE,
                tuple(TaxComponent("", ppm, compound) for ppm, compound in parts),
                tax_class=tax_class,
            ),
        )
        for tax_class, parts in RATES.items()
    }
    return Terms(
        zone=TaxZone(ZONE, ()),
        rates=rates,
        promotions=promotions,
        prices={skus[name]: (UnitPrice(skus[name], "EUR", price),) for name, price in PRICES.items()},
        items={skus[name]: Item(skus[name], tax_class=tax_class) for name, tax_class in CLASSES.items()},
    )


def minor(amount: object) -> int:
    """Return an amount in cents."""
    return int(get_amount(amount) * 100)  # type: ignore[arg-type]


def describe_model(terms: Terms, left: dict[str, int]) -> list[object]:
    """Return the discount, the components of the tax and the totals of what is left by the second implementation."""
    lines = tuple(BasketLine(sku, units) for sku, units in left.items() if units)
    if not lines:
        return [0]
    priced = Model(Basket(lines, "EUR", 1, shipping_minor=SHIPPING), terms).price()
    assert priced.shipping is not None
    described: list[object] = [priced.gross, describe_line(priced.shipping)[1:]]
    return described + [describe_line(line) for line in priced.lines]


def describe_line(line: ModelLine) -> tuple[object, ...]:
    """Return discount, net amount and the components of the tax."""
    return sum(line.discounts.values()), line.left, line.taxes


def describe_order(order: orders_pb2.Order) -> list[object]:
    """Return the same of an order."""
    lines = [line for line in order.lines if line.quantity > line.cancelled_quantity]
    if not lines:
        return [minor(order.total)]
    shipping = order.price_details.shipping
    return [
        minor(order.total),
        (minor(shipping.net_total), [minor(tax.amount) for tax in shipping.taxes]),
        *((minor(line.discount), minor(line.net_total), [minor(tax.amount) for tax in line.taxes]) for line in lines),
    ]


def cancel_unit(shop: Shop, order: orders_pb2.Order, line_number: int) -> orders_pb2.Order:
    """Cancel one unit of a line."""
    units = [orders_pb2.OrderLineUnits(line_number=line_number, quantity=1)]
    return shop.orders.CancelOrderLines(orders_pb2.CancelOrderLinesRequest(name=order.name, lines=units))


@pytest.mark.parametrize("quantities", BASKETS, ids=str)
def test_cancelling_unit_by_unit_refunds_what_the_order_cost(shop: Shop, terms: Terms, quantities: tuple[int, ...]):
    skus = list(terms.items)
    left = dict(zip(skus, quantities, strict=True))
    order = shop.order(*left.items(), shipping_address=QUEBEC, shipping=money("4.99"))
    paid, refunded = minor(order.total), 0
    assert describe_order(order) == describe_model(terms, left)
    places = [place for place, units in enumerate(quantities, start=1) for _ in range(min(units, 6))]
    Random(sum(quantities)).shuffle(places)
    for place in places:
        before = minor(order.total)
        order = cancel_unit(shop, order, place)
        left[skus[place - 1]] -= 1
        refunded += before - minor(order.total)
        assert describe_order(order) == describe_model(terms, left), left
    assert minor(order.total) == paid - refunded
    if not any(left.values()):
        assert (refunded, minor(order.total), order.state) == (paid, 0, orders_pb2.ORDER_STATE_CANCELLED)


def test_order_of_cancellations_does_not_change_what_is_left(shop: Shop, terms: Terms):
    lines = tuple(zip(terms.items, (3, 3, 3), strict=True))
    ends = []
    for places in ((1, 1, 2, 3), (3, 2, 1, 1), (2, 1, 3, 1)):
        order = shop.order(*lines, shipping_address=QUEBEC, shipping=money("4.99"))
        for place in places:
            order = cancel_unit(shop, order, place)
        ends.append(describe_order(order))
    assert ends[0] == ends[1] == ends[2]


def test_cancelled_line_beside_shipped_ones_costs_what_is_left(shop: Shop, terms: Terms):
    left = dict(zip(terms.items, (2, 3, 4), strict=True))
    order = shop.confirm(shop.order(*left.items(), shipping_address=QUEBEC, shipping=money("4.99")))
    shop.ship(shop.fulfill(order, (1, 2)))
    for place, sku in ((2, 1), (3, 2), (3, 2), (2, 1)):
        order = cancel_unit(shop, order, place)
        left[list(left)[sku]] -= 1
        assert describe_order(order) == describe_model(terms, left)
