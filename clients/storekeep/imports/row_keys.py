"""Keys of the rows of a file, to find repeated rows and rows that contradict each other.

They are in an unnamed temporary SQLite database, so that memory does not grow with the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

TABLES = """
CREATE TABLE keys (key TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID;
CREATE TABLE shared (owner TEXT, cell TEXT, value TEXT, line INTEGER, PRIMARY KEY (owner, cell)) WITHOUT ROWID;
"""


class RowKeys:
    """The keys of the rows so far. Not thread-safe."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.executescript(TABLES)

    def close(self) -> None:
        """Close and delete the temporary database."""
        self._database.close()

    def find_first_line(self, key: str, *, line: int) -> int:
        """Return the line of the first row with this key, which is `line` itself for a new key."""
        if self._database.execute("INSERT OR IGNORE INTO keys VALUES (?, ?)", (key, line)).rowcount:
            return line
        (first,) = self._database.execute("SELECT line FROM keys WHERE key = ?", (key,)).fetchone()
        return int(first)

    def find_contradiction(self, owner: str, cells: Mapping[str, str], *, line: int) -> str | None:
        """Return the difference to an earlier row of the same owner, or None if there is none.

        Args:
            cells: values that all rows of the owner must share, without absent ones.
        """
        for cell, value in cells.items():
            self._database.execute("INSERT OR IGNORE INTO shared VALUES (?, ?, ?, ?)", (owner, cell, value, line))
            query = "SELECT value, line FROM shared WHERE owner = ? AND cell = ?"
            earlier, first_line = self._database.execute(query, (owner, cell)).fetchone()
            if earlier != value:
                return f"{cell}: {value[:100]!r}, but line {first_line} gives {owner} {earlier[:100]!r}"
        return None
