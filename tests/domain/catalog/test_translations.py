"""Texts in several languages: stored with the resource, served by `accept-language`, and found by search."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from storekeep.v1 import audit_pb2, products_pb2
from tests.support.refusals import refused
from tests.support.resources import CATEGORY, PRODUCT, VARIANT, Kind
from tests.support.shops import Shop

TEXTS = {"de": {"display_name": "Tee", "description": "Schwarz"}, "pt-BR": {"display_name": "Chá"}}


def get(shop: Shop, name: str, *languages: str, **fields: Any) -> products_pb2.Product:
    metadata = [("accept-language", each) for each in languages]
    return shop.products.GetProduct(products_pb2.GetProductRequest(name=name, **fields), metadata=metadata)


def make(shop: Shop, **fields: Any) -> products_pb2.Product:
    return shop.product(display_name="Tea", description="Black", **{"translations": TEXTS, **fields})


@pytest.mark.parametrize(
    ("languages", "display_name", "description", "code"),
    [
        (["de"], "Tee", "Schwarz", "de"),
        (["DE-at;q=0.9, en;q=0.1"], "Tee", "Schwarz", "de"),
        (["pt-BR"], "Chá", "Black", "pt-BR"),  # the text that is missing comes in the default language
        (["fr", "de;q=0.2"], "Tee", "Schwarz", "de"),
        (["fr"], "Tea", "Black", "en"),
        (["en-US, de;q=0.9"], "Tea", "Black", "en"),
    ],
)
def test_read_with_accept_language_returns_the_best_texts(shop: Shop, languages, display_name, description, code):
    product = get(shop, make(shop).name, *languages)
    assert (product.display_name, product.description, product.language_code) == (display_name, description, code)
    assert not product.translations


@pytest.mark.parametrize("header", ["", "*", "de;q=0", "x" * 1_001, ";;,,q=", "de" + "-aaaaaaaa" * 200])
def test_header_without_a_usable_language_changes_nothing(shop: Shop, header: str):
    product = make(shop)
    assert get(shop, product.name, header) == product == get(shop, product.name)


def test_every_read_is_in_the_language(shop: Shop):
    word = "w" + uuid.uuid4().hex[:10]
    product = make(shop, labels={"word": word}, translations={"de": {"display_name": word}})
    metadata = (("accept-language", "de"),)
    found = shop.products.SearchProducts(products_pb2.SearchProductsRequest(query=word), metadata=metadata).products
    listed = shop.products.ListProducts(
        products_pb2.ListProductsRequest(filter=f"labels.word = {word}"), metadata=metadata
    ).products
    batch = shop.products.BatchGetProducts(
        products_pb2.BatchGetProductsRequest(names=[product.name]), metadata=metadata
    ).products
    assert [[item.display_name for item in items] for items in (found, listed, batch)] == [[word]] * 3
    mask = FieldMask(paths=["display_name", "language_code"])
    assert get(shop, product.name, "de", read_mask=mask) == products_pb2.Product(display_name=word, language_code="de")


def test_variants_and_categories_have_languages(shop: Shop):
    variant = shop.variant(
        options={"size": "L", "colour": "red"}, translations={"de": {"options": {"Größe": "L", "Farbe": "rot"}}}
    )
    metadata = (("accept-language", "de"),)
    read = shop.products.GetVariant(products_pb2.GetVariantRequest(name=variant.name), metadata=metadata)
    assert (dict(read.options), read.language_code) == ({"Größe": "L", "Farbe": "rot"}, "de")
    category = shop.category(display_name="Drinks", translations={"de": {"display_name": "Getränke"}})
    read = shop.products.GetCategory(products_pb2.GetCategoryRequest(name=category.name), metadata=metadata)
    assert read.display_name == "Getränke"


@pytest.mark.parametrize("kind", [CATEGORY, PRODUCT, VARIANT], ids=str)
@pytest.mark.parametrize(
    "translations",
    [
        {"de": {}},
        {"": {"display_name": "x"}},
        {"german": {"display_name": "x"}},
        {"de_DE": {"display_name": "x"}},
        {"de\n": {"display_name": "x"}},
        {"d\u0435": {"display_name": "x"}},
        {"*": {"display_name": "x"}},
        {"de-x-shop": {"display_name": "x"}},
        {"de-AT": {"display_name": "x"}, "DE-at": {"display_name": "y"}},
        {"de": {"display_name": "x" * 201}},
        {f"a{letter}": {"display_name": "x"} for letter in "abcdefghijklmnopqrstu"},
    ],
    ids=["empty", "no tag", "word", "underscore", "newline", "cyrillic", "all", "private", "twice", "long", "21"],
)
def test_wrong_translations_are_refused(shop: Shop, kind: Kind, translations: dict[str, Any]):
    with refused("INVALID_FIELD"):
        kind.make(shop, translations=translations)


def test_tags_are_stored_in_canonical_form(shop: Shop):
    product = make(shop, translations={"ZH-hant-tw": {"display_name": "茶"}, "IW": {"display_name": "תה"}})
    assert set(get(shop, product.name).translations) == {"zh-Hant-TW", "he"}


@pytest.mark.parametrize("paths", [["display_name"], ["translations"], ["*"], []])
def test_reply_in_one_language_cannot_overwrite_texts(shop: Shop, paths: list[str]):
    name = make(shop).name
    read = get(shop, name, "de")
    request = products_pb2.UpdateProductRequest(product=read, update_mask=FieldMask(paths=paths))
    with refused("INVALID_FIELD"):
        shop.products.UpdateProduct(request)
    read.labels["shelf"] = "3"
    request = products_pb2.UpdateProductRequest(product=read, update_mask=FieldMask(paths=["labels"]))
    assert shop.products.UpdateProduct(request).display_name == "Tea"
    assert dict(get(shop, name).translations)["de"].display_name == "Tee"


def test_search_finds_the_words_of_every_language_until_they_are_removed(shop: Shop):
    words = ["w" + uuid.uuid4().hex[:10] for _ in range(3)]
    product = make(shop, translations={"de": {"display_name": words[0], "description": words[1]}})
    variant = shop.variant(parent=product.name, translations={"fr": {"display_name": words[2]}})

    def find() -> list[bool]:
        search = shop.products.SearchProducts
        return [len(search(products_pb2.SearchProductsRequest(query=word)).products) == 1 for word in words]

    assert find() == [True] * 3
    mask = FieldMask(paths=["translations"])
    for update, field, name in (("Product", "product", product.name), ("Variant", "variant", variant.name)):
        request = getattr(products_pb2, f"Update{update}Request")(**{field: {"name": name}}, update_mask=mask)
        getattr(shop.products, f"Update{update}")(request)
    assert find() == [False] * 3


def test_batch_stores_translations_and_refuses_texts_of_one_language(shop: Shop):
    request = products_pb2.CreateProductRequest(product={"display_name": "Tea", "translations": TEXTS})
    batch = products_pb2.BatchCreateProductsRequest(requests=[request])
    (created,) = (result.product for result in shop.products.BatchCreateProducts(batch).results)
    assert get(shop, created.name, "de").display_name == "Tee"
    wrong = products_pb2.Product(name=created.name, translations={"german": {"display_name": "x"}})
    for product, path in ((get(shop, created.name, "de"), "display_name"), (wrong, "translations")):
        update = products_pb2.UpdateProductRequest(product=product, update_mask=FieldMask(paths=[path]))
        with refused("INVALID_FIELD"):
            shop.products.BatchUpdateProducts(products_pb2.BatchUpdateProductsRequest(requests=[update]))
    french = products_pb2.Product(name=created.name, translations={"fr": {"display_name": "Thé"}})
    update = products_pb2.UpdateProductRequest(product=french, update_mask=FieldMask(paths=["translations"]))
    shop.products.BatchUpdateProducts(products_pb2.BatchUpdateProductsRequest(requests=[update]))
    assert {code: texts.display_name for code, texts in get(shop, created.name).translations.items()} == {"fr": "Thé"}


def test_audit_entry_has_the_translations(shop: Shop):
    product = make(shop)
    entries = shop.audit.ListAuditEntries(
        audit_pb2.ListAuditEntriesRequest(filter=f'resource = "{product.name}"')
    ).audit_entries
    assert "Schwarz" in str(entries[0])
