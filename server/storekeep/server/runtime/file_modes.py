"""File modes: checks that no other user can read or change the server's private files.

Private keys follow PostgreSQL's rule: only the owner may read them, or the file belongs to root and is read through a
group. Modes of parent directories are not checked.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from storekeep.server.runtime.input_files import open_regular_file, read_descriptor

OTHERS_BITS = 0o077
"""Mode bits that give permissions to users other than the owner."""
GROUP_READ_BIT = 0o040
WORLD_WRITE_BIT = 0o002
ROOT = 0


class ExposedFile(Exception):
    """Other users can read or change a private file of the server."""


def find_exposure(path: Path) -> str:
    """Return how other users can access a private file and the command that fixes it; empty if they cannot.

    Raises: OSError.
    """
    return _describe_exposure(path, path.stat())


def _describe_exposure(path: Path, status: os.stat_result) -> str:
    mode = stat.S_IMODE(status.st_mode)
    allowed = GROUP_READ_BIT if status.st_uid == ROOT else 0
    exposed = mode & OTHERS_BITS & ~allowed
    if not exposed:
        return ""
    private = "700" if stat.S_ISDIR(status.st_mode) else "600"
    access = "changed" if exposed & 0o022 else "read"
    return f"{path} can be {access} by others (mode {mode:04o}); run: chmod {private} {shlex.quote(str(path))}"


def read_private_file(path: Path) -> bytes:
    """Return the content of a regular file that only the server's user can read and change.

    Raises: ExposedFile; OSError, also if the path is a directory, a pipe, a socket or a device.
    """
    descriptor = open_regular_file(path)
    try:
        exposure = _describe_exposure(path, os.fstat(descriptor))
        if exposure:
            raise ExposedFile(exposure)
        return read_descriptor(descriptor, path)
    finally:
        os.close(descriptor)


def check_data_dir(path: Path) -> str:
    """Return a warning about a data directory that other users can read; empty if they cannot.

    Raises: ExposedFile if every user can create files in it, such as another `secret.key`; OSError.
    """
    exposure = find_exposure(path)
    if path.stat().st_mode & WORLD_WRITE_BIT:
        raise ExposedFile(exposure)
    return exposure
