"""Text search of products by name, SKU, barcode and description, best match first."""

from __future__ import annotations

from storekeep.server.domain.catalog.products import PRODUCTS, Product
from storekeep.server.domain.standard.pages import Page, PageTokens
from storekeep.server.domain.standard.searches import SearchRequest, search_page
from storekeep.server.store.engine import Store
from storekeep.server.store.tables.search import PRODUCT_INDEX


def search_products(db: Store, request: SearchRequest, *, tokens: PageTokens) -> Page[Product]:
    """Return one page of the products that match all words of the query. The last word matches as a prefix.

    Raises: InvalidPageToken.
    """
    return search_page(db, PRODUCTS, PRODUCT_INDEX, request, tokens=tokens)
