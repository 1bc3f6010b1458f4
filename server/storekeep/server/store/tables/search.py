"""Text search of products and customers, over one document per resource.

A document holds words that `runtime.words` has cut. SQLite indexes them in FTS5 tables, which triggers keep up to date,
PostgreSQL in generated columns. Both only compare words, so that they find the same documents in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import peewee

from storekeep.server.runtime.words import AllOf, Condition, Term, list_words
from storekeep.server.store.sql.dialects import Dialect
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Table, Transaction
from storekeep.server.store.tables.catalog import ON_SALE, Product
from storekeep.server.store.tables.customers import Customer

RANK_STEP = 2**40
"""The rank of a document is its length times this, plus its id: short titles come first, then old documents."""
LENGTH_MAX = 4_095
"""The maximum length of a document, for its rank."""
TITLE_WORDS_MAX = 1_200
DETAILS_WORDS_MAX = 2_400
"""The most words of the title and of the details. They bound the CPU time of a write, to some 20 ms; and
PostgreSQL indexes at most 1 MiB of both, which none of these has even with words of 64 characters of 1 byte."""
TITLE, DETAILS = 1, 2
"""The levels of hits: all words are in the title, or some are in the details only."""
LEVELS = (TITLE, DETAILS)


class ProductDocument(Table):
    """The document of a product and its variants; see `Words`."""

    id = peewee.BigAutoField()
    product = peewee.ForeignKeyField(Product, unique=True)
    title = peewee.TextField()
    details = peewee.TextField()
    length = peewee.IntegerField()

    class Meta:
        table_name = "product_documents"


class CustomerDocument(Table):
    """The document of a customer; see `Words`."""

    id = peewee.BigAutoField()
    customer = peewee.ForeignKeyField(Customer, unique=True)
    title = peewee.TextField()
    details = peewee.TextField()
    length = peewee.IntegerField()

    class Meta:
        table_name = "customer_documents"


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a document: sorted, each once, with spaces between them.

    Attributes:
        title: the words of names, numbers and codes.
        details: the words of longer texts.
        length: the number of words of the display name, at most `LENGTH_MAX`.
    """

    title: str
    details: str
    length: int


def build_words(
    display_name: str,
    *,
    title: Iterable[str],
    details: Sequence[str],
    details_words_max: int = DETAILS_WORDS_MAX,
    share: bool = False,
) -> Words:
    """Cut the texts of a resource into the words of its document: as many as fit, in the order of the texts.

    Args:
        title: names, numbers and codes, beside the display name.
        details: longer texts.
        details_words_max: the most words of these.
        share: whether each of the longer texts gets an equal share of the room, as texts in several languages need.
    """
    name_words = list_words((display_name,), words_max=TITLE_WORDS_MAX)
    title_words = name_words | list_words(title, words_max=TITLE_WORDS_MAX - len(name_words))
    parts = [(text,) for text in details if text] if share else [details]
    words_max = details_words_max // max(len(parts), 1)
    details_words = {word for part in parts for word in list_words(part, words_max=words_max)}
    return Words(_join(title_words), _join(details_words), min(len(name_words), LENGTH_MAX))


