"""Requests and replies as Pydantic models, with the constraints of Storekeep's contract."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, computed_field

ResourceId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]


class ProductOut(BaseModel):
    """A product."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    display_name: str
    description: str
    category: str
    state: str
    labels: dict[str, Any]
    create_time_us: int
    update_time_us: int
    version: Annotated[int, Field(exclude=True)]

    @computed_field  # type: ignore[prop-decorator]  # as in Pydantic's documentation
    @property
    def etag(self) -> str:
        """Changes whenever the product changes."""
        return f"v{self.version}"


class OrderLineIn(BaseModel):
    """A quantity of one SKU to order."""

    sku: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}$")]
    quantity: Annotated[int, Field(ge=1, le=1_000_000)]


class OrderIn(BaseModel):
    """The request to place an order."""

    customer_id: ResourceId
    currency_code: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    lines: Annotated[list[OrderLineIn], Field(min_length=1, max_length=500)]
    request_id: UUID


class OrderLineOut(BaseModel):
    """One line of an order, priced."""

    line_number: int
    sku: str
    display_name: str
    quantity: int
    unit_price_minor: int
    subtotal_minor: int


class OrderOut(BaseModel):
    """An order."""

    id: str
    customer_id: str
    state: str
    currency_code: str
    total_minor: int
    lines: list[OrderLineOut]
    create_time_us: int
    update_time_us: int
    etag: str
