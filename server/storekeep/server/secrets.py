"""The server's secret: from the settings, or `secret.key` in the data directory, made on the first start.

Refuses a weak one, and a file that others can read. Losing it invalidates all API keys: a backup of the database does
not hold it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from storekeep.server.config import Settings
from storekeep.server.file_modes import require_private
from storekeep.server.secret_strength import BYTES_MIN, is_weak

SECRET_FILE = "secret.key"  # noqa: S105 - the file's name


class WeakSecret(Exception):
    """The file holds something else than a secret of the server's own making."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: holds no secret of at least {BYTES_MIN} random bytes")


def load_secret(settings: Settings) -> bytes:
    """The server's secret; it is made where there is none yet.

    Raises: WeakSecret, ExposedFile; OSError when it can neither be read nor made.
    """
    given = settings.secret.get_secret_value().encode()
    if given:
        return given
    path = settings.data_dir / SECRET_FILE
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        write_private(path, secrets.token_hex(BYTES_MIN))
    require_private(path)
    secret = path.read_bytes().strip()
    if is_weak(secret):
        raise WeakSecret(path)
    return secret


def write_private(path: Path, text: str) -> bool:
    """Write a file that only its owner can read, whole or not at all.

    Returns: False, and nothing is changed, where another process was first.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)  # of a process that was killed here and had the same id, as in a container
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(descriptor)
        os.link(draft, path)
        _sync_folder(path.parent)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _sync_folder(folder: Path) -> None:
    """Have a new name survive a power cut: what was written under the secret is lost without it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
