"""`storekeep import products`: one product with one variant per row, perhaps with its stock.

Only what the file says is compared and written: absent cells, other prices and other labels stay as they are.
A dry run cannot try what hangs on something that it did not keep: the variant of a new product, its stock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from storekeep.cli.imports.categories import CategoryIndex
from storekeep.cli.imports.columns import CellRefused, Target, Values
from storekeep.cli.imports.ids import id_of, sku_of, slug_of
from storekeep.cli.imports.lookups import find_known
from storekeep.cli.imports.runs import Outcome
from storekeep.cli.imports.stock import Count, find_on_hand, location_of, set_on_hand
from storekeep.cli.products import product_name
from storekeep.client import (
    AlreadyExists,
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
    Target("sku", "The SKU: 1 to 64 letters, digits and _.+-", required=True),
    Target("name", "What people read.", required=True),
    Target("id", "The product's id; made of the SKU without."),
    Target("description", "At most 10,000 characters."),
    Target("category", "A category's name or id; one that there is not is created."),
    Target("price", "What a unit costs, such as 19.90. Needs a currency."),
    Target("currency", "ISO 4217, such as EUR."),
    Target("tax_class", "The company's own name of it, such as standard."),
    Target("weight_g", "Grams per unit."),
    Target("barcode", "GTIN, EAN, UPC or your own."),
    Target("discontinued", "Yes archives the product, no puts it back on sale."),
    Target("stock", "Units on hand, 0 or more."),
    Target("location", "The id of the stock's location; main without."),
)


@dataclass(frozen=True)
class ProductDraft:
    """A product with its variant, as the file has them."""

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
        """The product's resource name."""
        return product_name(self.product_id)

    @property
    def variant_name(self) -> str:
        """The variant's resource name."""
        return f"{self.product_name}/variants/{self.variant_id}"

    def onto_product(self, product: Product, *, category: str | None) -> Product:
        """Return the product with what the file says put on it."""
        wanted = Product()
        wanted.CopyFrom(product)
        wanted.display_name = self.display_name
        wanted.description = product.description if self.description is None else self.description
        wanted.category = product.category if category is None else category
        wanted.labels.update(self.labels)
        return wanted

    def onto_variant(self, variant: Variant) -> Variant:
        """Return the variant with what the file says put on it."""
        wanted = Variant()
        wanted.CopyFrom(variant)
        wanted.sku = variant.sku or self.sku
        wanted.tax_class = variant.tax_class if self.tax_class is None else self.tax_class
        wanted.barcode = variant.barcode if self.barcode is None else self.barcode
        if self.weight_g is not None:
            wanted.weight_g = self.weight_g
        if self.price is not None:
            _put_price(wanted, self.price)
        return wanted


@dataclass(frozen=True)
class Present:
    """What is there of a chunk."""

    products: Mapping[str, Product]
    variants: Mapping[str, Variant]
    on_hand: Mapping[str, int]
    categories: Mapping[str, str | CellRefused]


