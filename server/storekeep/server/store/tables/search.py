"""Full-text search of products, over one document per product.

SQLite searches the FTS5 table `product_search`, which triggers keep up to date. PostgreSQL searches the generated
column `words`. Both ignore accents and case and do no stemming. They rank differently, and PostgreSQL indexes only the
first 200,000 characters of a document.
"""

from __future__ import annotations

import re
import unicodedata

import peewee

from storekeep.server.store.sql.dialects import Dialect
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Table
from storekeep.server.store.tables.catalog import ON_SALE, Product

WORD = re.compile(r"[^\W_]+")
ACCENTS = re.compile("[\u0300-\u036f]+")


class ProductDocument(Table):
    """The searchable text of one product."""

    id = peewee.BigAutoField()
    product = peewee.ForeignKeyField(Product, unique=True)
    content = peewee.TextField()

    class Meta:
        table_name = "product_documents"


INDEX_PRODUCT = Statement(
    """
    INSERT INTO product_documents (product_id, content)
    SELECT id, display_name || ' ' || description || ' ' || COALESCE(
               (SELECT STRING_AGG(sku || ' ' || display_name || ' ' || barcode, ' ') FROM variants
                WHERE variants.product_id = products.id AND variants.delete_time_us IS NULL), '')
    FROM products WHERE id = :product_id
    ON CONFLICT (product_id) DO UPDATE SET content = excluded.content
    WHERE product_documents.content <> excluded.content
    """
)
"""Rebuild the document of a product from its row and the rows of its variants."""
SEARCH = Statement(
    f"""
    SELECT product_documents.product_id, product_search.rank, product_documents.id
    FROM product_search
    JOIN product_documents ON product_documents.id = product_search.rowid
    JOIN products ON products.id = product_documents.product_id
    WHERE product_search MATCH :words AND products.delete_time_us IS NULL
      AND ({ON_SALE} OR :show_archived AND products.state = 'ARCHIVED' OR :show_drafts AND products.state = 'DRAFT')
      AND (:rank IS NULL OR (product_search.rank, product_documents.id) > (:rank, :id))
    ORDER BY product_search.rank, product_documents.id LIMIT :limit
    """,  # noqa: S608 - the names of columns
    postgresql=f"""
    SELECT product_id, rank, id
    FROM (
        SELECT product_documents.product_id, -CAST(ts_rank(words, search_query, 1) AS DOUBLE PRECISION) AS rank,
               product_documents.id AS id
        FROM to_tsquery('simple', :words) AS search_query
        CROSS JOIN product_documents
        JOIN products ON products.id = product_documents.product_id
        WHERE words @@ search_query AND products.delete_time_us IS NULL
          AND ({ON_SALE} OR :show_archived AND products.state = 'ARCHIVED'
               OR :show_drafts AND products.state = 'DRAFT')
    ) AS hits
    WHERE CAST(:rank AS DOUBLE PRECISION) IS NULL
       OR (rank, id) > (CAST(:rank AS DOUBLE PRECISION), CAST(:id AS BIGINT))
    ORDER BY rank, id LIMIT :limit
    """,  # noqa: S608 - the names of columns
)
"""Products that contain all words, best match first, after the cursor (`rank`, `id`) of the last page.

SQLite ranks by BM25, PostgreSQL by the frequency of the words, divided by the logarithm of the length."""


def build_match_expression(query: str, dialect: Dialect) -> str:
    """Return a search query in the syntax of the engine; empty if it has no words.

    Every word must match, the last one as a prefix. Words are quoted, so that none is read as an operator.
    """
    if dialect.name == "postgresql":
        unaccented = ACCENTS.sub("", unicodedata.normalize("NFD", query))
        words = [f"'{word}'" for word in WORD.findall(unaccented)]
        return " & ".join(words) + ":*" if words else ""
    words = [f'"{word}"' for word in WORD.findall(query)]
    return " ".join(words) + "*" if words else ""