def _join(words: Iterable[str]) -> str:
    return " ".join(sorted(words))


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that matches a query.

    Attributes:
        key: the id of its resource.
        position: its level and its rank, which sort all hits of a query. They depend on the document and on the query
            alone, so that changes of other documents do not move it.
    """

    key: str
    position: tuple[int, int]


class SearchIndex:
    """The documents of one kind of resource.

    Args:
        noun: the singular of the resource's table.
        condition: SQL that a found row must meet, with the parameters of `search`.
    """

    def __init__(self, noun: str, *, condition: str) -> None:
        documents, resources = f"{noun}_documents", f"{noun}s"
        rank = f"(CAST({documents}.length AS BIGINT) * {RANK_STEP} + {documents}.id)"
        joined = f"JOIN {resources} ON {resources}.id = {documents}.{noun}_id"
        self._put = Statement(
            f"""
            INSERT INTO {documents} ({noun}_id, title, details, length) VALUES (:key, :title, :details, :length)
            ON CONFLICT ({noun}_id) DO UPDATE
            SET title = excluded.title, details = excluded.details, length = excluded.length
            """  # noqa: S608 - the names of tables
        )
        self._clear = Statement(f"INSERT INTO {noun}_search ({noun}_search) VALUES ('delete-all')")  # noqa: S608
        # The ranks alone are sorted: the texts of a million customers would take 0.9 GB of memory. The limit keeps the
        # order, which SQLite may omit from a subquery without one.
        self._fill = Statement(
            f"""
            INSERT INTO {noun}_search (rowid, title, details)
            SELECT sorted.rank, {documents}.title, {documents}.details
            FROM (
                SELECT id, length * {RANK_STEP} + id AS rank FROM {documents} ORDER BY rank LIMIT -1
            ) AS sorted
            CROSS JOIN {documents} ON {documents}.id = sorted.id
            """  # noqa: S608 - the names of tables
        )
        self._find = Statement(
            f"SELECT {noun}_id, title, details, length FROM {documents} WHERE {noun}_id IN TEXTS(:keys)"  # noqa: S608
        )
        self._search = Statement(
            f"""
            SELECT {documents}.{noun}_id, {noun}_search.rowid
            FROM {noun}_search
            JOIN {documents} ON {documents}.id = {noun}_search.rowid % {RANK_STEP} {joined}
            WHERE {noun}_search MATCH :words AND {noun}_search.rowid > :rank AND {condition}
            ORDER BY {noun}_search.rowid LIMIT :limit
            """,  # noqa: S608 - the names of tables
            postgresql=f"""
            SELECT {documents}.{noun}_id, {rank}
            FROM {documents} {joined}
            WHERE words @@ CAST(:words AS TSQUERY) AND (title_words @@ CAST(:words AS TSQUERY)) = :in_title
              AND {rank} > CAST(:rank AS BIGINT) AND {condition}
            ORDER BY {rank} LIMIT :limit
            """,  # noqa: S608 - the names of tables
        )

    def rebuild(self, tx: Transaction) -> None:
        """Fill the text index from the documents. PostgreSQL's is a column of the documents, and always up to date."""
        if tx.dialect.name == "sqlite":
            self._clear.run(tx)
            self._fill.run(tx)

    def put(self, tx: Transaction, key: str, words: Words) -> None:
        """Write the document of a resource."""
        self._put.run(tx, key=key, title=words.title, details=words.details, length=words.length)

    def find(self, tx: Transaction, keys: str) -> dict[str, Words]:
        """Return the documents of some resources.

        Args:
            keys: the ids of the resources, as a JSON array.
        """
        return {key: Words(*words) for key, *words in self._find.all(tx, keys=keys)}

    def search(
        self,
        tx: Transaction,
        condition: Condition,
        *,
        after: Sequence[int],
        limit: int,
        show_all: bool = False,
        show_drafts: bool = False,
    ) -> list[Hit]:
        """Return the next hits, best match first.

        Args:
            after: the position of the last hit before; (0, 0) for the first hits.
            limit: the most hits to return.
            show_all: include resources that a search usually omits: archived products, deleted customers.
            show_drafts: include drafts of products.
        """
        last_level, last_rank = after
        hits: list[Hit] = []
        for level in LEVELS:
            if level < last_level or len(hits) == limit:
                continue
            rows = self._search.all(
                tx,
                words=build_match_expression(condition, tx.dialect, level=level),
                in_title=level == TITLE,
                rank=last_rank if level == last_level else 0,
                show_all=show_all,
                show_drafts=show_drafts,
                now_us=tx.now_us,
                limit=limit - len(hits),
            )
            hits += [Hit(key, (level, rank)) for key, rank in rows]
        return hits


PRODUCT_INDEX = SearchIndex(
    "product",
    condition=f"""
    products.delete_time_us IS NULL
    AND ({ON_SALE} OR :show_all AND products.state = 'ARCHIVED' OR :show_drafts AND products.state = 'DRAFT')
    """,
)
CUSTOMER_INDEX = SearchIndex("customer", condition="(:show_all OR customers.delete_time_us IS NULL)")
PRODUCT_TEXTS = Statement("SELECT display_name, description, translations FROM products WHERE id = :product_id")
"""The searchable texts of a product."""
PRODUCT_IDS_AFTER = Statement("SELECT id FROM products WHERE id > :after ORDER BY id LIMIT :limit")
CUSTOMER_IDS_AFTER = Statement("SELECT id FROM customers WHERE id > :after ORDER BY id LIMIT :limit")
VARIANT_TEXTS = Statement(
    """
    SELECT sku, display_name, barcode, translations FROM variants
    WHERE product_id = :product_id AND delete_time_us IS NULL ORDER BY sku
    """
)
"""The searchable texts of the variants of a product."""


def build_match_expression(condition: Condition, dialect: Dialect, *, level: int) -> str:
    """Return a search condition in the syntax of the engine.

    PostgreSQL compares the title in a column of its own, so that its expression is the same for each level.
    """
    if dialect.name == "postgresql":
        return _build(condition, _format_lexeme, " & ", " | ")
    expression = _build(condition, _format_string, " AND ", " OR ")
    in_title = f"{{title}}: ({expression})"
    return in_title if level == TITLE else f"({expression}) NOT ({in_title})"


def _build(condition: Condition, format_term: Callable[[Term], str], conjunction: str, disjunction: str) -> str:
    if isinstance(condition, Term):
        return format_term(condition)
    operator = conjunction if isinstance(condition, AllOf) else disjunction
    operands = [_build(operand, format_term, conjunction, disjunction) for operand in condition.operands]
    return f"({operator.join(operands)})"


def _format_lexeme(term: Term) -> str:
    return f"'{term.word}':*" if term.is_prefix else f"'{term.word}'"


def _format_string(term: Term) -> str:
    return f'"{term.word}" *' if term.is_prefix else f'"{term.word}"'
