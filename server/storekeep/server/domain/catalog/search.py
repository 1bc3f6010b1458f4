"""Full-text search of products by name, description, SKU and barcode, best match first."""

from __future__ import annotations

from storekeep.server.domain.catalog.products import PRODUCTS, Product
from storekeep.server.domain.standard.pages import Page, PageTokens, count_fitting_items
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.search import SEARCH, build_match_expression

PAGE_SIZE_DEFAULT = 20


def search_products(
    db: Store,
    query: str,
    *,
    page_size: int,
    page_token: str,
    show_archived: bool,
    show_drafts: bool,
    tokens: PageTokens,
) -> Page[Product]:
    """Return one page of the products that match all words of the query. The last word matches as a prefix.

    Args:
        show_archived: whether to find archived products, too.
        show_drafts: whether to find drafts, too; the caller must be allowed to see them.

    Raises: InvalidPageToken.
    """
    identity = ("SearchProducts", query, str(show_archived), str(show_drafts))
    rank, last_id = tokens.read(identity, page_token) or (None, None)
    size = page_size or PAGE_SIZE_DEFAULT

    def work(tx: Transaction) -> Page[Product]:
        words = build_match_expression(query, tx.dialect)
        if not words:
            return Page([])
        hits = SEARCH.all(
            tx,
            words=words,
            show_archived=show_archived,
            show_drafts=show_drafts,
            now_us=tx.now_us,
            rank=rank,
            id=last_id,
            limit=size + 1,
        )
        page_hits = hits[:size]
        products = PRODUCTS.read_rows(tx, PRODUCTS.rows.find_many(tx, [(hit[0],) for hit in page_hits]))
        fitting = count_fitting_items(products)
        next_token = tokens.write(identity, page_hits[fitting - 1][1:]) if len(hits) > fitting else ""
        return Page(products[:fitting], next_token)

    return db.snapshot(work)
