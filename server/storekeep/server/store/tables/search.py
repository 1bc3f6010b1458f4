"""What product search looks through: one document a product.

On SQLite an FTS5 table `product_search`, which triggers keep in step with the documents, does the looking; on
PostgreSQL a column `words` that it generates from each document. Both know words without accents and case, and no
language; they differ in how they rank, and PostgreSQL looks through the first 200,000 characters of a document.
"""

from __future__ import annotations

import re
import unicodedata

import peewee

from storekeep.server.store.sql.dialects import Dialect
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Table
from storekeep.server.store.tables.catalog import Product

WORD = re.compile(r"[^\W_]+")
ACCENTS = re.compile("[\u0300-\u036f]+")


class ProductDocument(Table):
    """All words by which a product is found."""

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
"""Write the document of a product anew, from its row and those of its variants."""
SEARCH = Statement(
    """
    SELECT product_documents.product_id, product_search.rank, product_documents.id
    FROM product_search
    JOIN product_documents ON product_documents.id = product_search.rowid
    JOIN products ON products.id = product_documents.product_id
    WHERE product_search MATCH :words AND products.delete_time_us IS NULL
      AND (:show_archived OR products.state = 'ACTIVE')
      AND (:rank IS NULL OR (product_search.rank, product_documents.id) > (:rank, :id))
    ORDER BY product_search.rank, product_documents.id LIMIT :limit
    """,
    postgresql="""
    SELECT product_id, rank, id
    FROM (
        SELECT product_documents.product_id, -CAST(ts_rank(words, wanted, 1) AS DOUBLE PRECISION) AS rank,
               product_documents.id AS id
        FROM to_tsquery('simple', :words) AS wanted
        CROSS JOIN product_documents
        JOIN products ON products.id = product_documents.product_id
        WHERE words @@ wanted AND products.delete_time_us IS NULL
          AND (:show_archived OR products.state = 'ACTIVE')
    ) AS hits
    WHERE CAST(:rank AS DOUBLE PRECISION) IS NULL
       OR (rank, id) > (CAST(:rank AS DOUBLE PRECISION), CAST(:id AS BIGINT))
    ORDER BY rank, id LIMIT :limit
    """,
)
"""Products that hold all words, best match first, after the place (`rank`, `id`) where the last page ended.

SQLite ranks by BM25; PostgreSQL by how often the words occur, less for a long document."""


def match_expression(query: str, dialect: Dialect) -> str:
    """A query as the engine has it: every word must occur, the last may be the beginning of one.

    Words are quoted, so that none is an operator. Empty when there is no word.
    """
    if dialect.name == "postgresql":
        bare = ACCENTS.sub("", unicodedata.normalize("NFD", query))
        words = [f"'{word}'" for word in WORD.findall(bare)]
        return " & ".join(words) + ":*" if words else ""
    words = [f'"{word}"' for word in WORD.findall(query)]
    return " ".join(words) + "*" if words else ""
