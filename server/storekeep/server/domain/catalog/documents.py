"""The search documents of products: the texts of them and their variants that can be found, in all languages."""

from __future__ import annotations

from storekeep.server.domain.catalog.translations import NO_TRANSLATIONS, list_descriptions, list_names
from storekeep.server.domain.standard.deferred import run_once
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.search import PRODUCT_INDEX, PRODUCT_TEXTS, VARIANT_TEXTS, Words, build_words


def index_product(tx: Transaction, product_id: str) -> None:
    """Write the search document of a product, from its row and those of its variants; in a batch once, at its end."""

    def put(own: Transaction) -> None:
        PRODUCT_INDEX.put(own, product_id, build_product_words(own, product_id))

    run_once(tx, f"products/{product_id}", put)


def build_product_words(tx: Transaction, product_id: str) -> Words:
    """Return the words by which an existing product is found."""
    row = PRODUCT_TEXTS.one(tx, product_id=product_id)
    display_name, description, translations = row or ("", "", NO_TRANSLATIONS)
    variants = VARIANT_TEXTS.all(tx, product_id=product_id)
    title = [text for *texts, _ in variants for text in texts]
    names = list_names((translations, *(stored for *_, stored in variants)))
    return build_words(display_name, title=(*title, *names), details=(description, *list_descriptions(translations)))
