"""Text search over encrypted data: documents hold keyed hashes of words, which only equal words have.

So a query finds whole words. Words of scripts without spaces are found by their beginnings, as these are hashed, too.
"""

from __future__ import annotations

from storekeep.server.domain.keys.encryption import WordHash
from storekeep.server.domain.keys.personal_fields import get_word_hash
from storekeep.server.runtime.words import Condition, Term, list_beginnings
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.search import Words


def blind_words(word_hash: WordHash, words: Words) -> Words:
    """Return the words of a document as keyed hashes, given the result of `get_word_hash`."""
    return Words(_blind(word_hash, words.title), _blind(word_hash, words.details), words.length)


def _blind(word_hash: WordHash, words: str) -> str:
    beginnings = {one for word in words.split() for one in list_beginnings(word)}
    return " ".join(sorted(word_hash.compute_many(beginnings)))


def blind_condition(tx: Transaction, condition: Condition) -> Condition:
    """Return the condition for documents of keyed hashes.

    Raises: DataKeysMissing.
    """
    if isinstance(condition, Term):
        (token,) = get_word_hash(tx).compute_many((condition.word,))
        return Term(token)
    return type(condition)(tuple(blind_condition(tx, operand) for operand in condition.operands))