class ProductImporter:
    """Makes products, variants and stock what a file says."""

    def __init__(self, client: Storekeep, *, write_options: WriteOptions) -> None:
        self._client = client
        self._write_options = write_options
        self._dry_run = write_options.get("validate_only", False)
        self._categories = CategoryIndex(client, write_options=write_options)

    def draft(self, values: Values) -> ProductDraft:
        """Read a row. Raises: CellRefused."""
        sku, given_id = sku_of(values.needed("sku")), values.text("id")
        stock = values.whole("stock")
        return ProductDraft(
            product_id=id_of(given_id, target="id") if given_id else slug_or_same(sku),
            variant_id=slug_or_same(sku),
            sku=sku,
            display_name=values.needed("name"),
            description=values.text("description"),
            category=values.text("category"),
            price=_read_price(values),
            tax_class=values.text("tax_class"),
            weight_g=values.whole("weight_g"),
            barcode=values.text("barcode"),
            discontinued=values.truth("discontinued"),
            count=None if stock is None else Count(sku, stock, location_of(values)),
            labels=values.labels(),
        )

    def key(self, draft: ProductDraft) -> str:
        """Return what must not occur twice in a file."""
        return f"SKU {draft.sku}"

    def look_up(self, drafts: Sequence[ProductDraft]) -> Callable[[ProductDraft], Outcome]:
        """Look up the products, variants and stock of a chunk, and create the categories that it needs."""
        names = list(dict.fromkeys(draft.product_name for draft in drafts))
        products = find_known(names, batch_get=self._client.products.batch_get)
        variant_names = [draft.variant_name for draft in drafts if draft.product_name in products]
        variants = find_known(variant_names, batch_get=self._client.variants.batch_get)
        counts = [draft.count for draft in drafts if draft.count is not None]
        wanted = dict.fromkeys(draft.category for draft in drafts if draft.category is not None)
        categories = {text: self._categories.name_of(text) for text in wanted}
        present = Present(products, variants, find_on_hand(self._client, counts), categories)
        return lambda draft: self._write(draft, present)

    def _write(self, draft: ProductDraft, present: Present) -> Outcome:
        product, outcome = self._write_product(draft, present)
        if product is None:
            return outcome
        outcomes = [outcome, self._write_variant(draft, present.variants.get(draft.variant_name))]
        if draft.count is not None and not (self._dry_run and outcomes[1] is Outcome.CREATED):
            stocked = set_on_hand(self._client, draft.count, on_hand=present.on_hand, options=self._write_options)
            outcomes.append(stocked)
        outcomes.append(self._write_state(draft, product))
        return _overall(outcomes)

    def _write_product(self, draft: ProductDraft, present: Present) -> tuple[Product | None, Outcome]:
        """Return the product as it is now; None when a dry run would have created it."""
        category = _found_category(draft, present)
        current = present.products.get(draft.product_name)
        if current is None:
            try:
                created = self._client.products.create(
                    draft.onto_product(Product(), category=category),
                    product_id=draft.product_id,
                    **self._write_options,
                )
            except AlreadyExists:
                current = self._client.products.get(draft.product_name)
            else:
                return (None if self._dry_run else created), Outcome.CREATED
        wanted = draft.onto_product(current, category=category)
        if wanted == current:
            return current, Outcome.UNCHANGED
        mask = ("display_name", "description", "category", "labels")
        return self._client.products.update(wanted, update_mask=mask, **self._write_options), Outcome.UPDATED

    def _write_variant(self, draft: ProductDraft, current: Variant | None) -> Outcome:
        if current is None:
            try:
                self._client.variants.create(
                    draft.product_name,
                    draft.onto_variant(Variant()),
                    variant_id=draft.variant_id,
                    **self._write_options,
                )
            except AlreadyExists:
                current = self._client.variants.get(draft.variant_name)
            except SkuTaken as error:
                current = self._own_variant(draft, error)
            else:
                return Outcome.CREATED
        if current.sku != draft.sku:
            raise CellRefused(f"{current.name} has the SKU {current.sku}, which cannot become {draft.sku}")
        wanted = draft.onto_variant(current)
        if wanted == current:
            return Outcome.UNCHANGED
        mask = ("prices", "tax_class", "weight_g", "barcode")
        self._client.variants.update(wanted, update_mask=mask, **self._write_options)
        return Outcome.UPDATED

    def _own_variant(self, draft: ProductDraft, taken: SkuTaken) -> Variant:
        """Return the variant that has the SKU, where it is one of the same product. Raises: SkuTaken."""
        if not taken.variant.startswith(f"{draft.product_name}/"):
            raise taken
        return self._client.variants.get(taken.variant)

    def _write_state(self, draft: ProductDraft, product: Product) -> Outcome:
        archived = product.state == ProductState.PRODUCT_STATE_ARCHIVED
        if draft.discontinued is None or draft.discontinued == archived:
            return Outcome.UNCHANGED
        step = self._client.products.archive if draft.discontinued else self._client.products.unarchive
        step(product.name, **self._write_options)
        return Outcome.UPDATED


def slug_or_same(sku: str) -> str:
    """Return an id made of a SKU: the SKU itself, unless it holds what no id may."""
    try:
        return id_of(sku, target="sku")
    except CellRefused:
        return slug_of(sku, target="sku")


def _overall(outcomes: Sequence[Outcome]) -> Outcome:
    if outcomes[0] is Outcome.CREATED:
        return Outcome.CREATED
    return Outcome.UNCHANGED if set(outcomes) == {Outcome.UNCHANGED} else Outcome.UPDATED


def _found_category(draft: ProductDraft, present: Present) -> str | None:
    if draft.category is None:
        return None
    found = present.categories[draft.category]
    if isinstance(found, CellRefused):
        raise found
    return found


def _read_price(values: Values) -> Money | None:
    amount, currency = values.decimal("price"), values.text("currency")
    if amount is None:
        return None
    if currency is None:
        raise CellRefused("currency is missing: add --set currency=EUR, or the like")
    try:
        return to_money(amount, currency_code=currency.upper())
    except ValueError as error:
        raise CellRefused(f"price: {error}") from None


def _put_price(variant: Variant, price: Money) -> None:
    for present in variant.prices:
        if present.currency_code == price.currency_code:
            present.CopyFrom(price)
            return
    variant.prices.append(price)
