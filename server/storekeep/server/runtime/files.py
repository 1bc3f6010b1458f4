"""Atomic file writes: a file appears under its name complete or not at all, and survives a power failure.

The content is written to a temporary file in the same directory and synced, then renamed. The directory is synced too.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OUTPUT_MODE = 0o666
"""The mode of a file without secrets; the umask decides who can read it."""
UNREAD = "a pipe that nothing reads, or a socket"
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


def write_output(path: Path, text: str) -> None:
    """Write a text to a file, which is replaced atomically, or to a pipe or device. Never waits for a reader.

    Raises: OSError, also if nothing reads the pipe, or not fast enough.
    """
    if path.is_file() or not path.exists():
        with create_file(path.resolve(), replaces=True, mode=OUTPUT_MODE) as temporary:
            temporary.write_text(text)
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(descriptor, "w") as pipe:
            pipe.write(text)
    except OSError as error:
        reason = UNREAD if error.errno in (errno.ENXIO, errno.EAGAIN, errno.EPIPE) else error.strerror
        raise OSError(error.errno, reason, str(path)) from None


def sync(path: Path) -> None:
    """Sync a file, or the entries of a directory, to disk.

    Raises: OSError.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
