"""`storekeep import products`: one variant with its product per row, optionally with its stock.

Only values in the file are compared and written. Absent cells, other prices and other labels do not change. All calls
of a row are first made as a dry run, so that a rejected row changes nothing and a dry run shows what would happen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from google.protobuf.field_mask_pb2 import FieldMask

from storekeep.client import (
    AlreadyExists,
    CreateProductRequest,
    CreateVariantRequest,
    EtagMismatch,
    Money,
    Product,
    ProductNotFound,
    ProductState,
    Storekeep,
    UpdateProductRequest,
    UpdateVariantRequest,
    Variant,
    WriteOptions,
    to_money,
)
from storekeep.client.money import split_currency
from storekeep.client.names import to_product_name
from storekeep.imports.batches import write_batches
from storekeep.imports.categories import CategoryIndex
from storekeep.imports.columns import InvalidCell, Target, Values
from storekeep.imports.ids import add_suffix, make_id, make_slug, parse_id
from storekeep.imports.lookups import find_existing, find_variants, require_existing
from storekeep.imports.sku_maps import SkuMap
from storekeep.imports.stock import Count, StockLookup, parse_location_id, plan_count
from storekeep.imports.writes import Batched, Outcome, Write, run_writes

SOURCE_LABEL = "source_sku"
"""Label of a product with the SKU of the file, if it is not a SKU here."""
ATTEMPTS_MAX = 3
"""Attempts at a row whose product another row or client creates at the same time."""
BATCH_ROUNDS = 2
"""Rounds of batches. The second writes rows of one product that differ from its first row, such as in absent cells."""
PRODUCT_MASK = ("display_name", "description", "category", "labels")
VARIANT_MASK = ("display_name", "options", "prices", "tax_class", "weight_g", "barcode", "quantity_rules")
"""The fields that updates change."""

TARGETS = (
    Target("sku", "SKU: 1 to 64 letters, digits and _.+-", required=True),
    Target("name", "Display name of the product.", required=True),
    Target("id", "Id of the product (default: made from the SKU). Rows with the same id are its variants."),
    Target("variant_name", "Display name of the variant."),
    Target("description", "At most 10,000 characters."),
    Target("category", "Name or id of a category, which is created if missing."),
    Target("price", "Price of a unit, such as 19.90. Requires a currency."),
    Target("currency", "ISO 4217 code, such as EUR."),
    Target("tax_class", "Tax class, such as reduced (default: the standard class)."),
    Target("weight_g", "Weight of a unit in grams."),
    Target("barcode", "GTIN, EAN, UPC or a code of your own."),
    Target("minimum", "Least units to order at once; 0 for no rule."),
    Target("maximum", "Most units to order at once; 0 for no rule."),
    Target("multiple", "Units are ordered in multiples of it; 0 for no rule."),
    Target("discontinued", "Yes archives the product, no unarchives it."),
    Target("draft", "Yes creates the product as a draft, which is not on sale; no publishes a draft."),
    Target("stock", "Units on hand, 0 or more."),
    Target("location", "Id of the location of the stock (default: main)."),
)
QUANTITY_RULES = ("minimum", "maximum", "multiple")
"""Targets with the names of the fields of `QuantityRules`."""


@dataclass(frozen=True)
class ProductItem:
    """A product with its variant, as read from the file."""

    product_id: str | None
    sku: str
    display_name: str
    variant_name: str | None = None
    description: str | None = None
    category: str | None = None
    price: Money | None = None
    tax_class: str | None = None
    weight_g: int | None = None
    barcode: str | None = None
    quantity_rules: dict[str, int] = field(default_factory=dict)
    discontinued: bool | None = None
    draft: bool | None = None
    count: Count | None = None
    labels: dict[str, str] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)

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
        updated.display_name = variant.display_name if self.variant_name is None else self.variant_name
        updated.options.update(self.options)
        updated.barcode = variant.barcode if self.barcode is None else self.barcode
        if self.weight_g is not None:
            updated.weight_g = self.weight_g
        for rule, limit in self.quantity_rules.items():
            if getattr(updated.quantity_rules, rule) != limit:
                setattr(updated.quantity_rules, rule, limit)
        if self.price is not None:
            _put_price(updated, self.price)
        return updated


@dataclass(frozen=True)
class ExistingResources:
    """The existing resources of a chunk.

    Attributes:
        products: by resource name.
        variants: by SKU.
        on_hand: units on hand by resource name of the stock level, or why there can be none.
        categories: resource names by text in the file, or why there is none.
        ids: ids of the products, by SKU.
    """

    products: Mapping[str, Product]
    variants: Mapping[str, Variant]
    on_hand: Mapping[str, int | InvalidCell]
    categories: Mapping[str, str | InvalidCell]
    ids: Mapping[str, str]


class ProductImporter:
    """Creates and updates products, variants and stock from rows."""

    def __init__(self, client: Storekeep, *, write_options: WriteOptions, skus: SkuMap) -> None:
        self._client = client
        self._dry_run = write_options.get("validate_only", False)
        self._categories = CategoryIndex(client, write_options=write_options)
        self._levels = StockLookup(client)
        self._skus = skus

    def parse(self, values: Values) -> ProductItem:
        """Parse a row. Raises: InvalidCell."""
        theirs, row_id = values.require("sku"), values.text("id")
        sku = self._skus.find_or_make(theirs)
        stock, labels = values.integer("stock"), values.labels()
        if sku != theirs and row_id is None:
            labels.setdefault(SOURCE_LABEL, theirs)
        return ProductItem(
            product_id=parse_id(row_id, target="id") if row_id else None,
            sku=sku,
            display_name=values.require("name"),
            variant_name=values.text("variant_name"),
            description=values.text("description"),
            category=values.text("category"),
            price=_read_price(values),
            tax_class=values.text("tax_class"),
            weight_g=values.integer("weight_g"),
            barcode=values.code("barcode"),
            quantity_rules={rule: limit for rule in QUANTITY_RULES if (limit := values.integer(rule)) is not None},
            discontinued=values.boolean("discontinued"),
            draft=values.boolean("draft"),
            count=None if stock is None else Count(sku, stock, parse_location_id(values)),
            labels=labels,
            options=values.options(),
        )

    def key(self, item: ProductItem) -> str:
        """Return the key of an item, which must be unique in a file."""
        return f"SKU {item.sku}"

    def list_shared_cells(self, item: ProductItem) -> tuple[str, Mapping[str, str]]:
        """Return the product of an item, and the cells that all rows of the product must share."""
        if item.product_id is None:
            return item.sku, {}
        cells = {"name": item.display_name, "description": item.description, "category": item.category}
        if item.discontinued is not None:
            cells["discontinued"] = "yes" if item.discontinued else "no"
        if item.draft is not None:
            cells["draft"] = "yes" if item.draft else "no"
        cells |= {f"label.{key}": value for key, value in item.labels.items()}
        return to_product_name(item.product_id), {cell: value for cell, value in cells.items() if value is not None}

    def look_up(self, items: Sequence[ProductItem]) -> Callable[[ProductItem], Outcome]:
        """Look up the resources of a chunk, create its categories and write it in batches.

        Return the function that writes one item that is left.
        """
        existing = self._find_existing(items)
        left = {item.sku: item for item in items}
        outcomes: dict[str, Outcome] = {}
        planned: dict[str, Outcome] = {}
        for _ in range(BATCH_ROUNDS):
            batch = write_batches(left, plan=partial(self._plan_batched, existing), dry_run=self._dry_run)
            outcomes |= batch.outcomes
            planned = {**batch.deferred, **planned}
            left = {sku: item for sku, item in left.items() if sku not in outcomes}
            if left and not self._dry_run:
                existing = self._find_existing(list(left.values()))
            if not batch.deferred:
                break

        def write(item: ProductItem) -> Outcome:
            outcome = outcomes.get(item.sku) or self._write(item, existing)
            return planned.get(item.sku, outcome)

        return write

    def _find_existing(self, items: Sequence[ProductItem]) -> ExistingResources:
        variants = find_variants(self._client, items)
        ids = _choose_ids(items, variants)
        names = list(dict.fromkeys(to_product_name(product_id) for product_id in ids.values()))
        products = find_existing(names, batch_get=self._client.products.batch_get)
        counts = [item.count for item in items if item.count is not None]
        category_texts = dict.fromkeys(item.category for item in items if item.category is not None)
        categories = {text: self._categories.find_or_create(text) for text in category_texts}
        return ExistingResources(products, variants, self._levels.find_on_hand(counts), categories, ids)

    def _plan_batched(self, existing: ExistingResources, item: ProductItem) -> list[Write] | None:
        """Return the calls of a row, or None if the plan needs other reads than those of the chunk.

        Raises: InvalidCell.
        """
        product_id = existing.ids[item.sku]
        product = existing.products.get(to_product_name(product_id))
        variant = existing.variants.get(item.sku)
        is_published = item.draft is False and product is not None and product.state == ProductState.PRODUCT_STATE_DRAFT
        if is_published or (item.product_id is None and variant is None and product is not None):
            return None
        return self._plan(item, existing, product_id, product, variant)

    def _write(self, item: ProductItem, existing: ExistingResources) -> Outcome:
        """Write one row: all of its changes, or none."""
        product_id = existing.ids[item.sku]
        product = existing.products.get(to_product_name(product_id))
        variant = existing.variants.get(item.sku)
        for attempt in range(1, ATTEMPTS_MAX + 1):
            if item.product_id is None and variant is None and product is not None and self._has_variants(product):
                product_id = add_suffix(make_slug(item.sku), item.sku)
                product = self._get_product(product_id)
            writes = self._plan(item, existing, product_id, product, variant)
            try:
                return run_writes(writes, dry_run=self._dry_run)
            except (AlreadyExists, EtagMismatch):
                if attempt == ATTEMPTS_MAX:
                    raise
                variant = find_variants(self._client, [item]).get(item.sku)
                product = self._get_product(product_id)
        raise AssertionError("the last attempt returns or raises")

    def _has_variants(self, product: Product) -> bool:
        """Return whether a product has variants, which then are of another SKU than the row."""
        return any(True for _ in self._client.variants.list(product.name, page_size=1, show_deleted=True))

    def _get_product(self, product_id: str) -> Product | None:
        try:
            return self._client.products.get(to_product_name(product_id))
        except ProductNotFound:
            return None

    def _plan(
        self,
        item: ProductItem,
        existing: ExistingResources,
        product_id: str,
        product: Product | None,
        variant: Variant | None,
    ) -> list[Write]:
        """Return the calls of a row, in their order.

        Raises: InvalidCell.
        """
        name = to_product_name(product_id)
        if product is not None:
            require_existing(product)
        if variant is not None:
            if not variant.name.startswith(f"{name}/"):
                raise InvalidCell(f"SKU_TAKEN: {variant.name} has the SKU {item.sku}, which is not of {name}")
            require_existing(variant)
        return [
            *self._plan_product(item, product_id, product, category=_get_category(item, existing)),
            *self._plan_variant(item, name, variant),
            *self._plan_stock(item, existing, creates_variant=variant is None),
            *self._plan_state(item, name, product),
        ]

    def _plan_product(
        self, item: ProductItem, product_id: str, current: Product | None, *, category: str | None
    ) -> list[Write]:
        products, name = self._client.products, to_product_name(product_id)
        updated = item.apply_to_product(current or Product(), category=category)
        if current is None:
            create = partial(products.create, updated, product_id=product_id, draft=bool(item.draft))
            creation = CreateProductRequest(product=updated, product_id=product_id, draft=bool(item.draft))
            batched = Batched(products.batch_create, name, creation)
            return [Write(lambda options: create(**options), Outcome.CREATED, batched=batched)]
        if updated == current:
            return []
        update = partial(products.update, updated, update_mask=PRODUCT_MASK)
        change = UpdateProductRequest(product=updated, update_mask=FieldMask(paths=PRODUCT_MASK))
        batched = Batched(products.batch_update, name, change)
        return [Write(lambda options: update(**options), Outcome.UPDATED, batched=batched)]

    def _plan_variant(self, item: ProductItem, product_name: str, current: Variant | None) -> list[Write]:
        variants, variant_id = self._client.variants, make_id(item.sku)
        updated = item.apply_to_variant(current or Variant())
        if current is None:
            create = partial(variants.create, product_name, updated, variant_id=variant_id)
            creation = CreateVariantRequest(parent=product_name, variant=updated, variant_id=variant_id)
            batched = Batched(variants.batch_create, f"SKU {item.sku}", creation)
            return [Write(lambda options: create(**options), Outcome.CREATED, ProductNotFound, batched)]
        if updated == current:
            return []
        update = partial(variants.update, updated, update_mask=VARIANT_MASK)
        change = UpdateVariantRequest(variant=updated, update_mask=FieldMask(paths=VARIANT_MASK))
        batched = Batched(variants.batch_update, f"SKU {item.sku}", change)
        return [Write(lambda options: update(**options), Outcome.UPDATED, batched=batched)]

    def _plan_stock(self, item: ProductItem, existing: ExistingResources, *, creates_variant: bool) -> list[Write]:
        if item.count is None:
            return []
        return plan_count(self._client, item.count, on_hand=existing.on_hand, creates_variant=creates_variant)

    def _plan_state(self, item: ProductItem, product_name: str, product: Product | None) -> list[Write]:
        drafted = ProductState.PRODUCT_STATE_DRAFT
        if item.draft is False and product is not None and product.state == drafted:
            if self._client.products.get(product_name).state != drafted:  # another row of the product published it
                return []
            publish = self._client.products.publish
            return [Write(lambda options: publish(product_name, **options), Outcome.UPDATED)]
        archived = product is not None and product.state == ProductState.PRODUCT_STATE_ARCHIVED
        if item.discontinued is None or item.discontinued == archived:
            return []
        step = self._client.products.archive if item.discontinued else self._client.products.unarchive
        return [Write(lambda options: step(product_name, **options), Outcome.UPDATED, ProductNotFound)]


def _choose_ids(items: Sequence[ProductItem], variants: Mapping[str, Variant]) -> dict[str, str]:
    """Return the id of the product of each SKU: that of the row, else that of the existing variant, else a new one."""
    ids: dict[str, str] = {}
    made: set[str] = set()
    for item in items:
        if item.product_id is not None:
            ids[item.sku] = item.product_id
        elif item.sku in variants:
            ids[item.sku] = variants[item.sku].name.split("/")[1]
        else:
            product_id = make_id(item.sku)
            ids[item.sku] = add_suffix(make_slug(item.sku), item.sku) if product_id in made else product_id
            made.add(ids[item.sku])
    return ids


def _get_category(item: ProductItem, existing: ExistingResources) -> str | None:
    if item.category is None:
        return None
    category = existing.categories[item.category]
    if isinstance(category, InvalidCell):
        raise category
    return category


def _read_price(values: Values) -> Money | None:
    price, currency = values.text("price"), values.text("currency")
    if price is None:
        return None
    currency = currency or split_currency(price)[0]
    amount = values.amount("price", currency=currency)
    if not currency or amount is None:
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
