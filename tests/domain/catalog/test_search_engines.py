"""Search finds the same products on both engines, in the same order: those whose words match."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.catalog.products import PRODUCTS, Product
from storekeep.server.domain.catalog.search import search_products
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.standard.searches import SearchRequest
from storekeep.server.runtime.words import list_words, parse_query
from storekeep.server.store.engine import Store
from storekeep.server.store.tables.search import PRODUCT_INDEX, build_words
from tests.runtime.test_words import FOUND, MANY, matches
from tests.support.databases import new_database
from tests.support.stores import open_store

CALL = Call(Caller("serviceAccounts/test"), "storekeep.v1.ProductService/CreateProduct")
TOKENS = PageTokens(Keyring.from_secret(b"secret of the page tokens, 32 b."))
TEXTS = [
    *(text for text, _ in FOUND),
    "Tea",
    "Tea, green",
    "Green tea of the first flush",
    "tea " * 50,
    "a-b_c.d e's",
    "\U0001e900\U0001e943",
    "クッキー クッキーカッター",
]
DETAILS = ["", "tea", "a green mug for tea", "宇治緑茶", "l'eau"]
QUERIES = [*(query for _, query in FOUND), "tea", "t", "green t", "茶", "a b", "e", "クッキー", "mug", "\U0001e922"]


@contextmanager
def fill_store(engine: str, folder: Path) -> Iterator[Store]:
    """Yield a store with one product for each text, some with a description."""
    database = new_database(engine, folder / engine)
    with closing(open_store(database.url)) as store:
        for number, text in enumerate(TEXTS):
            product = Product(f"p{number}", text, DETAILS[number % len(DETAILS)])
            PRODUCTS.create(store, CALL, product)
        yield store
    database.remove()


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, ...]]:
    folder = tmp_path_factory.mktemp("engines")
    with fill_store("sqlite", folder) as sqlite, fill_store("postgresql", folder) as postgresql:
        yield sqlite, postgresql


def list_hits(store: Store, query: str, *, page_size: int = 100) -> list[str]:
    """Return the ids of all hits, page by page."""
    ids: list[str] = []
    token = ""
    while True:
        page = search_products(store, SearchRequest("Search", query, page_size, token), tokens=TOKENS)
        ids += [product.id for product in page.items]
        token = page.next_page_token
        if not token:
            return ids


def list_expected(query: str) -> list[str]:
    """Return what must be found: titles first, short before long, old before new."""
    condition = parse_query(query)
    if condition is None:
        return []
    ranked = []
    for number, text in enumerate(TEXTS):
        title = list_words([text], words_max=MANY)
        details = list_words([DETAILS[number % len(DETAILS)]], words_max=MANY)
        if matches(condition, title | details):
            ranked.append((not matches(condition, title), len(title), number))
    return [f"p{number}" for *_, number in sorted(ranked)]


@pytest.mark.parametrize("page_size", [1, 100])
def test_both_engines_give_the_expected_hits_in_the_same_order(stores, page_size: int):
    for query in QUERIES:
        expected = list_expected(query)
        assert expected, query
        assert [list_hits(store, query, page_size=page_size) for store in stores] == [expected, expected], query


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    query=st.one_of(
        st.text(min_size=1, max_size=200),
        st.lists(st.sampled_from(sorted({word for text in TEXTS for word in text.split()})), max_size=5).map(" ".join),
        st.text("ab-'. \u0e01\u0e34\u8336\u7dd1\u00e4\u0301", min_size=150, max_size=200),
    )
)
def test_both_engines_answer_any_query_alike(stores, query: str):
    expected = list_expected(query)
    assert [list_hits(store, query) for store in stores] == [expected, expected]


WIDE = "\U0001f1e6\u0e01" + "\u0e34" * 25
LARGE = {
    "codes": [f"{number:x}-{'茶' * (number % 9)}" for number in range(12_000)],
    "long words": [chr(0x20000 - 200 + number) * 60 + f"{number:x}" for number in range(199)] * 9,
    "letters with many marks": [f"{WIDE}{number:x}" for number in range(9_000)],
    "joined words": ["-".join(f"{number:x}\U00010400" for number in range(first, first + 40)) for first in range(900)],
}


@pytest.mark.parametrize("texts", LARGE.values(), ids=LARGE)
def test_a_very_large_document_is_stored_and_found(stores, texts: list[str]):
    words = build_words("huge 2ee0-", title=texts, details=texts)
    for store in stores:

        def work(tx, store=store):
            PRODUCT_INDEX.put(tx, "p0", words)
            hits = PRODUCT_INDEX.search(tx, parse_query("2ee0-"), after=(0, 0), limit=5)
            tx.rollback_only = True
            return [hit.key for hit in hits]

        assert store.write(work, dry_run=True) == ["p0"]
        assert list_hits(store, "Rössle") == ["p0"]
