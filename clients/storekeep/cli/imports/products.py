"""`storekeep import products`: one product with one variant per row, optionally with its stock.

Only values in the file are compared and written. Absent cells, other prices and other labels do not change. A dry run
cannot validate the variant and stock of a new product, because the product is not stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from storekeep.cli.imports.batches import write_batch
from storekeep.cli.imports.categories import CategoryIndex
from storekeep.cli.imports.columns import InvalidCell, Target, Values
from storekeep.cli.imports.ids import make_slug, parse_id, parse_sku
from storekeep.cli.imports.lookups import find_existing
from storekeep.cli.imports.runs import Outcome
from storekeep.cli.imports.stock import Count, find_on_hand, parse_location_id, set_levels, set_on_hand
from storekeep.cli.names import to_product_name
from storekeep.client import (
    AlreadyExists,
    CreateProductRequest,
    CreateVariantRequest,
    Money,
    Product,
    ProductState,
    SkuTaken,
    Storekeep,
    Variant,
    WriteOptions,
    to_money,
)

TARGETS = (
    Target("sku", "SKU: 1 to 64 letters, digits and _.+-", required=True),
    Target("name", "Display name.", required=True),
    Target("id", "Id of the product (default: made from the SKU)."),
    Target("description", "At most 10,000 characters."),
    Target("category", "Name or id of a category, which is created if missing."),
    Target("price", "Price of a unit, such as 19.90. Requires a currency."),
    Target("currency", "ISO 4217 code, such as EUR."),
    Target("tax_class", "Your name of the tax class, such as standard."),
    Target("weight_g", "Weight of a unit in grams."),
    Target("barcode", "GTIN, EAN, UPC or a code of your own."),
    Target("discontinued", "Yes archives the product, no unarchives it."),
    Target("stock", "Units on hand, 0 or more."),
    Target("location", "Id of the location of the stock (default: main)."),
)


@dataclass(frozen=True)
class ProductItem:
    """A product with its variant, as read from the file."""

    product_id: str
    variant_id: str
    sku: str
    display_name: str
    description: str | None = None
    category: str | None = None
    price: Money | None = None
    tax_class: str | None = None
    weight_g: int | None = None
    barcode: str | None = None
    discontinued: bool | None = None
    count: Count | None = None
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def product_name(self) -> str:
        """Resource name of the product."""
        return to_product_name(self.product_id)

    @property
    def variant_name(self) -> str:
        """Resource name of the variant."""
        return f"{self.product_name}/variants/{self.variant_id}"

    def apply_to_product(self, product: Product, *, category: str | None) -> Product:
        """Return a copy of the product with the values of the file."""
        updated = Product()
        updated.CopyFrom(product)
        updated.display_name = self.display_name
        updated.description = product.description if self.description is None else self.description
        updated.category = product.category if category is None else category
        updated.labels.update(self.labels)
        return updated

    def apply_to_variant(self, variant: Variant) -> Variant:
        """Return a copy of the variant with the values of the file."""
        updated = Variant()
        updated.CopyFrom(variant)
        updated.sku = variant.sku or self.sku
        updated.tax_class = variant.tax_class if self.tax_class is None else self.tax_class
        updated.barcode = variant.barcode if self.barcode is None else self.barcode
        if self.weight_g is not None:
            updated.weight_g = self.weight_g
        if self.price is not None:
            _put_price(updated, self.price)
        return updated


@dataclass(frozen=True)
class ExistingResources:
    """The existing resources of a chunk: by name, units on hand by stock level, categories by text in the file."""

    products: Mapping[str, Product]
    variants: Mapping[str, Variant]
    on_hand: Mapping[str, int]
    categories: Mapping[str, str | InvalidCell]
    creators: Mapping[str, ProductItem] = field(default_factory=dict)
    """The row for which each new product and variant was created, by name."""
    levels: Mapping[str, Outcome] = field(default_factory=dict)
    """The outcome of each stock level that was set with its new variant, by name."""


class ProductImporter:
    """Creates and updates products, variants and stock from rows."""

    def __init__(self, client: Storekeep, *, write_options: WriteOptions) -> None:
        self._client = client
        self._write_options = write_options
        self._dry_run = write_options.get("validate_only", False)
        self._categories = CategoryIndex(client, write_options=write_options)

    def parse(self, values: Values) -> ProductItem:
        """Parse a row. Raises: InvalidCell."""
        sku, row_id = parse_sku(values.require("sku")), values.text("id")
        stock = values.integer("stock")
        return ProductItem(
            product_id=parse_id(row_id, target="id") if row_id else make_id(sku),
            variant_id=make_id(sku),
            sku=sku,
            display_name=values.require("name"),
            description=values.text("description"),
            category=values.text("category"),
            price=_read_price(values),
            tax_class=values.text("tax_class"),
            weight_g=values.integer("weight_g"),
            barcode=values.text("barcode"),
            discontinued=values.boolean("discontinued"),
            count=None if stock is None else Count(sku, stock, parse_location_id(values)),
            labels=values.labels(),
        )

    def key(self, item: ProductItem) -> str:
        """Return the key of an item, which must be unique in a file."""
        return f"SKU {item.sku}"

    def look_up(self, items: Sequence[ProductItem]) -> Callable[[ProductItem], Outcome]:
        """Look up the resources of a chunk and create its categories. Return the function that writes one item."""
        names = list(dict.fromkeys(item.product_name for item in items))
        products = find_existing(names, batch_get=self._client.products.batch_get)
        variant_names = [item.variant_name for item in items if item.product_name in products]
        variants = find_existing(variant_names, batch_get=self._client.variants.batch_get)
        counts = [item.count for item in items if item.count is not None]
        category_texts = dict.fromkeys(item.category for item in items if item.category is not None)
        categories = {text: self._categories.find_or_create(text) for text in category_texts}
        existing = ExistingResources(products, variants, find_on_hand(self._client, counts), categories)
        created = self._create_batches(items, existing)
        return lambda item: self._write(item, created)

    def _create_batches(self, items: Sequence[ProductItem], existing: ExistingResources) -> ExistingResources:
        """Create the missing products and variants of a chunk in one call each, and set the stock of these variants.

        Returns: the existing resources, with those that were created.
        """
        products, creators = self._create_products(items, existing)
        if self._dry_run:
            return replace(existing, creators={name: creators[name] for name in products})
        existing = replace(existing, products={**existing.products, **products})
        missing = {
            item.variant_name: item
            for item in reversed(items)
            if item.product_name in existing.products and item.variant_name not in existing.variants
        }
        variants = write_batch(
            {name: _build_variant_request(item) for name, item in missing.items()},
            lambda batch: self._client.variants.batch_create(batch, per_item=True, **self._write_options),
        )
        counts = [item.count for name, item in missing.items() if name in variants and item.count is not None]
        levels = set_levels(self._client, counts, on_hand=existing.on_hand, options=self._write_options)
        made = {name: creators[name] for name in products} | {name: missing[name] for name in variants}
        return replace(existing, variants={**existing.variants, **variants}, creators=made, levels=levels)

    def _create_products(
        self, items: Sequence[ProductItem], existing: ExistingResources
    ) -> tuple[dict[str, Product], dict[str, ProductItem]]:
        """Create the missing products. Return them, and the first row of each missing product, by name."""
        missing = {item.product_name: item for item in reversed(items) if item.product_name not in existing.products}
        requests = {}
        for name, item in missing.items():
            with suppress(InvalidCell):
                product = item.apply_to_product(Product(), category=_get_category(item, existing))
                requests[name] = CreateProductRequest(product=product, product_id=item.product_id)
        products = write_batch(
            requests, lambda batch: self._client.products.batch_create(batch, per_item=True, **self._write_options)
        )
        return products, missing

    def _write(self, item: ProductItem, existing: ExistingResources) -> Outcome:
        product, outcome = self._write_product(item, existing)
        if product is None:
            return outcome
        if existing.creators.get(item.variant_name) is item:
            outcomes = [outcome, Outcome.CREATED]
        else:
            outcomes = [outcome, self._write_variant(item, existing.variants.get(item.variant_name))]
        if item.count is not None and not (self._dry_run and outcomes[1] is Outcome.CREATED):
            outcomes.append(
                existing.levels.get(item.count.level_name)
                or set_on_hand(self._client, item.count, on_hand=existing.on_hand, options=self._write_options)
            )
        outcomes.append(self._write_state(item, product))
        return _combine_outcomes(outcomes)

    def _write_product(self, item: ProductItem, existing: ExistingResources) -> tuple[Product | None, Outcome]:
        """Return the product and its outcome. The product is None if a dry run would have created it."""
        category = _get_category(item, existing)
        current = existing.products.get(item.product_name)
        if existing.creators.get(item.product_name) is item:
            return current, Outcome.CREATED
        if current is None:
            try:
                created = self._client.products.create(
                    item.apply_to_product(Product(), category=category),
                    product_id=item.product_id,
                    **self._write_options,
                )
            except AlreadyExists:
                current = self._client.products.get(item.product_name)
            else:
                return (None if self._dry_run else created), Outcome.CREATED
        updated = item.apply_to_product(current, category=category)
        if updated == current:
            return current, Outcome.UNCHANGED
        mask = ("display_name", "description", "category", "labels")
        return self._client.products.update(updated, update_mask=mask, **self._write_options), Outcome.UPDATED

    def _write_variant(self, item: ProductItem, current: Variant | None) -> Outcome:
        if current is None:
            try:
                self._client.variants.create(
                    item.product_name,
                    item.apply_to_variant(Variant()),
                    variant_id=item.variant_id,
                    **self._write_options,
                )
            except AlreadyExists:
                current = self._client.variants.get(item.variant_name)
            except SkuTaken as error:
                current = self._get_variant_of_sku(item, error)
            else:
                return Outcome.CREATED
        if current.sku != item.sku:
            raise InvalidCell(f"{current.name} has the SKU {current.sku}, which cannot be changed to {item.sku}")
        updated = item.apply_to_variant(current)
        if updated == current:
            return Outcome.UNCHANGED
        mask = ("prices", "tax_class", "weight_g", "barcode")
        self._client.variants.update(updated, update_mask=mask, **self._write_options)
        return Outcome.UPDATED

    def _get_variant_of_sku(self, item: ProductItem, error: SkuTaken) -> Variant:
        """Return the variant that has the SKU. Raises: SkuTaken if it belongs to another product."""
        if not error.variant.startswith(f"{item.product_name}/"):
            raise error
        return self._client.variants.get(error.variant)

    def _write_state(self, item: ProductItem, product: Product) -> Outcome:
        archived = product.state == ProductState.PRODUCT_STATE_ARCHIVED
        if item.discontinued is None or item.discontinued == archived:
            return Outcome.UNCHANGED
        step = self._client.products.archive if item.discontinued else self._client.products.unarchive
        step(product.name, **self._write_options)
        return Outcome.UPDATED


def make_id(sku: str) -> str:
    """Return an id made from a SKU: the SKU itself if it is a valid id."""
    try:
        return parse_id(sku, target="sku")
    except InvalidCell:
        return make_slug(sku, target="sku")


def _combine_outcomes(outcomes: Sequence[Outcome]) -> Outcome:
    if outcomes[0] is Outcome.CREATED:
        return Outcome.CREATED
    return Outcome.UNCHANGED if set(outcomes) == {Outcome.UNCHANGED} else Outcome.UPDATED


def _build_variant_request(item: ProductItem) -> CreateVariantRequest:
    variant = item.apply_to_variant(Variant())
    return CreateVariantRequest(parent=item.product_name, variant=variant, variant_id=item.variant_id)


def _get_category(item: ProductItem, existing: ExistingResources) -> str | None:
    if item.category is None:
        return None
    category = existing.categories[item.category]
    if isinstance(category, InvalidCell):
        raise category
    return category


def _read_price(values: Values) -> Money | None:
    amount, currency = values.decimal("price"), values.text("currency")
    if amount is None:
        return None
    if currency is None:
        raise InvalidCell("currency is missing: add --set currency=CODE, such as EUR")
    try:
        return to_money(amount, currency_code=currency.upper())
    except ValueError as error:
        raise InvalidCell(f"price: {error}") from None


def _put_price(variant: Variant, price: Money) -> None:
    for existing in variant.prices:
        if existing.currency_code == price.currency_code:
            existing.CopyFrom(price)
            return
    variant.prices.append(price)
