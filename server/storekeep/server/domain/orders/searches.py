"""Text search of orders: by number, by external reference, and by the customers that a query matches.

Hits come in this order; the orders of each customer come newest first. Invariant: the position of a hit depends on its
order, its customer and the query alone, so that pages neither skip nor repeat a hit when other orders change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from storekeep.server.domain.orders.numbers import OrderNumbers
from storekeep.server.domain.orders.orders import ROWS, Order, read_orders
from storekeep.server.domain.standard.blind_words import blind_condition
from storekeep.server.domain.standard.pages import Page, PageTokens, count_fitting_items
from storekeep.server.domain.standard.searches import SearchRequest
from storekeep.server.runtime.words import Condition, parse_query
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.listings import LAST_CHARACTER
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import order_searches as store
from storekeep.server.store.tables.search import CUSTOMER_INDEX

NUMBER, NUMBER_PREFIX, REFERENCE, CUSTOMER = 1, 2, 3, 4
"""The levels of hits, in their order: what the query matches."""
CUSTOMERS_MAX = 100
"""The most customers whose orders are read for a page. A page can therefore be short although further ones follow."""
SEQUENCE_DIGITS_MAX = 15
"""The most digits of a query that may be the sequence in an order number."""
END_US = 2**62
"""A time after all orders."""


@dataclass(frozen=True, slots=True)
class _Query:
    """A query, as the statements need it.

    Attributes:
        number: the full order number that the query may be; empty for none.
        marked: the same as shops write it that put a `#` before numbers.
        prefix: the beginning of a number or of a reference, in lower case.
        words: the condition for customers; None if customers are not searched.
    """

    number: str
    marked: str
    prefix: str
    words: Condition | None

    @property
    def values(self) -> dict[str, str]:
        """The parameters that all statements share."""
        return {
            "number": self.number,
            "marked": self.marked,
            "prefix": self.prefix,
            "prefix_end": self.prefix + LAST_CHARACTER,
        }


Position = tuple[Any, ...]
"""The level of a hit and its sort keys there. (CUSTOMER, level, rank) without an order stands behind a customer."""


@dataclass(slots=True)
class _Hits:
    """The hits of one page and one more.

    Attributes:
        found: (order id, position) of each hit.
        rest: the position to continue at if the search stopped before its end; None otherwise.
    """

    found: list[tuple[str, Position]]
    rest: Position | None = None


def search_orders(
    db: Store, request: SearchRequest, *, numbers: OrderNumbers, with_customers: bool, tokens: PageTokens
) -> Page[Order]:
    """Return one page of the orders that match a query.

    Args:
        numbers: the format of order numbers. A query of digits also finds the number with this sequence.
        with_customers: whether to search the customers of orders, which needs the permission to read customers.

    Raises: InvalidPageToken.
    """
    identity = (*request.identity, str(with_customers))
    after = tuple(tokens.read(identity, request.page_token) or ())
    query = _parse(request.query, numbers, with_customers=with_customers)
    if not query.prefix:
        return Page([])

    def work(tx: Transaction) -> Page[Order]:
        hits = _find_hits(tx, query, after, request.size + 1)
        page_hits = hits.found[: request.size]
        orders = read_orders(tx, ROWS.find_many(tx, [(order_id,) for order_id, _ in page_hits]))
        count = count_fitting_items(orders)
        following = page_hits[count - 1][1] if len(hits.found) > count else hits.rest
        return Page(orders[:count], "" if following is None else tokens.write(identity, following))

    return db.snapshot(work)


def _parse(text: str, numbers: OrderNumbers, *, with_customers: bool) -> _Query:
    stripped = " ".join(text.replace("\0", " ").split())
    is_sequence = stripped.isascii() and stripped.isdigit() and len(stripped) <= SEQUENCE_DIGITS_MAX
    number = numbers.make(int(stripped)) if is_sequence else stripped
    lowered = "".join(character.lower() if character.isascii() else character for character in stripped)
    marked = stripped if stripped.startswith("#") else f"#{stripped}"
    return _Query(number, marked, lowered, parse_query(text) if with_customers else None)


def _find_hits(tx: Transaction, query: _Query, after: Position, limit: int) -> _Hits:
    """Return the next hits, at most `limit`."""
    level = after[0] if after else 0
    hits = _Hits([])
    if level <= NUMBER:
        last = after[1] if after else ""
        rows = store.FIND_BY_NUMBER.all(tx, number=query.number, marked=query.marked, after=last, limit=limit)
        hits.found += [(order_id, (NUMBER, number)) for order_id, number in rows]
    for kind, statement in ((NUMBER_PREFIX, store.FIND_BY_NUMBER_PREFIX), (REFERENCE, store.FIND_BY_REFERENCE_PREFIX)):
        if level <= kind and len(hits.found) < limit:
            start = after[1:] if level == kind else ("", "")
            hits.found += _find_by_prefix(tx, statement, query, kind, start, limit - len(hits.found))
    if query.words is not None and len(hits.found) < limit:
        _add_orders_of_customers(tx, query, query.words, after[1:] if level == CUSTOMER else (), limit, hits)
    return hits


def _find_by_prefix(
    tx: Transaction, statement: Statement, query: _Query, kind: int, after: Position, limit: int
) -> list[tuple[str, Position]]:
    text, order_id = after
    low = max(query.prefix, text)
    rows = statement.all(tx, **query.values, low=low, after=text, after_id=order_id, limit=limit)
    return [(found_id, (kind, found, found_id)) for found_id, found in rows]


def _add_orders_of_customers(
    tx: Transaction, query: _Query, words: Condition, after: Position, limit: int, hits: _Hits
) -> None:
    """Add the orders of the matching customers, best match first, until there are `limit` hits.

    Args:
        after: the level and the rank of the last customer, then time and id of the last order, if it may have more.
    """
    level, rank, *order = after or (0, 0)
    start = (level, rank - 1) if order else (level, rank)
    customers = CUSTOMER_INDEX.search(tx, blind_condition(tx, words), after=start, limit=CUSTOMERS_MAX, show_all=True)
    for customer in customers:
        before = order if order and customer.position == (level, rank) else (END_US, "")
        rows = store.FIND_BY_CUSTOMER.all(
            tx,
            **query.values,
            customer_id=customer.key,
            before_us=before[0],
            before_id=before[1],
            limit=limit - len(hits.found),
        )
        hits.found += [(order_id, (CUSTOMER, *customer.position, time_us, order_id)) for order_id, time_us in rows]
        if len(hits.found) == limit:
            return
    if len(customers) == CUSTOMERS_MAX:
        hits.rest = (CUSTOMER, *customers[-1].position)
