"""The snapshot of pricing: what orders of all customers share, kept in memory until it changes.

Invariant: a transaction gets the state of its own version: `read_snapshot` reads the version in the transaction, and
everything else only if this process does not have that version yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.catalog.categories import find_descendants
from storekeep.server.domain.catalog.pricing_versions import read_version
from storekeep.server.domain.pricing import terms
from storekeep.server.domain.pricing.counts import find_coupons, read_counts
from storekeep.server.domain.pricing.promotion_index import ApplicablePromotions, PromotionIndex, index_promotions
from storekeep.server.domain.pricing.promotions import PROMOTIONS, Promotion
from storekeep.server.domain.pricing.shipping_methods import SHIPPING_METHODS
from storekeep.server.domain.pricing.tax_rates import TAX_RATES
from storekeep.server.domain.pricing.tax_zones import TAX_ZONES
from storekeep.server.domain.standard.collections import ACTIVE, Collection
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import pricing as store

Prices = Mapping[str, tuple[terms.UnitPrice, ...]]
"""By SKU, beside those of variants."""
VERSIONS_MAX = 8
"""The most snapshots in memory. More than one is used only while changes are under way."""


class Snapshot(msgspec.Struct, frozen=True):
    """All of pricing at one version that does not depend on a basket.

    Attributes:
        zones: by name.
        rates: by (zone, tax class), those with the latest start first.
        promotions: the active ones.
        shipping_methods: by name.
        has_prices: whether there are prices beside those of variants.
        tax_tables: see `Terms`. They end with the snapshot, as do sheets and lines.
        sheets, line_cache: see `price_sheets`; by zone, currency and promotions, and by sheet, SKU and units.
    """

    version: int = 0
    zones: tuple[terms.TaxZone, ...] = ()
    rates: Mapping[tuple[str, str], tuple[terms.TaxRate, ...]] = {}
    promotions: PromotionIndex = PromotionIndex()
    shipping_methods: Mapping[str, terms.ShippingMethod] = {}
    has_prices: bool = False
    tax_tables: dict[tuple[str, bool], Any] = {}
    sheets: dict[tuple[str, str, ApplicablePromotions], Any] = {}
    line_cache: dict[tuple[Any, str, int], Any] = {}


NOTHING = Snapshot()
"""The snapshot of a database in which nothing was ever configured."""
ANYBODY = terms.Customer()
_snapshots: dict[int, Snapshot] = {}
"""By version: a version names one content only; see `pricing_versions`."""


def read_snapshot(tx: Transaction, *, version: int | None = None) -> Snapshot:
    """Return the snapshot that the transaction sees. It costs one row unless something has changed.

    Args:
        version: the version, if another statement of the transaction has read it.
    """
    if version is None:
        version = read_version(tx)
    if version == 0:
        return NOTHING
    snapshot = _snapshots.get(version)
    if snapshot is None:
        snapshot = _load(tx, version)
        _cache(snapshot)
    return snapshot


def _cache(snapshot: Snapshot) -> None:
    """Keep a snapshot instead of the oldest one, and empty the sheets and line caches of the others.

    Safe in several threads: each step is atomic.
    """
    for version in list(_snapshots)[: -(VERSIONS_MAX - 1)]:
        _snapshots.pop(version, None)
    for earlier in list(_snapshots.values()):
        earlier.sheets.clear()
        earlier.line_cache.clear()
    _snapshots[snapshot.version] = snapshot


def _load(tx: Transaction, version: int) -> Snapshot:
    zones = (
        terms.TaxZone(zone.name, areas=zone.areas, display_name=zone.display_name) for zone in _read_all(tx, TAX_ZONES)
    )
    active: list[Promotion] = [one for one in _read_all(tx, PROMOTIONS) if one.state == ACTIVE]
    descendants = find_descendants(tx, {category_id for one in active for category_id in one.list_categories()})
    return Snapshot(
        version,
        zones=tuple(sorted(zones, key=lambda zone: zone.name)),
        rates=_load_rates(tx),
        promotions=index_promotions(one.build_terms(descendants) for one in active),
        shipping_methods={method.name: method.build_terms() for method in _read_all(tx, SHIPPING_METHODS)},
        has_prices=store.ANY_PRICE.one(tx) is not None,
    )


def _load_rates(tx: Transaction) -> dict[tuple[str, str], tuple[terms.TaxRate, ...]]:
    rates: dict[tuple[str, str], list[terms.TaxRate]] = {}
    for rate in _read_all(tx, TAX_RATES):
        converted = terms.TaxRate(
            rate.name,
            zone=f"taxZones/{rate.zone_id}",
            components=rate.components,
            tax_class=rate.tax_class,
            window=terms.make_window(rate.start_time_us, rate.end_time_us),
        )
        rates.setdefault((converted.zone, converted.tax_class), []).append(converted)
    return {key: tuple(sorted(found, key=_order_rate)) for key, found in rates.items()}


def _order_rate(rate: terms.TaxRate) -> tuple[float, str]:
    """Return the sort key of a rate: the latest start first, one without a start last, then by name."""
    start_us = rate.window.from_time_us
    return (float("inf") if start_us is None else -start_us), rate.name


def _read_all(tx: Transaction, collection: Collection[Any]) -> list[Any]:
    """Return all resources of a collection that are not deleted."""
    table = collection.rows.table
    query = table.select(*collection.rows.fields).where(table.delete_time_us.is_null())  # type: ignore[attr-defined]
    return collection.read_rows(tx, tx.run(query).fetchall())


def read_prices(tx: Transaction, snapshot: Snapshot, skus: Iterable[str], *, currency_code: str) -> Prices:
    """Return the prices that hold now. Without any, it costs nothing."""
    if not snapshot.has_prices:
        return {}
    prices: dict[str, list[terms.UnitPrice]] = {}
    requested = msgspec.json.encode(list(skus)).decode()
    for row in store.PRICES_OF.all(tx, skus=requested, currency_code=currency_code, now_us=tx.now_us):
        price_id, sku, currency, amount_minor, group, minimum_quantity, start_us, end_us, compare_at, floor = row
        price = terms.UnitPrice(
            sku,
            currency,
            amount_minor,
            name=f"prices/{price_id}",
            group=group,
            minimum_quantity=minimum_quantity,
            window=terms.make_window(start_us, end_us),
            floor_minor=floor or 0,
            compare_at_minor=compare_at,
        )
        prices.setdefault(sku, []).append(price)
    return {sku: tuple(found) for sku, found in prices.items()}


def _add_draft(
    tx: Transaction, promotions: tuple[terms.Promotion, ...], draft: Promotion, *, currency_code: str
) -> tuple[terms.Promotion, ...]:
    """Return the promotions with one more, whose window, uses and coupon do not matter."""
    others = [one for one in promotions if one.name != draft.name]
    if draft.currency_code in ("", currency_code):
        descendants = find_descendants(tx, draft.list_categories())
        tried = draft.build_terms(descendants)
        others.append(msgspec.structs.replace(tried, window=terms.ALWAYS, requires_coupon=False, uses_max=None))
    return tuple(sorted(others, key=lambda one: (-one.priority, one.name)))


def choose_zone(snapshot: Snapshot, address: Address | None, rules: terms.Rules) -> terms.TaxZone | None:
    """Return the tax zone of an address; without an address, the home zone."""
    if address is not None:
        return terms.find_zone(snapshot.zones, address)
    for zone in snapshot.zones if rules.home_zone else ():
        if zone.name == rules.home_zone:
            return zone
    return None


def read_terms(
    tx: Transaction,
    *,
    rules: terms.Rules,
    items: Mapping[str, terms.Item],
    currency_code: str,
    address: Address | None = None,
    customer: terms.Customer = ANYBODY,
    customer_id: str = "",
    codes: Sequence[str] = (),
    prices: Prices,
    version: int | None = None,
    draft: Promotion | None = None,
) -> terms.Terms:
    """Return the terms of a basket.

    It reads one row, and more only for codes and promotions with a budget.

    Args:
        prices: all prices of its items.
        version: the version, if another statement of the transaction has read it.
        items: the items of the basket by SKU.
        address: the tax address; None for the home zone.
        customer_id: the customer, whose uses of coupons count; empty for none.
        codes: coupon codes as the customer wrote them.
        draft: a promotion that applies as if it were active, in place of the stored one with its name.
    """
    snapshot = read_snapshot(tx, version=version)
    coupons = find_coupons(tx, codes, customer_id=customer_id) if codes and snapshot.version else {}
    applicable = snapshot.promotions.select(
        items.values(),
        groups=customer.groups,
        coupon_promotions=[coupon.promotion for coupon in coupons.values()],
        currency_code=currency_code,
        now_us=tx.now_us,
    )
    promotions, separable = applicable.promotions, applicable.separable
    if draft is not None:
        promotions = _add_draft(tx, promotions, draft, currency_code=currency_code)
        separable = None
    limited = []
    if separable is None:
        limited = [one.name for one in promotions if one.uses_max is not None or one.budget_minor is not None]
    return terms.Terms(
        version=snapshot.version,
        rules=rules,
        zone=choose_zone(snapshot, address, rules),
        rates=snapshot.rates,
        promotions=promotions,
        prices=prices,
        items=items,
        coupons=coupons,
        usages=read_counts(tx, limited) if limited else {},
        shipping_methods=snapshot.shipping_methods,
        tax_tables=snapshot.tax_tables,
        separable=separable,
    )
