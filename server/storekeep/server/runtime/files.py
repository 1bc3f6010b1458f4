"""Atomic file writes: a file appears under its name complete or not at all, and survives a power failure.

The content is written to a temporary file in the same directory and synced, then renamed. The directory is synced too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRIVATE_MODE = 0o600
"""The mode of a file that only its owner can read."""


@contextmanager
def create_file(path: Path, *, replaces: bool, mode: int = PRIVATE_MODE) -> Iterator[Path]:
    """Create a file atomically: yield an empty temporary file, and rename it to `path` when the block succeeds.

    If the block raises, the temporary file is removed.

    Args:
        path: the final name.
        replaces: whether an existing file is replaced.
        mode: the file mode, before the umask is applied.

    Raises: FileExistsError if the file exists and is not replaced; OSError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # left by a killed process with the same id, which is common in containers
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    try:
        yield temporary
        sync(temporary)
        (os.replace if replaces else os.link)(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Sync a file, or the entries of a directory, to disk.

    Raises: OSError.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
