"""Search documents compared with the resources that they describe, and rebuilt from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from storekeep.server.domain.catalog.documents import build_product_words
from storekeep.server.domain.customers import CUSTOMERS, build_document
from storekeep.server.domain.integrity.audited_sessions import UNREADABLE
from storekeep.server.domain.integrity.data_keys import UNDECRYPTABLE, can_compare_indexes
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.invariants import UNINDEXED_DOCUMENTS
from storekeep.server.store.tables.search import (
    CUSTOMER_IDS_AFTER,
    CUSTOMER_INDEX,
    PRODUCT_IDS_AFTER,
    PRODUCT_INDEX,
    SearchIndex,
    Words,
)

BATCH_ROWS = 200
"""Resources per transaction: short enough that other writes do not wait for long."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of resource with search documents.

    Attributes:
        prefix: the beginning of its resource names.
        list_ids: returns the next ids, after an id.
        build: returns the words by which a resource is found.
        is_encrypted: whether the words are hashed, which needs the keys of personal data.
    """

    prefix: str
    index: SearchIndex
    list_ids: Statement
    build: Callable[[Transaction, str], Words]
    is_encrypted: bool = False


KINDS = (
    _Kind("products/", PRODUCT_INDEX, PRODUCT_IDS_AFTER, build_product_words),
    _Kind(
        "customers/",
        CUSTOMER_INDEX,
        CUSTOMER_IDS_AFTER,
        lambda tx, customer_id: build_document(tx, CUSTOMERS.find(tx, (customer_id,))),
        is_encrypted=True,
    ),
)


def check_documents(db: Store) -> Iterator[str]:
    """Yield a text for each resource whose search document is missing, out of date or not indexed.

    Without the key of blind indexes, documents with hashed words are not compared; `check_data_keys` reports that.
    """
    for kind in KINDS:
        after = ""
        while True:
            try:
                ids, texts = db.snapshot(lambda tx: _compare_page(tx, kind, after))  # noqa: B023 - read at once
            except UNREADABLE as error:
                yield f"{kind.prefix}: a row cannot be read ({error}); see audit-rows"
                break
            yield from texts
            if not ids:
                break
            after = ids[-1]
    yield from (text for (text,) in db.read(UNINDEXED_DOCUMENTS.all))


def _compare_page(tx: Transaction, kind: _Kind, after: str) -> tuple[list[str], list[str]]:
    if kind.is_encrypted and not can_compare_indexes(tx):
        return [], []
    ids = _list_ids(tx, kind, after)
    documents = kind.index.find(tx, msgspec.json.encode(ids).decode())
    texts = []
    for resource_id in ids:
        document = documents.get(resource_id)
        try:
            words = kind.build(tx, resource_id)
        except UNDECRYPTABLE:
            texts.append(f"{kind.prefix}{resource_id}: its row cannot be read; see audit-rows")
            continue
        if document != words:
            problem = "missing" if document is None else "out of date"
            texts.append(f"{kind.prefix}{resource_id}: its search document is {problem}; run: storekeep-server reindex")
    return ids, texts


def _list_ids(tx: Transaction, kind: _Kind, after: str) -> list[str]:
    return [resource_id for (resource_id,) in kind.list_ids.all(tx, after=after, limit=BATCH_ROWS)]


def rebuild_documents(db: Store) -> int:
    """Fill the text indexes anew, write the documents that are missing or out of date, and return their number.

    Each text index is filled in one transaction, during which other writes wait. The documents are written in many.

    Raises: the errors of `Store.write`.
    """
    count = 0
    for kind in KINDS:
        db.write(kind.index.rebuild)
        after = ""
        while True:
            ids, written = db.write(lambda tx: _rebuild_page(tx, kind, after))  # noqa: B023 - run at once
            count += written
            if not ids:
                break
            after = ids[-1]
    return count


def _rebuild_page(tx: Transaction, kind: _Kind, after: str) -> tuple[list[str], int]:
    """Write the documents of a page; return the ids on it and the number of documents written."""
    ids = _list_ids(tx, kind, after)
    documents = kind.index.find(tx, msgspec.json.encode(ids).decode())
    words = {resource_id: kind.build(tx, resource_id) for resource_id in ids}
    changed = [resource_id for resource_id in ids if documents.get(resource_id) != words[resource_id]]
    for resource_id in changed:
        kind.index.put(tx, resource_id, words[resource_id])
    return ids, len(changed)
