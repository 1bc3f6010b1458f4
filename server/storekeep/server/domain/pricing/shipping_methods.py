"""Shipping methods: their zones and their prices, all in one currency."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from storekeep.server.domain.catalog.pricing_versions import raise_version
from storekeep.server.domain.errors import InvalidField, ShippingMethodNotFound
from storekeep.server.domain.money import Money
from storekeep.server.domain.pricing import terms
from storekeep.server.domain.pricing.amounts import check_ascending, check_currency
from storekeep.server.domain.pricing.tax_zones import require_zone
from storekeep.server.domain.standard.collections import Collection
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import pricing as store


class ShippingPrice(msgspec.Struct, frozen=True, omit_defaults=True):
    """A price from a weight or a subtotal on; see `ShippingPrice` in the contract."""

    amount: Money
    weight_min_g: int = 0
    subtotal_min: Money | None = None

    @property
    def minimum(self) -> int:
        """Return the weight in grams or the subtotal in minor units from which it holds."""
        return self.weight_min_g if self.subtotal_min is None else self.subtotal_min.amount_minor


class ShippingMethod(msgspec.Struct, frozen=True):
    """A shipping method; see `ShippingMethod` in the contract."""

    id: str
    display_name: str = ""
    zone_ids: tuple[str, ...] = ()
    basis: str = terms.FLAT
    prices: tuple[ShippingPrice, ...] = ()
    free_from: Money | None = None
    tax_class: str = ""
    version: int = 0
    create_time_us: int = 0
    update_time_us: int = 0
    delete_time_us: int | None = None

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"shippingMethods/{self.id}"

    def build_terms(self) -> terms.ShippingMethod:
        """Return what the calculation reads."""
        return terms.ShippingMethod(
            self.name,
            self.prices[0].amount.currency_code,
            tuple(terms.ShippingPrice(price.amount.amount_minor, price.minimum) for price in self.prices),
            display_name=self.display_name,
            zones=frozenset(f"taxZones/{zone_id}" for zone_id in self.zone_ids),
            basis=self.basis,
            free_from_minor=None if self.free_from is None else self.free_from.amount_minor,
            tax_class=self.tax_class,
        )


def _list_amounts(method: ShippingMethod) -> Iterator[tuple[str, Money | None]]:
    """Yield the request field and the value of each amount."""
    for index, price in enumerate(method.prices):
        yield f"shipping_method.prices[{index}].amount", price.amount
        yield f"shipping_method.prices[{index}].min_subtotal", price.subtotal_min
    yield "shipping_method.free_from", method.free_from


def _check(tx: Transaction, new: ShippingMethod, old: ShippingMethod | None) -> None:
    """Check that the prices agree with each other, and that new zones exist.

    Raises: InvalidField, CurrencyMismatch, TaxZoneNotFound.
    """
    field = "shipping_method.prices"
    check_currency(_list_amounts(new), currency_code=new.prices[0].amount.currency_code)
    for index, price in enumerate(new.prices):
        if price.weight_min_g and new.basis != terms.BY_WEIGHT:
            raise InvalidField(f"{field}[{index}].min_weight_g", "only for BY_WEIGHT")
        if price.subtotal_min is not None and new.basis != terms.BY_SUBTOTAL:
            raise InvalidField(f"{field}[{index}].min_subtotal", "only for BY_SUBTOTAL")
    if new.prices[0].minimum:
        raise InvalidField(f"{field}[0]", "must begin with the minimum 0")
    check_ascending(((price.minimum,) for price in new.prices), field=field)
    for zone_id in new.zone_ids:
        if old is None or zone_id not in old.zone_ids:
            require_zone(tx, zone_id)


SHIPPING_METHODS = Collection(
    ShippingMethod,
    store.ShippingMethod,
    key=("id",),
    pattern="shippingMethods/{}",
    event="shipping_method",
    not_found=ShippingMethodNotFound,
    check=_check,
    store_parts=lambda tx, new, old: raise_version(tx),
)
BASES = terms.SHIPPING_BASES
LISTING = Listing(
    method="ListShippingMethods",
    query=lambda: store.ShippingMethod.select(*SHIPPING_METHODS.rows.fields),
    columns={
        "display_name": Column(store.ShippingMethod.display_name, FilterField(Kind.TEXT), sortable=True),
        "basis": Column(store.ShippingMethod.basis, FilterField(Kind.STATE, choices=BASES, prefix="SHIPPING_BASIS_")),
        "tax_class": Column(store.ShippingMethod.tax_class, FilterField(Kind.TEXT)),
        "create_time": Column(store.ShippingMethod.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.ShippingMethod.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.ShippingMethod.id,),
    read_rows=SHIPPING_METHODS.read_rows,
    deleted=store.ShippingMethod.delete_time_us,
)
