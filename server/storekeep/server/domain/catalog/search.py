"""Search: products by the words in their names, descriptions, SKUs and barcodes, best match first."""

from __future__ import annotations

from storekeep.server.domain.catalog.products import PRODUCTS, Product
from storekeep.server.domain.standard.pages import Page, PageTokens, count_fitting
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.search import SEARCH, match_expression

PAGE_SIZE_DEFAULT = 20


def search_products(
    db: Store, query: str, *, page_size: int, page_token: str, show_archived: bool, tokens: PageTokens
) -> Page[Product]:
    """One page of the products that hold all words of the query; the last may be the beginning of a word.

    Raises: InvalidPageToken.
    """
    identity = ("SearchProducts", query, str(show_archived))
    rank, last_id = tokens.read(identity, page_token) or (None, None)
    size = page_size or PAGE_SIZE_DEFAULT

    def work(tx: Transaction) -> Page[Product]:
        words = match_expression(query, tx.dialect)
        if not words:
            return Page([])
        hits = SEARCH.all(tx, words=words, show_archived=show_archived, rank=rank, id=last_id, limit=size + 1)
        shown = hits[:size]
        found = PRODUCTS.read_rows(tx, PRODUCTS.rows.find_many(tx, [(hit[0],) for hit in shown]))
        fitting = count_fitting(found)
        return Page(found[:fitting], tokens.write(identity, shown[fitting - 1][1:]) if len(hits) > fitting else "")

    return db.snapshot(work)
