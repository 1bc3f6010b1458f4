"""Orders, wired to the settings."""

from __future__ import annotations

from storekeep.server.config import Settings
from storekeep.server.domain.orders.numbers import OrderNumbers
from storekeep.server.domain.orders.placing import PlacingRules
from storekeep.server.domain.pricing.terms import Rules


def make_placing_rules(settings: Settings) -> PlacingRules:
    """Return the rules for new orders."""
    pricing = Rules(
        settings.price_rounding,
        settings.tax_rounding,
        prices_include_tax=settings.prices_include_tax,
        home_zone=settings.home_tax_zone,
        kept_price=settings.kept_price,
        shipping_tax_class=settings.shipping_tax_class,
        returns_uses=settings.coupon_uses_return,
    )
    return PlacingRules(OrderNumbers(settings.order_number_format), settings.unpaid_order_ttl_s, pricing)
