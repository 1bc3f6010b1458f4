"""Files that the command line writes: each appears complete or not at all, and survives a power failure."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

PRIVATE_MODE = 0o600
"""Mode of a file that only its owner can read."""
PUBLIC_MODE = 0o644


@contextmanager
def create_file(path: Path, *, mode: int = PUBLIC_MODE, newline: str | None = None) -> Iterator[TextIO]:
    """Write a text file atomically: yield a temporary file, and rename it to `path` when the block succeeds.

    If the block raises, the temporary file is removed. A path that is no regular file, such as /dev/stdout, is written
    directly.

    Raises: OSError.
    """
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8", newline=newline) as file:
            yield file
        return
    target = path.resolve()
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline=newline) as file:
            os.fchmod(handle, mode)
            yield file
            file.flush()
            os.fsync(handle)
        Path(name).replace(target)
        _sync_directory(target.parent)
    finally:
        Path(name).unlink(missing_ok=True)


def describe_os_error(error: OSError) -> str:
    """Return the reason of an error in lower case."""
    return (error.strerror or str(error)).lower()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
