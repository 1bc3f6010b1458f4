"""What a call computes before its transaction, so that the writer's thread, which all changes share, need not.

A preparation guesses what the transaction is going to need, from the request and a read before. The transaction takes
what fits the texts that it sees, and computes the rest: a wrong guess costs time and changes no result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from storekeep.server.domain.keys.encryption import WordHash
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.search import Words

CHARACTERS_MAX = 8_000_000
"""Characters of search words that a preparation holds in memory. Further documents are built in the transaction."""
PAUSE_S = 0.0002
"""The pause after each document, in seconds. Without it the writer gets the GIL after 5 ms only, for each of its
statements. Every order has several of them."""
Prepare = Callable[[Store, Sequence[Any]], "Preparation"]
"""Prepares the effects of a transaction."""


class Preparation:
    """The search documents that a transaction is going to write, by their texts.

    Args:
        word_hash: the keyed hash of their words; None if the words are not hashed.
        subjects: resource names of the persons that get a data key.

    Attributes:
        documents: texts -> document.
    """

    def __init__(self, *, word_hash: WordHash | None = None, subjects: Sequence[str] = ()) -> None:
        self._word_hash = word_hash
        self.subjects = subjects
        self.documents: dict[Hashable, Words] = {}
        self._characters = 0

    def prepare(self, texts: Hashable, build: Callable[[], Words]) -> None:
        """Build the document of some texts, unless there is no room for it."""
        if self._characters < CHARACTERS_MAX and texts not in self.documents:
            self.documents[texts] = words = build()
            self._characters += len(words.title) + len(words.details)
            time.sleep(PAUSE_S)

    def find(self, texts: Hashable, word_hash: WordHash | None) -> Words | None:
        """Return the document of some texts; None if it is not prepared, or hashed with another key."""
        return self.documents.get(texts) if word_hash == self._word_hash else None


def find_document(
    tx: Transaction, texts: Hashable, build: Callable[[], Words], *, word_hash: WordHash | None = None
) -> Words:
    """Return the prepared document of some texts; build it if there is none.

    Args:
        word_hash: the hash that its words must have; None for a document of plain words.
    """
    prepared: Preparation | None = tx.prepared
    return (None if prepared is None else prepared.find(texts, word_hash)) or build()


def prepare_nothing(_db: Store, _effects: Sequence[Any]) -> Preparation:
    """Prepare nothing."""
    return NOTHING


NOTHING = Preparation()
