"""Preparations: search documents of a batch are built before its transaction, and fit whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from msgspec.structs import replace

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.catalog.preparations import prepare_products, prepare_variants
from storekeep.server.domain.catalog.products import PRODUCTS, Product
from storekeep.server.domain.catalog.translations import LocalizedText, LocalizedVariant
from storekeep.server.domain.catalog.variants import VARIANTS, Variant
from storekeep.server.domain.customers import CUSTOMERS, Customer, LabelledAddress, prepare_customers
from storekeep.server.domain.integrity.search_documents import check_documents
from storekeep.server.domain.keys.personal_fields import install_index_key
from storekeep.server.domain.money import Money
from storekeep.server.domain.personal_data.erasures import erase_customer
from storekeep.server.domain.standard.batches import run_batch
from storekeep.server.domain.standard.collections import Addition, Collection, Edit
from storekeep.server.domain.standard.preparations import Preparation, Prepare, prepare_nothing
from storekeep.server.store.engine import Store
from storekeep.server.store.tables.search import Words
from tests.support.databases import Database
from tests.support.placing import CALL
from tests.support.stores import open_store

MARK = Words("mark", "", 1)
"""A document that no text has."""
each_mode = pytest.mark.parametrize("per_item", [False, True], ids=["whole", "per_item"])


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    """Open a store that has the key of blind indexes, as that of a server does."""
    with closing(open_store(database.url)) as opened:
        opened.write(install_index_key)
        yield opened


def build_customer(number: int, **fields: Any) -> Customer:
    address = LabelledAddress("home", Address(recipient=f"Jürgen {number}", locality="Köln", region_code="DE"))
    given = {"display_name": f"Bäckerei Nr. {number}", "email": f"b{number}@example.com", "addresses": (address,)}
    return Customer(f"c{number}", **given | fields)


def build_product(number: int, **fields: Any) -> Product:
    texts = {"de": LocalizedText(f"Grüner Tee {number}", "Schmeckt"), "ja": LocalizedText("緑茶", "おいしいお茶")}
    given = {"display_name": f"Green tea {number}", "description": "From Uji", "translations": texts}
    return Product(f"p{number}", **given | fields)


def build_variant(number: int, **fields: Any) -> Variant:
    texts = {"fr": LocalizedVariant(f"Sachet {number}")}
    given = {"sku": f"TEA-{number}", "display_name": f"Bag {number}", "barcode": f"40000{number}"}
    given |= {"translations": texts, "prices": (Money("EUR", 100),)}
    return Variant(f"p{number % 3}", f"v{number}", **given | fields)


def run(store: Store, effects: Sequence[Any], *, prepare: Prepare, per_item: bool = False) -> list[Any]:
    """Run a batch, and return its resources."""
    resource = effects[0].collection.resource
    results = run_batch(store, CALL, effects, resource=resource, per_item=per_item, prepare=prepare)
    return [result.resource for result in results]


def add_each(store: Store, collection: Collection[Any], build: Callable[[int], Any], count: int = 6) -> list[Any]:
    effects = [Addition(collection, build(number)) for number in range(count)]
    return run(store, effects, prepare=prepare_nothing)


def mark(prepare: Prepare) -> Prepare:
    """Return the same preparation with `MARK` in place of each document, which then shows where it is used."""

    def prepare_marks(db: Store, effects: Sequence[Any]) -> Preparation:
        preparation = prepare(db, effects)
        preparation.documents = dict.fromkeys(preparation.documents, MARK)
        return preparation

    return prepare_marks


def count_marks(store: Store, table: str) -> int:
    sql = f"SELECT COUNT(*) FROM {table} WHERE title = 'mark'"
    return store.read(lambda tx: int(tx.connection.execute(sql).fetchone()[0]))


def build_edits(collection: Collection[Any], resources: Sequence[Any], **changes: Any) -> list[Edit[Any]]:
    return [Edit(collection, replace(one, **changes), tuple(changes), "") for one in resources]


@each_mode
def test_documents_of_new_resources_are_those_that_were_prepared(store: Store, per_item: bool):
    customers = [Addition(CUSTOMERS, build_customer(number)) for number in range(6)]
    products = [Addition(PRODUCTS, build_product(number)) for number in range(3)]
    variants = [Addition(VARIANTS, build_variant(number)) for number in range(6)]
    run(store, customers, prepare=mark(prepare_customers), per_item=per_item)
    assert count_marks(store, "customer_documents") == 6
    run(store, products, prepare=mark(prepare_products), per_item=per_item)
    assert count_marks(store, "product_documents") == 3
    run(store, build_edits(PRODUCTS, [one.resource for one in products], description=""), prepare=prepare_products)
    assert count_marks(store, "product_documents") == 0
    run(store, variants, prepare=mark(prepare_variants), per_item=per_item)
    assert count_marks(store, "product_documents") == 3


@each_mode
def test_documents_of_changed_resources_are_those_that_were_prepared(store: Store, per_item: bool):
    customers = add_each(store, CUSTOMERS, build_customer)
    products = add_each(store, PRODUCTS, build_product, 3)
    variants = add_each(store, VARIANTS, build_variant)
    edits = build_edits(CUSTOMERS, customers, phone="+49 30 1234")
    run(store, edits, prepare=mark(prepare_customers), per_item=per_item)
    assert count_marks(store, "customer_documents") == 6
    edits = build_edits(PRODUCTS, products, display_name="Black tea")
    run(store, edits, prepare=mark(prepare_products), per_item=per_item)
    assert count_marks(store, "product_documents") == 3
    run(store, build_edits(PRODUCTS, products, description=""), prepare=prepare_products)
    edits = build_edits(VARIANTS, variants, display_name="Tin")
    run(store, edits, prepare=mark(prepare_variants), per_item=per_item)
    assert count_marks(store, "product_documents") == 3


@each_mode
def test_batch_writes_the_documents_that_verify_expects(store: Store, per_item: bool):
    for collection, build, prepare, changes in (
        (CUSTOMERS, build_customer, prepare_customers, {"display_name": "Ölmühle"}),
        (PRODUCTS, build_product, prepare_products, {"description": "Weiß 白茶"}),
        (VARIANTS, build_variant, prepare_variants, {"translations": {"de": LocalizedVariant("Dose")}}),
    ):
        effects = [Addition(collection, build(number)) for number in range(6)]
        made = run(store, effects, prepare=prepare, per_item=per_item)
        run(store, build_edits(collection, made, **changes), prepare=prepare, per_item=per_item)
    assert list(check_documents(store)) == []


def test_change_between_preparation_and_transaction_is_indexed(store: Store):
    """The batch keeps the other fields as they are then, so what was prepared does not fit."""
    customers = add_each(store, CUSTOMERS, build_customer)
    products = add_each(store, PRODUCTS, build_product, 3)
    variants = add_each(store, VARIANTS, build_variant)

    def follow(prepare: Prepare, effects: Sequence[Any]) -> Prepare:
        def prepare_early(db: Store, own: Sequence[Any]) -> Preparation:
            preparation = prepare(db, own)
            run(db, effects, prepare=prepare_nothing)
            return preparation

        return prepare_early

    between = build_edits(CUSTOMERS, customers, email="new@example.com")
    run(store, build_edits(CUSTOMERS, customers, phone="+49 30 1"), prepare=follow(prepare_customers, between))
    between = build_edits(PRODUCTS, products, display_name="Between")
    run(store, build_edits(PRODUCTS, products, description="Later"), prepare=follow(prepare_products, between))
    between = build_edits(VARIANTS, variants, barcode="77")
    run(store, build_edits(VARIANTS, variants, display_name="Later"), prepare=follow(prepare_variants, between))
    assert list(check_documents(store)) == []


def test_key_that_is_replaced_between_preparation_and_transaction_hashes_the_words(store: Store):
    def prepare_for_another(db: Store, effects: Sequence[Any]) -> Preparation:
        prepared = prepare_customers(db, effects)
        other = Preparation(subjects=prepared.subjects)
        other.documents = dict.fromkeys(prepared.documents, MARK)
        return other

    run(store, [Addition(CUSTOMERS, build_customer(1))], prepare=prepare_for_another)
    assert count_marks(store, "customer_documents") == 0
    assert list(check_documents(store)) == []


def test_erased_person_prevents_no_key_of_others(store: Store):
    """The whole batch is refused for that item, with its index; without it, the others get keys of their own."""
    made = add_each(store, CUSTOMERS, build_customer, 1)
    erase_customer(store, CALL, made[0].id, etag="", force=True)
    others = [Addition(CUSTOMERS, build_customer(number)) for number in (1, 2)]
    with pytest.raises(Exception, match="c0") as refused:
        run(store, [*others, Addition(CUSTOMERS, build_customer(0))], prepare=prepare_customers)
    assert refused.value.metadata["index"] == "2"
    assert len(run(store, others, prepare=prepare_customers)) == 2
