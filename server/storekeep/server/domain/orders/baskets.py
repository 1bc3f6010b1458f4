"""The basket of a new order and its terms: what is stored of pricing, and the facts of its SKUs and its customer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.catalog.translations import translate_name
from storekeep.server.domain.customers import NO_EXEMPTION, read_exemption
from storekeep.server.domain.exemptions import Exemption
from storekeep.server.domain.pricing.baskets import Basket, BasketLine
from storekeep.server.domain.pricing.promotions import Promotion
from storekeep.server.domain.pricing.snapshot import ANYBODY, Prices, read_prices, read_snapshot, read_terms
from storekeep.server.domain.pricing.terms import Customer, Item, Rules, Terms, UnitPrice
from storekeep.server.domain.standard.resources import decode_labels
from storekeep.server.store.sql.statements import Row
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import customers as customer_store
from storekeep.server.store.tables import orders as store

NO_LABELS, NO_GROUPS = "{}", "[]"
NO_CATEGORIES: frozenset[str] = frozenset()
decode_groups = msgspec.json.Decoder(frozenset[str]).decode


class Offer(NamedTuple):
    """What `OFFER` returns of one SKU. `for_sale` is None if the SKU does not exist.

    Attributes:
        price_minor: the variant's own price in the currency of the order; None for none.
        quantity_rules: JSON.
        version: the version of pricing; 0 if nothing is configured.
        variant_labels, product_labels: JSON.
        language_code: the language of the order; empty for the default language.
        product_texts, variant_texts: the translations as JSON; None without a language.
    """

    product_name: str
    variant_name: str
    language_code: str
    product_texts: str | None
    variant_texts: str | None
    price_minor: int | None
    quantity_rules: str
    version: int
    product_id: str
    category_id: str
    variant_labels: str
    product_labels: str
    tax_class: str
    weight_g: int | None
    for_sale: bool | None

    @property
    def display_name(self) -> str:
        """Return the name of a line, in the language of the order or else in the default language."""
        product, variant = str(self.product_name), self.variant_name
        if self.language_code:
            product = translate_name(product, self.product_texts, language=self.language_code)
            variant = translate_name(variant, self.variant_texts, language=self.language_code)
        return f"{product}, {variant}" if variant else product


Offers = dict[str, Offer]
"""By SKU."""


class Pricing(msgspec.Struct, frozen=True):
    """What a caller says about the price of a new order.

    Attributes:
        codes: coupon codes.
        shipping_method: resource name; empty for none.
        tax_address: the address for tax; None for the shipping address, or else the billing address.
        exemption: None for no exemption.
        draft: a promotion that applies as if it was active; None for none.
    """

    codes: tuple[str, ...] = ()
    shipping_method: str = ""
    tax_address: Address | None = None
    exemption: Exemption | None = None
    draft: Promotion | None = None


NO_PRICING = Pricing()
"""Nothing is said about the price."""


def build_offers(rows: Iterable[Row]) -> Offers:
    """Return the offers in the rows of `OFFER`."""
    return {row[3]: Offer._make(row[9:]) for row in rows}


def build_item(sku: str, offer: Offer) -> Item:
    """Return the facts of a SKU. Promotions of a category list the categories below it themselves."""
    labels: dict[str, str] = {}
    for text in (offer.product_labels, offer.variant_labels):
        if text != NO_LABELS:
            labels |= decode_labels(text)
    categories = frozenset((offer.category_id,)) if offer.category_id else NO_CATEGORIES
    return Item(sku, offer.product_id, categories, labels, offer.tax_class, offer.weight_g or 0)


def build_taxed_item(sku: str, offer: Offer) -> Item:
    """Return the facts of a SKU that matter without promotions."""
    return Item(sku, tax_class=offer.tax_class, weight_g=offer.weight_g or 0)


def build_base_price(sku: str, offer: Offer, *, currency_code: str) -> tuple[UnitPrice, ...]:
    """Return the variant's own price; nothing if it has none in this currency."""
    return () if offer.price_minor is None else (UnitPrice(sku, currency_code, offer.price_minor),)


def read_basket(
    tx: Transaction,
    lines: Sequence[tuple[str, int]],
    offers: Offers,
    pricing: Pricing,
    *,
    customer_id: str,
    currency_code: str,
    shipping_minor: int | None,
    address: Address | None,
    rules: Rules,
    version: int,
    facts: Row | None = None,
    prices: Prices | None = None,
    needs_item_facts: bool = False,
) -> tuple[Basket, Terms]:
    """Return a basket and what applies to it in a transaction.

    Args:
        customer_id: empty for nobody.
        shipping_minor: the price of shipping that the caller set; None for that of the method.
        address: the address for tax.
        version: the version of pricing.
        facts, prices: the facts of the customer and the prices beside those of variants, if they have been read.
        needs_item_facts: whether promotions beside those of today will compare the facts of the items.
    """
    snapshot = read_snapshot(tx, version=version)
    if prices is None:
        prices = read_prices(tx, snapshot, offers, currency_code=currency_code)
    customer = ANYBODY
    needs_customer = snapshot.has_prices or snapshot.promotions.by_key or snapshot.rates or pricing.draft is not None
    if customer_id and needs_customer:
        customer = read_customer(tx, customer_id, facts)
    build = build_item if needs_item_facts or snapshot.promotions.by_key or pricing.draft else build_taxed_item
    terms = read_terms(
        tx,
        rules=rules,
        items={sku: build(sku, offer) for sku, offer in offers.items()},
        currency_code=currency_code,
        address=address,
        customer=customer,
        customer_id=customer_id,
        codes=pricing.codes,
        prices={
            sku: build_base_price(sku, offer, currency_code=currency_code) + prices.get(sku, ())
            for sku, offer in offers.items()
        },
        version=version,
        draft=pricing.draft,
    )
    if terms.separable is None and any(promotion.conditions.first_order for promotion in terms.promotions):
        customer = replace(customer, first_order=not store.ANY_ORDER.one(tx, customer_id=customer_id))
    basket = Basket(
        tuple([BasketLine(sku, units) for sku, units in lines]),
        currency_code,
        tx.now_us,
        customer,
        codes=pricing.codes,
        shipping_method=pricing.shipping_method,
        shipping_minor=shipping_minor,
        exemption=pricing.exemption,
        has_address=address is not None,
    )
    return basket, terms


def read_customer(tx: Transaction, customer_id: str, facts: Row | None) -> Customer:
    """Return the facts of a customer that terms refer to.

    Args:
        facts: as `FIND_FACTS` returns them; None to read them.
    """
    facts = facts or customer_store.FIND_FACTS.one(tx, customer_id=customer_id)
    if facts is None:
        return ANYBODY
    encrypted, groups, exemption = facts
    if groups == NO_GROUPS and exemption == NO_EXEMPTION:
        return ANYBODY
    return Customer(decode_groups(groups), exemption=read_exemption(tx, customer_id, exemption, encrypted))
