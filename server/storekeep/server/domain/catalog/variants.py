"""Variants: the sellable units of a product, each with a unique SKU and at most one price per currency.

A variant with stock cannot be deleted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from storekeep.server.domain.catalog.documents import index_product
from storekeep.server.domain.catalog.price_history import replace_base_prices
from storekeep.server.domain.catalog.products import PRODUCTS
from storekeep.server.domain.catalog.quantity_rules import QuantityRules
from storekeep.server.domain.catalog.translations import LocalizedVariant
from storekeep.server.domain.errors import (
    CurrencyMismatch,
    InvalidField,
    ResourceInUse,
    SkuTaken,
    VariantNotFound,
)
from storekeep.server.domain.money import Money
from storekeep.server.domain.standard.collections import ACTIVE, LIFECYCLE_STATES, Collection, Key
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing, ListRequest
from storekeep.server.domain.standard.pages import Page, PageTokens
from storekeep.server.domain.standard.resources import check_not_deleted
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import catalog as store
from storekeep.server.store.tables import stock as inventory_store


class Variant(msgspec.Struct, frozen=True):
    """A sellable unit; see `Variant` in the contract. Its prices are sorted by currency."""

    product_id: str
    id: str
    sku: str
    display_name: str = ""
    options: dict[str, str] = {}
    tax_class: str = ""
    weight_g: int | None = None
    barcode: str = ""
    state: str = ACTIVE
    version: int = 0
    create_time_us: int = 0
    update_time_us: int = 0
    delete_time_us: int | None = None
    labels: dict[str, str] = {}
    quantity_rules: QuantityRules | None = None
    translations: dict[str, LocalizedVariant] = {}
    prices: tuple[Money, ...] = ()

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"products/{self.product_id}/variants/{self.id}"


def _check_variant(tx: Transaction, new: Variant, old: Variant | None) -> None:
    currencies = [price.currency_code for price in new.prices]
    for index, code in enumerate(currencies):
        if code in currencies[:index]:
            raise CurrencyMismatch(f"variant.prices[{index}]", f"a second price in {code}")
    if new.quantity_rules is not None:
        new.quantity_rules.check(field="variant.quantity_rules")
    if old is not None:
        return
    check_not_deleted(PRODUCTS.find(tx, (new.product_id,)))
    if not new.sku:
        raise InvalidField("variant.sku", "a variant needs a SKU")
    other = store.FIND_BY_SKU.one(tx, sku=new.sku)
    if other is not None:
        raise SkuTaken(new.sku, variant="products/{}/variants/{}".format(*other))


def _attach_prices(tx: Transaction, variants: list[Variant]) -> list[Variant]:
    prices: dict[str, list[Money]] = defaultdict(list)
    skus = msgspec.json.encode([variant.sku for variant in variants]).decode()
    for sku, currency_code, amount_minor in store.PRICES_BY_SKU.all(tx, skus=skus):
        prices[sku].append(Money(currency_code, amount_minor))
    return [msgspec.structs.replace(variant, prices=tuple(prices[variant.sku])) for variant in variants]


def _store_parts(tx: Transaction, new: Variant, old: Variant | None) -> None:
    if old is None or _list_texts(old) != _list_texts(new):
        index_product(tx, new.product_id)
    _store_prices(tx, new, old)


def _list_texts(variant: Variant) -> tuple[object, ...]:
    """Return what the search document of the product has of a variant."""
    return variant.display_name, variant.barcode, variant.delete_time_us is None, variant.translations


def _store_prices(tx: Transaction, new: Variant, old: Variant | None) -> None:
    if old is not None:
        if old.prices == new.prices:
            return
        store.DELETE_PRICES.run(tx, sku=new.sku)
    replace_base_prices(tx, new.sku, old=() if old is None else old.prices, new=new.prices)
    for price in new.prices:
        store.INSERT_PRICE.run(tx, sku=new.sku, currency_code=price.currency_code, amount_minor=price.amount_minor)


def _check_unused(tx: Transaction, variant: Variant) -> None:
    level = inventory_store.SKU_LEVEL_IN_USE.one(tx, sku=variant.sku)
    if level is not None:
        raise ResourceInUse(variant.name, user=f"locations/{level[0]}/stockLevels/{variant.sku}")


VARIANTS = Collection(
    Variant,
    store.Variant,
    key=("product_id", "id"),
    pattern="products/{}/variants/{}",
    event="variant",
    not_found=VariantNotFound,
    check=_check_variant,
    attach=_attach_prices,
    store_parts=_store_parts,
    check_unused=_check_unused,
)
LISTING = Listing(
    method="ListVariants",
    query=lambda: store.Variant.select(*VARIANTS.rows.fields),
    columns={
        "sku": Column(store.Variant.sku, FilterField(Kind.TEXT), sortable=True),
        "barcode": Column(store.Variant.barcode, FilterField(Kind.TEXT)),
        "tax_class": Column(store.Variant.tax_class, FilterField(Kind.TEXT)),
        "options": Column(store.Variant.options, FilterField(Kind.MAP)),
        "labels": Column(store.Variant.labels, FilterField(Kind.MAP)),
        "state": Column(
            store.Variant.state, FilterField(Kind.STATE, choices=LIFECYCLE_STATES, prefix="VARIANT_STATE_")
        ),
        "create_time": Column(store.Variant.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Variant.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.Variant.sku,),
    read_rows=VARIANTS.read_rows,
    deleted=store.Variant.delete_time_us,
    parent=store.Variant.product,
)


# -- reading, as far as the caller may see drafts


def get_variant(db: Store, key: Key, *, sees_drafts: bool) -> Variant:
    """Return one variant, deleted or not.

    Raises: VariantNotFound, also for a variant of a draft that the caller may not see.
    """

    def work(tx: Transaction) -> Variant:
        variant = VARIANTS.find(tx, key)
        if not _drop_drafts(tx, [variant]):
            raise VariantNotFound(variant.name)
        return variant

    return VARIANTS.get(db, key) if sees_drafts else db.snapshot(work)


def batch_get_variants(db: Store, keys: Sequence[Key], *, sees_drafts: bool) -> list[Variant]:
    """Return all variants with these keys, in the order of the keys, as of one point in time.

    Raises: VariantNotFound, also for a variant of a draft that the caller may not see; BatchTooLarge.
    """
    if sees_drafts:
        return VARIANTS.batch_get(db, keys)
    return VARIANTS.batch_get(db, keys, keep_visible=_drop_drafts)


def _drop_drafts(tx: Transaction, variants: list[Variant]) -> list[Variant]:
    """Return the variants whose product is no draft."""
    ids = msgspec.json.encode(sorted({variant.product_id for variant in variants})).decode()
    drafts = {row[0] for row in store.DRAFTS.all(tx, product_ids=ids, now_us=tx.now_us)}
    return [variant for variant in variants if variant.product_id not in drafts]


def list_variants(db: Store, request: ListRequest, *, tokens: PageTokens, sees_drafts: bool) -> Page[Variant]:
    """Return one page of the variants that the caller may see.

    Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
    """

    def work(tx: Transaction) -> Page[Variant]:
        hidden = store.belongs_to_draft(tx.now_us)
        listing = LISTING if sees_drafts else replace(LISTING, query=lambda: LISTING.query().where(~hidden))
        return listing.page(tx, request, tokens=tokens)

    return db.snapshot(work)
