"""What batches of products and variants compute before their transaction: the search documents of the products."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from storekeep.server.domain.catalog.documents import (
    ProductTexts,
    Texts,
    VariantTexts,
    arrange_texts,
    read_texts,
)
from storekeep.server.domain.catalog.products import PRODUCTS, Product
from storekeep.server.domain.catalog.variants import VARIANTS, Variant
from storekeep.server.domain.standard.collections import Addition, Edit
from storekeep.server.domain.standard.preparations import Preparation
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction


def prepare_products(db: Store, effects: Sequence[Any]) -> Preparation:
    """Prepare to create and update products.

    Args:
        effects: each an `Addition` or an `Edit`.

    Raises: the errors of `Store.snapshot`.
    """
    edits = [effect for effect in effects if isinstance(effect, Edit)]

    def read(tx: Transaction) -> list[Texts]:
        old = _read_by_key(tx, PRODUCTS, [(edit.resource.id,) for edit in edits])
        changed = _list_changed(edits, old, _list_product_texts)
        return [arrange_texts(_list_product_texts(new), read_texts(tx, new.id)[1]) for new in changed]

    created = [_list_product_texts(effect.resource) for effect in effects if isinstance(effect, Addition)]
    texts = [arrange_texts(one, ()) for one in created]
    return _prepare([*texts, *(db.snapshot(read) if edits else ())])


def prepare_variants(db: Store, effects: Sequence[Any]) -> Preparation:
    """Prepare to create and update variants.

    Args:
        effects: each an `Addition` or an `Edit`.

    Raises: the errors of `Store.snapshot`.
    """

    def read(tx: Transaction) -> list[Texts]:
        edits = [effect for effect in effects if isinstance(effect, Edit)]
        old = _read_by_key(tx, VARIANTS, [(edit.resource.product_id, edit.resource.id) for edit in edits])
        added = [effect.resource for effect in effects if isinstance(effect, Addition)]
        changed: dict[str, dict[str, VariantTexts]] = {}
        for variant in (*added, *_list_changed(edits, old, _list_variant_texts)):
            changed.setdefault(variant.product_id, {})[variant.sku] = _list_variant_texts(variant)
        return [_overlay(*read_texts(tx, product_id), variants) for product_id, variants in changed.items()]

    return _prepare(db.snapshot(read))


def _read_by_key(tx: Transaction, collection: Any, keys: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """Return the existing resources with these keys by name."""
    rows = collection.rows.find_many(tx, keys) if keys else ()
    return {resource.name: resource for resource in collection.read_rows(tx, rows)} if rows else {}


def _list_changed(edits: Iterable[Any], old: Mapping[str, Any], list_texts: Callable[[Any], object]) -> list[Any]:
    """Return the new values of existing resources whose texts change."""
    changed = []
    for edit in edits:
        before = old.get(edit.resource.name)
        if before is not None and list_texts(after := edit.apply(before)) != list_texts(before):
            changed.append(after)
    return changed


def _overlay(product: ProductTexts, stored: Sequence[VariantTexts], changed: dict[str, VariantTexts]) -> Texts:
    """Return the texts of a product with changed texts of its variants, which are given by SKU."""
    variants = {texts[0]: texts for texts in stored} | changed
    return arrange_texts(product, [variants[sku] for sku in sorted(variants)])


def _prepare(documents: Sequence[Texts]) -> Preparation:
    preparation = Preparation()
    for texts in documents:
        preparation.prepare(texts, texts.build)
    return preparation


def _list_product_texts(product: Product) -> ProductTexts:
    return product.display_name, product.description, _encode(product.translations)


def _list_variant_texts(variant: Variant) -> VariantTexts:
    return variant.sku, variant.display_name, variant.barcode, _encode(variant.translations)


def _encode(translations: object) -> str:
    """Return translations as they are stored."""
    return msgspec.json.encode(translations).decode()
