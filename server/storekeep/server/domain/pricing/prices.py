"""Prices of a SKU for a customer group, a quantity or a span of time, beside the prices of its variant."""

from __future__ import annotations

import msgspec

from storekeep.server.domain.catalog.price_history import PastPrice, end_price, start_price
from storekeep.server.domain.catalog.pricing_versions import raise_version
from storekeep.server.domain.errors import CurrencyMismatch, InvalidField, PriceNotFound, SkuNotFound
from storekeep.server.domain.money import Money
from storekeep.server.domain.pricing.windows import check_window
from storekeep.server.domain.standard.collections import Collection
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import pricing as store
from storekeep.server.store.tables.catalog import FIND_BY_SKU


class Price(msgspec.Struct, frozen=True):
    """A price; see `Price` in the contract."""

    id: str
    sku: str = ""
    currency_code: str = ""
    amount_minor: int = 0
    customer_group: str = ""
    minimum_quantity: int = 1
    start_time_us: int | None = None
    end_time_us: int | None = None
    compare_at_minor: int | None = None
    floor_minor: int | None = None
    version: int = 0
    create_time_us: int = 0
    update_time_us: int = 0
    delete_time_us: int | None = None

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"prices/{self.id}"

    @property
    def has_window(self) -> bool:
        """Return whether it holds for a span of time only."""
        return self.start_time_us is not None or self.end_time_us is not None


def check_amounts(amount: Money, *, compare_at: Money | None, floor: Money | None) -> None:
    """Check the amounts of a request.

    Raises: CurrencyMismatch.
    """
    for field, other in (("price.compare_at", compare_at), ("price.floor", floor)):
        if other is not None and other.currency_code != amount.currency_code:
            raise CurrencyMismatch(field, f"must be in {amount.currency_code}, as the amount")


def _check(tx: Transaction, new: Price, old: Price | None) -> None:
    """Check that a price differs from that of the variant by something, and that its values agree.

    Raises: InvalidField, CurrencyMismatch, SkuNotFound.
    """
    check_window(new.start_time_us, new.end_time_us, field="price.end_time")
    if not new.customer_group and new.minimum_quantity <= 1 and not new.has_window:
        raise InvalidField(
            "price",
            "needs a customer group, more than 1 unit, or a start or end time; without them, set the variant's price",
        )
    if new.compare_at_minor is not None and new.compare_at_minor < new.amount_minor:
        raise InvalidField("price.compare_at", "must not be below the amount")
    if new.floor_minor is not None and new.floor_minor > new.amount_minor:
        raise InvalidField("price.floor", "must not be above the amount")
    if old is None:
        if not new.sku:
            raise InvalidField("price.sku", "is required")
        if FIND_BY_SKU.one(tx, sku=new.sku) is None:
            raise SkuNotFound(new.sku)
    elif new.currency_code != old.currency_code:
        raise CurrencyMismatch("price.amount", f"must be in {old.currency_code}, as before")


def _store_parts(tx: Transaction, new: Price, old: Price | None) -> None:
    """Raise the version of pricing, and keep the history."""
    raise_version(tx)
    if new.delete_time_us is not None:
        end_price(tx, new.sku, new.currency_code, price_id=new.id)
        return
    start_price(
        tx,
        PastPrice(
            new.sku,
            new.currency_code,
            new.id,
            tx.now_us if new.start_time_us is None else new.start_time_us,
            new.end_time_us,
            new.amount_minor,
            new.customer_group,
            new.minimum_quantity,
            new.has_window,
        ),
    )


PRICES = Collection(
    Price,
    store.Price,
    key=("id",),
    pattern="prices/{}",
    event="price",
    not_found=PriceNotFound,
    check=_check,
    store_parts=_store_parts,
)
LISTING = Listing(
    method="ListPrices",
    query=lambda: store.Price.select(*PRICES.rows.fields),
    columns={
        "sku": Column(store.Price.sku, FilterField(Kind.TEXT), sortable=True),
        "currency_code": Column(store.Price.currency_code, FilterField(Kind.TEXT)),
        "customer_group": Column(store.Price.customer_group, FilterField(Kind.TEXT)),
        "minimum_quantity": Column(store.Price.minimum_quantity, FilterField(Kind.INTEGER), sortable=True),
        "start_time": Column(store.Price.start_time_us, FilterField(Kind.TIME)),
        "end_time": Column(store.Price.end_time_us, FilterField(Kind.TIME)),
        "create_time": Column(store.Price.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Price.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.Price.id,),
    read_rows=PRICES.read_rows,
    deleted=store.Price.delete_time_us,
)
