"""What product search looks through: one document a product.

On SQLite an FTS5 table `product_search`, which triggers keep in step with the documents, does the looking.
"""

from __future__ import annotations

import peewee

from storekeep.server.store.database import Table
from storekeep.server.store.products import Product
from storekeep.server.store.statements import Statement


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
    """
)
"""Products that hold all words, best match first (BM25), after the place (`rank`, `id`) where the last page ended."""
