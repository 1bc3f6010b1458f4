"""`storekeep import prices` and `storekeep import coupons`.

A price without an id gets one from its SKU, currency, group, quantity and start, so that a repeated import changes
nothing. Resources are written in batches, and only if they differ; absent cells change nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.client import (
    Coupon,
    CreateCouponRequest,
    CreatePriceRequest,
    Money,
    NotFound,
    Price,
    Storekeep,
    UpdateCouponRequest,
    UpdatePriceRequest,
    WriteOptions,
    to_money,
)
from storekeep.client.names import to_coupon_name, to_price_name, to_promotion_name
from storekeep.imports.batches import write_batches
from storekeep.imports.columns import InvalidCell, Target, Values
from storekeep.imports.ids import parse_id
from storekeep.imports.lookups import build_filters
from storekeep.imports.sku_maps import SkuMap
from storekeep.imports.writes import Batched, Outcome, Write, run_writes

PRICE_TARGETS = (
    Target("sku", "SKU of a variant.", required=True),
    Target("price", "Price of one unit.", required=True),
    Target("currency", "Currency, such as EUR.", required=True),
    Target("id", "Id of the price (default: from the fields that tell prices apart)."),
    Target("group", "Customer group (default: all customers)."),
    Target("minimum_quantity", "Units of the SKU in an order from which it holds (default: 1)."),
    Target("start_time", "When it begins to apply."),
    Target("end_time", "When it ceases to apply."),
    Target("compare_at", "Price to show crossed out."),
    Target("floor", "Lowest price of a unit after discounts."),
)
COUPON_TARGETS = (
    Target("code", "The code: letters, digits and _.-", required=True),
    Target("promotion", "Id of the promotion that it makes apply.", required=True),
    Target("max_uses", "Maximum number of orders (default: no limit)."),
    Target("max_uses_per_customer", "Maximum number of orders of one customer (default: no limit)."),
    Target("start_time", "When it begins to apply."),
    Target("end_time", "When it ceases to apply."),
)
PRICE_FIELDS = ("amount", "customer_group", "minimum_quantity", "start_time", "end_time", "compare_at", "floor")
COUPON_FIELDS = ("max_uses", "max_uses_per_customer", "start_time", "end_time")
FIXED = {"price": "sku", "coupon": "promotion"}
"""Resource -> the field that cannot change."""
ID_CHARACTERS = 32


class _PricingImporter:
    """Creates and updates resources that are read from rows.

    Attributes:
        field: the resource's field in requests.
        key_field: the field by which existing resources are found; those that it misses are written one by one.
        fields: what an update may change.
    """

    field: str
    key_field: str
    fields: tuple[str, ...]

    def __init__(self, client: Storekeep, *, write_options: WriteOptions, skus: SkuMap) -> None:
        self._client = client
        self._dry_run = write_options.get("validate_only", False)
        self._skus = skus

    @property
    def _methods(self) -> Any:
        raise NotImplementedError

    def key(self, item: Any) -> str:
        """Return the key of an item, which must be unique in a file."""
        return str(item.name)

    def list_shared_cells(self, item: Any) -> tuple[str, Mapping[str, str]]:
        """Return the resource of an item, and the cells that all rows of the resource must share: none."""
        return self.key(item), {}

    def look_up(self, items: Sequence[Any]) -> Callable[[Any], Outcome]:
        """Look up the existing resources of a chunk and write it. Return the function that writes one left item."""
        existing = {
            found.name: found
            for filter_text in build_filters(self.key_field, [getattr(item, self.key_field) for item in items])
            for found in self._methods.list(filter=filter_text, page_size=1000, show_deleted=True)
        }
        done = write_batches(
            {self.key(item): item for item in items},
            plan=lambda item: self._plan(item, existing.get(item.name)),
            dry_run=self._dry_run,
        ).outcomes
        return lambda item: done.get(self.key(item)) or self._look_up_and_write(item)

    def _look_up_and_write(self, item: Any) -> Outcome:
        """Create a resource, or update it if it differs.

        Raises: InvalidCell, Refused.
        """
        try:
            existing = self._methods.get(item.name)
        except NotFound:
            existing = None
        return run_writes(self._plan(item, existing), dry_run=self._dry_run)

    def _plan(self, item: Any, existing: Any | None) -> list[Write]:
        """Return the call that creates or updates a resource; none if it has all values of the file.

        Raises: InvalidCell.
        """
        if existing is None:
            ids = {f"{self.field}_id": self._get_new_id(item)}
            create = partial(self._methods.create, item, **ids)
            return [Write(lambda options: create(**options), Outcome.CREATED, batched=self._batch_creation(item))]
        if existing.HasField("delete_time"):
            raise InvalidCell(f"{existing.name} is deleted; undelete it first")
        fixed = FIXED[self.field]
        if getattr(existing, fixed) != getattr(item, fixed):
            raise InvalidCell(f"{fixed}: {existing.name} has {getattr(existing, fixed)}, which cannot change")
        present = {descriptor.name for descriptor, _ in item.ListFields()}
        changed = [name for name in self.fields if name in present and getattr(existing, name) != getattr(item, name)]
        if not changed:
            return []
        update = partial(self._methods.update, item, update_mask=changed)
        return [Write(lambda options: update(**options), Outcome.UPDATED, batched=self._batch_update(item, changed))]

    def _batch_creation(self, item: Any) -> Batched:
        """Return the creation as an item of a batch."""
        raise NotImplementedError

    def _batch_update(self, item: Any, mask: Sequence[str]) -> Batched:
        """Return the update as an item of a batch."""
        raise NotImplementedError

    def _get_new_id(self, item: Any) -> str:
        return self.key(item).partition("/")[2]


class PriceImporter(_PricingImporter):
    """Creates and updates prices from rows."""

    field, key_field, fields = "price", "sku", PRICE_FIELDS

    @property
    def _methods(self) -> Any:
        return self._client.prices

    def parse(self, values: Values) -> Price:
        """Parse a row. Raises: InvalidCell."""
        currency_code = values.require("currency").upper()
        price = Price(
            sku=self._skus.find_or_make(values.require("sku")),
            amount=_require_money(values, "price", currency_code),
            customer_group=values.text("group") or "",
            minimum_quantity=values.integer("minimum_quantity") or 1,
            start_time=_read_time(values, "start_time"),
            end_time=_read_time(values, "end_time"),
            compare_at=_read_money(values, "compare_at", currency_code),
            floor=_read_money(values, "floor", currency_code),
        )
        price_id = values.text("id")
        price.name = to_price_name(parse_id(price_id, target="id") if price_id else _derive_id(price))
        return price

    def _batch_creation(self, item: Price) -> Batched:
        request = CreatePriceRequest(price=item, price_id=self._get_new_id(item))
        return Batched(self._methods.batch_create, item.name, request)

    def _batch_update(self, item: Price, mask: Sequence[str]) -> Batched:
        request = UpdatePriceRequest(price=item, update_mask=FieldMask(paths=mask))
        return Batched(self._methods.batch_update, item.name, request)


class CouponImporter(_PricingImporter):
    """Creates and updates coupons from rows."""

    field, key_field, fields = "coupon", "code", COUPON_FIELDS

    @property
    def _methods(self) -> Any:
        return self._client.coupons

    def parse(self, values: Values) -> Coupon:
        """Parse a row. Raises: InvalidCell."""
        code = parse_id(values.require("code"), target="code")
        return Coupon(
            name=to_coupon_name(code.lower()),
            code=code,
            promotion=to_promotion_name(parse_id(values.require("promotion"), target="promotion")),
            max_uses=values.integer("max_uses") or 0,
            max_uses_per_customer=values.integer("max_uses_per_customer") or 0,
            start_time=_read_time(values, "start_time"),
            end_time=_read_time(values, "end_time"),
        )

    def _get_new_id(self, item: Any) -> str:
        return str(item.code)

    def _batch_creation(self, item: Coupon) -> Batched:
        request = CreateCouponRequest(coupon=item, coupon_id=self._get_new_id(item))
        return Batched(self._methods.batch_create, item.name, request)

    def _batch_update(self, item: Coupon, mask: Sequence[str]) -> Batched:
        request = UpdateCouponRequest(coupon=item, update_mask=FieldMask(paths=mask))
        return Batched(self._methods.batch_update, item.name, request)


def _derive_id(price: Price) -> str:
    """Return the id of a price, which is the same for all rows that are about the same price."""
    parts = (price.sku, price.amount.currency_code, price.customer_group, price.minimum_quantity, price.start_time)
    return hashlib.sha256(repr([str(part) for part in parts]).encode()).hexdigest()[:ID_CHARACTERS]


def _require_money(values: Values, target: str, currency_code: str) -> Money:
    values.require(target)
    money = _read_money(values, target, currency_code)
    if money is None:
        raise InvalidCell(f"{target} is missing")
    return money


def _read_money(values: Values, target: str, currency_code: str) -> Money | None:
    """Return an amount; None if it is absent.

    Raises: InvalidCell.
    """
    amount = values.amount(target, currency=currency_code)
    try:
        return None if amount is None else to_money(amount, currency_code=currency_code)
    except ValueError as error:
        raise InvalidCell(f"{target}: {error}") from None


def _read_time(values: Values, target: str) -> Timestamp | None:
    """Return a time; None if it is absent.

    Raises: InvalidCell.
    """
    time_us = values.time_us(target)
    if time_us is None:
        return None
    time = Timestamp()
    time.FromMicroseconds(time_us)
    return time
