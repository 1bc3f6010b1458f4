"""Files that a user names or that the command line wrote, read up to a size: a device may have no end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

FILE_BYTES_MAX = 4 * 1024 * 1024
"""Maximum size of a file: far above any key, login or bundle of certificates."""


def read_file(path: Path) -> bytes:
    """Return the content of a file, or of a pipe such as the process substitution of a shell.

    Raises: OSError, also if there are more than `FILE_BYTES_MAX` bytes.
    """
    with path.open("rb") as file:
        return _read_all(file, path)


def read_regular_file(path: Path) -> bytes:
    """Return the content of a regular file. Never waits: opening a pipe without a writer would block indefinitely.

    Raises: OSError, also if the path is something else.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return _read_all(file, path)


def _read_all(file: BinaryIO, path: Path) -> bytes:
    content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise OSError(errno.EFBIG, f"larger than {FILE_BYTES_MAX} bytes", str(path))
    return content
