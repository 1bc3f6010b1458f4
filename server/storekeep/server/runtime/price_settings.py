"""The settings of prices: rounding, and which tax prices include."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class PriceSettings(BaseSettings):
    """The part of the settings that the calculation of prices uses."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    price_rounding: Literal["HALF_UP", "HALF_EVEN"] = "HALF_UP"
    """Rounding of taxes and percentages to the minor unit: half up (away from zero), or half to the even neighbour."""
    tax_rounding: Literal["PER_LINE", "PER_UNIT"] = "PER_LINE"
    """Round the tax of each line, or the tax of each unit. The tax of an order is the sum."""
    prices_include_tax: bool = False
    """Whether prices include the tax of the home zone. Orders keep the value with which they were placed."""
    home_tax_zone: str = Field(default="", pattern=r"^(taxZones/[A-Za-z0-9][A-Za-z0-9_.-]{0,62})?$")
    """The tax zone, as `taxZones/{tax_zone}`, whose tax the prices include. It is also the zone of orders without an
    address. Default: prices include the tax of each order's own zone."""
    kept_price: Literal["KEEP_NET", "KEEP_GROSS"] = "KEEP_NET"
    """The price that stays the same for an address outside the home zone, if prices include tax: the price without tax,
    or the price with tax."""
    shipping_tax_class: str = Field(default="", pattern=r"^[A-Za-z0-9_.-]{0,63}$")
    """The tax class of shipping without one of its own."""
    coupon_uses_return: bool = True
    """Whether an order that is cancelled or expires gives back its uses of coupons and of the budgets of promotions."""
