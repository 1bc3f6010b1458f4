"""Text search: pages of the resources whose documents match all words of a query.

Invariant: the position of a hit depends on its document and on the query alone, so that no change of another resource
makes a page skip a hit or repeat one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from storekeep.server.domain.standard.collections import Collection, R
from storekeep.server.domain.standard.pages import Page, PageTokens, count_fitting_items, limit_page_size
from storekeep.server.runtime.words import WORDS_VERSION, Condition, parse_query
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.search import SearchIndex

PAGE_SIZE_DEFAULT = 20
PAGE_SIZE_MAX = 100
FIRST = (0, 0)
"""The position before all hits."""


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """The parameters that all Search methods share.

    Attributes:
        method: the RPC. A page token is valid for its method only.
        query: the words to find.
        page_size: the most results to return: 0 for the default, at most `PAGE_SIZE_MAX`.
        page_token: the token of the page to return; empty for the first page.
        show_all: whether to include resources that a search usually omits: archived products, deleted customers.
        show_drafts: whether to include drafts of products; the caller must be allowed to see them.
    """

    method: str
    query: str
    page_size: int = 0
    page_token: str = ""
    show_all: bool = False
    show_drafts: bool = False

    @property
    def identity(self) -> Sequence[str]:
        """The parts of the request that a page token is bound to."""
        return self.method, WORDS_VERSION, self.query, str(self.show_all), str(self.show_drafts)

    @property
    def size(self) -> int:
        """The most results to return."""
        return limit_page_size(self.page_size, default=PAGE_SIZE_DEFAULT, largest=PAGE_SIZE_MAX)


def search_page(
    db: Store,
    collection: Collection[R],
    index: SearchIndex,
    request: SearchRequest,
    *,
    tokens: PageTokens,
    convert: Callable[[Transaction, Condition], Condition] = lambda tx, condition: condition,
) -> Page[R]:
    """Return one page of the resources of a collection that match all words of a query, best match first.

    Args:
        convert: returns the condition for the words as they are stored.

    Raises: InvalidPageToken.
    """
    after: Sequence[Any] = tokens.read(request.identity, request.page_token) or FIRST
    condition = parse_query(request.query)
    if condition is None:
        return Page([])

    def work(tx: Transaction) -> Page[R]:
        hits = index.search(
            tx,
            convert(tx, condition),
            after=after,
            limit=request.size + 1,
            show_all=request.show_all,
            show_drafts=request.show_drafts,
        )
        page_hits = hits[: request.size]
        items = collection.read_rows(tx, collection.rows.find_many(tx, [(hit.key,) for hit in page_hits]))
        count = count_fitting_items(items)
        token = tokens.write(request.identity, page_hits[count - 1].position) if len(hits) > count else ""
        return Page(items[:count], token)

    return db.snapshot(work)
