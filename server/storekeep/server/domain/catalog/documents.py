"""The search documents of products: the texts of them and their variants that can be found, in all languages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from storekeep.server.domain.catalog.translations import NO_TRANSLATIONS, list_descriptions, list_names
from storekeep.server.domain.standard.deferred import run_once
from storekeep.server.domain.standard.preparations import find_document
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.search import PRODUCT_INDEX, PRODUCT_TEXTS, VARIANT_TEXTS, Words, build_words

ProductTexts = tuple[str, str, str]
"""The display name, the description and the stored translations of a product."""
VariantTexts = tuple[str, str, str, str]
"""The SKU, the display name, the barcode and the stored translations of a variant."""
NO_TEXTS: ProductTexts = ("", "", NO_TRANSLATIONS)


class Texts(NamedTuple):
    """The texts of a search document; see `build_words`."""

    display_name: str
    title: tuple[str, ...]
    details: tuple[str, ...]

    def build(self) -> Words:
        """Return the words of the document."""
        return build_words(self.display_name, title=self.title, details=self.details, share=True)


def index_product(tx: Transaction, product_id: str) -> None:
    """Write the search document of a product, from its row and those of its variants; in a batch once, at its end."""

    def put(own: Transaction) -> None:
        texts = arrange_texts(*read_texts(own, product_id))
        PRODUCT_INDEX.put(own, product_id, find_document(own, texts, texts.build))

    run_once(tx, f"products/{product_id}", put)


def build_product_words(tx: Transaction, product_id: str) -> Words:
    """Return the words by which an existing product is found."""
    return arrange_texts(*read_texts(tx, product_id)).build()


def read_texts(tx: Transaction, product_id: str) -> tuple[ProductTexts, Sequence[VariantTexts]]:
    """Return the stored texts of a product and of its variants, by SKU."""
    row = PRODUCT_TEXTS.one(tx, product_id=product_id)
    product = NO_TEXTS if row is None else (row[0], row[1], row[2])
    return product, [(row[0], row[1], row[2], row[3]) for row in VARIANT_TEXTS.all(tx, product_id=product_id)]


def arrange_texts(product: ProductTexts, variants: Iterable[VariantTexts]) -> Texts:
    """Return the texts of the search document of a product, given those of its variants by SKU."""
    display_name, description, translations = product
    rows = list(variants)
    codes = [code for sku, _, barcode, _ in rows for code in (sku, barcode)]  # before the names: all of them may fit
    names = [*(name for _, name, *_ in rows), *list_names((translations, *(stored for *_, stored in rows)))]
    return Texts(display_name, (*codes, *names), (description, *list_descriptions(translations)))
