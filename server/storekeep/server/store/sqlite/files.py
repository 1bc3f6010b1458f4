"""The files of an open SQLite database: whether its path still names what the connections have open.

A file that was deleted, moved or replaced goes on taking writes that nobody will ever find. Invariant: what is
acknowledged is in the files at the path.
"""

from __future__ import annotations

import os
from pathlib import Path

ENDINGS = ("", "-wal", "-shm")
"""The database, its write-ahead log, and the index of that, which holds the locks between processes."""


class OpenFiles:
    """The files as they were opened.

    Args:
        path: the database; a connection has all files open, and keeps them so, as nothing else keeps them from being
            made anew.

    Raises: OSError where one is gone already.
    """

    def __init__(self, path: Path) -> None:
        self._paths = tuple(f"{path}{ending}" for ending in ENDINGS)
        self._database, self._log, self._index = self._paths
        self._opened = self._present()

    def _present(self) -> tuple[int, ...]:
        """Device and inode of each file; unrolled, as it is asked at every commit: 3 µs."""
        database, log, index = os.stat(self._database), os.stat(self._log), os.stat(self._index)
        return database.st_ino, database.st_dev, log.st_ino, log.st_dev, index.st_ino, index.st_dev

    def are_in_place(self) -> bool:
        """Return whether the path names the open files."""
        try:
            return self._present() == self._opened
        except OSError:
            return False

    def problem(self) -> str:
        """Return which file is not in place, and what is there instead; empty where all are."""
        for number, path in enumerate(self._paths):
            try:
                found = os.stat(path)
            except OSError as error:
                return f"{path}: {(error.strerror or str(error)).lower()}"
            if (found.st_ino, found.st_dev) != self._opened[2 * number : 2 * number + 2]:
                return f"{path}: another file is in its place"
        return ""
