"""Files that appear under their name whole or not at all, and are still there after a power cut.

Each is written under another name beside it, synced, and only then given its name; the name is synced too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRIVATE = 0o600
"""The mode of a file that only its owner can read."""


@contextmanager
def new_file(path: Path, *, replaces: bool, mode: int = PRIVATE) -> Iterator[Path]:
    """Give an empty file to be written; it gets its name when the context ends without an error, and else is removed.

    Args:
        replaces: whether it takes the place of a file that exists.
        mode: who may read it, less what the umask takes away.

    Raises: FileExistsError where one exists that it does not replace; OSError.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)  # of a process that was killed here and had the same id, as in a container
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    try:
        yield new
        sync(new)
        (os.replace if replaces else os.link)(new, path)
        sync(path.parent)
    finally:
        new.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, survive a power cut.

    Raises: OSError.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
