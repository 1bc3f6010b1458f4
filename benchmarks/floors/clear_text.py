"""The command `storekeep-server` with personal data stored in clear: the floor of what encryption costs.

It is the same program and writes the same rows, but no field counts as personal when it is stored, and search documents
hold the words themselves. What is left is to ask each resource for its personal fields.
"""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks import catalogue
from storekeep.server.command import main
from storekeep.server.domain.customers import Contact
from storekeep.server.domain.keys.encryption import WordHash
from storekeep.server.domain.orders import order_reads
from storekeep.server.domain.personal_data.existing_data import COPIES
from storekeep.server.store.sql.transactions import Transaction


def store_in_clear() -> None:
    """Encrypt no personal data from now on in this process."""
    for kind in COPIES.values():
        kind.PERSONAL.hidden, kind.PERSONAL.tokens = {}, ()
    WordHash.compute_many = _return_words  # type: ignore[method-assign]
    order_reads.read_contact = _make_contact


def _return_words(_hash: WordHash, words: Iterable[str]) -> list[str]:
    return list(words)


def _make_contact(_tx: Transaction, customer_id: str, _encrypted: str) -> Contact:
    """Return what the customer has. The statements of the server do not read it in clear."""
    return Contact(catalogue.build_email(customer_id), catalogue.PHONE)


if __name__ == "__main__":
    store_in_clear()
    main()
