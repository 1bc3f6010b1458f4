"""The statement that deletes old replies. `tables.access.PURGES` deletes old sessions, tokens and keys."""

from __future__ import annotations

from storekeep.server.store.sql.statements import Statement

PURGE_REPLIES = Statement(
    """
    DELETE FROM replies WHERE id IN
    (SELECT id FROM (SELECT id, create_time_us FROM replies ORDER BY id LIMIT :rows_max)
     WHERE create_time_us < :before_us)
    """
)
"""Delete replies older than `before_us`, at most `rows_max`."""
