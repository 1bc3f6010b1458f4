"""The settings of orders: their numbers, and how long they wait for a confirmation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from storekeep.server.runtime.settings_problems import ORDER_NUMBERS


class OrderSettings(BaseSettings):
    """The part of the settings that orders use."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    order_number_format: str = Field(
        default="SK-{sequence:08d}",
        pattern=ORDER_NUMBERS,
    )
    """Format of new order numbers. `{sequence}` is the order's sequence in the ledger; `{sequence:08d}` pads it with
    zeros to eight digits. Numbers jump, because all changes count in the ledger. Change
    it only to a format that cannot repeat an earlier number."""
    unpaid_order_ttl_s: Annotated[int, Field(ge=0, le=86_400 * 365)] = 86_400
    """Expire an order that stays PLACED for this many seconds and release its stock. The default of one day leaves time
    for a bank transfer. 0: orders never expire."""
