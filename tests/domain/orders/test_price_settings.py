"""The settings of prices, on servers that have them."""

from __future__ import annotations

from tests.conftest import MakeServer
from tests.domain.orders.test_order_promotions import list_problems, make_coupon, promote, quote
from tests.domain.orders.test_order_taxes import FRANCE, GERMANY, JAPAN, add_zone, show
from tests.support.buyers import open_shop, verify
from tests.support.order_cases import update
from tests.support.shops import money


def test_gross_prices_keep_the_net_abroad_and_coupons_stay_used(make_server: MakeServer):
    server = make_server(
        prices_include_tax="true",
        home_tax_zone="taxZones/de",
        tax_rounding="PER_UNIT",
        price_rounding="HALF_EVEN",
        shipping_tax_class="freight",
        coupon_uses_return="false",
    )
    with open_shop(server) as shop:
        add_zone(shop, "de", "DE", standard=190_000, freight=70_000)
        add_zone(shop, "fr", "FR", standard=200_000)
        sku = shop.variant(stock=9, prices={"EUR": "11.90"}).sku
        order = shop.order((sku, 2), shipping_address=GERMANY, shipping=money("1.07"))
        details = order.price_details
        assert (show(details.net_total), show(details.gross_total)) == ("21.00", "24.87")
        assert (details.prices_include_tax, show(details.shipping.tax_total)) == (True, "0.07")
        away, export, back = (
            shop.orders.UpdateOrder(update(order, "shipping_address", shipping_address=address))
            for address in (FRANCE, JAPAN, GERMANY)
        )
        assert [show(one.lines[0].gross_total) for one in (away, export, back)] == ["24.00", "20.00", "23.80"]
        assert back.price_details == details
        assert show(shop.order((sku, 1)).price_details.tax_total) == "1.90"
        code = make_coupon(shop, promote(shop, [sku], requires_coupon=True), max_uses=1)
        shop.cancel(shop.order((sku, 1), coupon_codes=[code]))
        assert list_problems(quote(shop, (sku, 1), coupon_codes=[code])) == ["USED_UP"]
    verify(server)


def test_gross_prices_can_stay_abroad(make_server: MakeServer):
    server = make_server(prices_include_tax="true", home_tax_zone="taxZones/de", kept_price="KEEP_GROSS")
    with open_shop(server) as shop:
        add_zone(shop, "de", "DE", standard=190_000)
        add_zone(shop, "fr", "FR", standard=200_000)
        order = shop.order(shipping_address=FRANCE)
        assert (show(order.total), show(order.price_details.tax_total)) == ("10.00", "1.67")
