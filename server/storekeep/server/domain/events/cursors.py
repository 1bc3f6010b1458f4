"""Cursors of events: signed positions in the ledger, which stay valid on every host that has the server's secret.

Invariant: a cursor is bound to the history of its ledger by the hash of its entry, which covers all entries before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from storekeep.server.domain.errors import InvalidField, InvalidPageToken
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables.audit import ENTRY_HASH

CURSOR = ("event",)
"""The query that cursors belong to: none in particular."""
CHECK_BYTES = 8
"""How much of a hash is in a cursor: enough that no other history has it by chance."""


class Position(NamedTuple):
    """A position in the ledger: after an entry.

    Attributes:
        sequence: sequence of the entry; 0 before the first one.
        check: the start of its hash. Empty before the first entry, and in a cursor of an older release.
    """

    sequence: int
    check: bytes = b""


START = Position(0)


def make_check(entry_hash: bytes) -> bytes:
    """Return the part of an entry's hash that is in cursors."""
    return bytes(entry_hash[:CHECK_BYTES])


def write_cursor(position: Position, *, tokens: PageTokens) -> str:
    """Return the cursor of a position."""
    return write_cursors([position], tokens=tokens)[0].decode()


def write_cursors(positions: Sequence[tuple[int, bytes]], *, tokens: PageTokens) -> list[bytes]:
    """Return the cursors of positions in ASCII.

    Args:
        positions: the fields of each `Position`.
    """
    return tokens.write_many(CURSOR, [f'[{sequence},"{check.hex()}"]'.encode() for sequence, check in positions])


def read_cursor(cursor: str, *, tokens: PageTokens) -> Position:
    """Return the position of a cursor.

    Raises: InvalidField if no server with this secret made the cursor.
    """
    try:
        position = tokens.read(CURSOR, cursor)
    except InvalidPageToken:
        position = None
    if not position:
        raise InvalidField("cursor", "must be the `cursor` of an event of this server")
    sequence, *check = position
    return Position(sequence, bytes.fromhex("".join(check)))


def find_position(tx: Transaction, sequence: int) -> Position | None:
    """Return the position after an entry; None if the ledger does not have it."""
    if sequence == 0:
        return START
    row = ENTRY_HASH.one(tx, sequence=sequence)
    return None if row is None else Position(sequence, make_check(row[0]))


def is_in_history(tx: Transaction, position: Position) -> bool:
    """Return whether the ledger has the entry of a position, and so all entries before it as they were."""
    found = find_position(tx, position.sequence)
    return found is not None and (not position.check or found.check == position.check)
