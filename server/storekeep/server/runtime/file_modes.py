"""File modes: who besides the server can read or change a file that must be its own.

The rule for private keys is PostgreSQL's: the owner alone, or root's file read through a group. What a file's directory
allows is not looked at.
"""

from __future__ import annotations

import shlex
import stat
from pathlib import Path

OTHERS = 0o077
"""The bits of a mode that give anything to anybody but the owner."""
GROUP_READS = 0o040
WORLD_WRITES = 0o002
ROOT = 0


class ExposedFile(Exception):
    """Others than the server can read or change what is its own."""


def find_exposure(path: Path) -> str:
    """Return how others can use a private file and the command that mends it; empty where they cannot.

    Raises: OSError.
    """
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    allowed = GROUP_READS if found.st_uid == ROOT else 0
    exposed = mode & OTHERS & ~allowed
    if not exposed:
        return ""
    private = "700" if stat.S_ISDIR(found.st_mode) else "600"
    done = "changed" if exposed & 0o022 else "read"
    return f"{path} can be {done} by others (mode {mode:04o}); run: chmod {private} {shlex.quote(str(path))}"


def require_private(path: Path) -> None:
    """Refuse a private file that others can read or change.

    Raises: ExposedFile, OSError.
    """
    exposure = find_exposure(path)
    if exposure:
        raise ExposedFile(exposure)


def check_data_dir(path: Path) -> str:
    """Return a warning about a data directory that others can look into; empty where they cannot.

    Raises: ExposedFile where anybody can put files there, such as another `secret.key`; OSError.
    """
    exposure = find_exposure(path)
    if path.stat().st_mode & WORLD_WRITES:
        raise ExposedFile(exposure)
    return exposure
