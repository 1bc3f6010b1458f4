"""Files that a user names or that the command line wrote, read up to a size: a device may have no end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

FILE_BYTES_MAX = 4 * 1024 * 1024
"""Default maximum size of a file: far above any key, login or bundle of certificates."""


def read_file(path: Path, *, bytes_max: int = FILE_BYTES_MAX) -> bytes:
    """Return the content of a file, or of a pipe such as the process substitution of a shell.

    Raises: OSError, also if there are more than `bytes_max` bytes.
    """
    with path.open("rb") as file:
        return read_stream(file, name=str(path), bytes_max=bytes_max)


def read_regular_file(path: Path) -> bytes:
    """Return the content of a regular file. Never waits: opening a pipe without a writer would block indefinitely.

    Raises: OSError, also if the path is something else or the file is larger than `FILE_BYTES_MAX`.
    """
    _require_regular(path, os.stat(path))  # first: opening a device may have an effect
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        _require_regular(path, os.fstat(descriptor))  # again: the file may have been replaced
        return read_stream(file, name=str(path))


def read_stream(file: BinaryIO, *, name: str, bytes_max: int = FILE_BYTES_MAX) -> bytes:
    """Return the rest of an open file or pipe.

    Args:
        name: name of the file in errors.

    Raises: OSError, also if there are more than `bytes_max` bytes.
    """
    content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise OSError(errno.EFBIG, f"larger than {bytes_max} bytes", name)
    return content


def _require_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
