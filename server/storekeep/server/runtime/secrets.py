"""The server's secret: from the settings, or `secret.key` in the data directory, made on the first start.

Refuses a weak one, and a file that others can read. Losing it invalidates all API keys: a backup of the database does
not hold it.
"""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from storekeep.server.config import Settings
from storekeep.server.runtime.file_modes import require_private
from storekeep.server.runtime.secret_strength import BYTES_MIN, is_weak

SECRET_FILE = "secret.key"  # noqa: S105 - the file's name
PREVIOUS_FILE = "secret.previous.key"
"""The secret before, while one replaces the other."""


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
    return _read_secret(path)


def load_secrets(settings: Settings) -> tuple[bytes, ...]:
    """The server's secret, and the one before it where that is still there.

    Raises: WeakSecret; ExposedFile; OSError.
    """
    given = settings.secret.get_secret_value().encode()
    if given:
        previous = settings.secret_previous.get_secret_value().encode()
        return (given, previous) if previous else (given,)
    current = _read_secret(settings.data_dir / SECRET_FILE)
    path = settings.data_dir / PREVIOUS_FILE
    try:
        return current, _read_secret(path)
    except FileNotFoundError:
        return (current,)


def _read_secret(path: Path) -> bytes:
    require_private(path)
    secret = path.read_bytes().strip()
    if is_weak(secret):
        raise WeakSecret(path)
    return secret


class RotationRefused(Exception):
    """The secret cannot be rotated now."""


def begin_rotation(settings: Settings) -> bytes:
    """Have a new secret beside the one that is there, which stays as the one before; gives the new one.

    The one before is kept first, so that a crash at any point leaves both, or nothing new. The caller holds
    `access.rotating`.

    Raises: RotationRefused, where a rotation is under way already; WeakSecret; ExposedFile; OSError.
    """
    folder = settings.data_dir
    if (folder / PREVIOUS_FILE).exists() and _read_secret(folder / PREVIOUS_FILE) != _read_secret(folder / SECRET_FILE):
        raise RotationRefused(
            f"{folder / PREVIOUS_FILE} is there: end the rotation before this one by rotate-secret --finish"
        )
    replace_private(folder / PREVIOUS_FILE, _read_secret(folder / SECRET_FILE).decode())
    new = secrets.token_hex(BYTES_MIN)
    replace_private(folder / SECRET_FILE, new)
    return new.encode()


def end_rotation(settings: Settings) -> bool:
    """Forget the secret before; False where there is none. The caller holds `access.rotating`.

    Raises: OSError.
    """
    path = settings.data_dir / PREVIOUS_FILE
    if not path.exists():
        return False
    path.unlink()
    _sync_folder(path.parent)
    return True


def replace_private(path: Path, text: str) -> None:
    """Have a file that only its owner can read say something else, whole or not at all.

    One process at a time may do it: what another one was killed in the middle of is cleared away.

    Raises: FileExistsError, where another process does it all the same; OSError.
    """
    draft = path.with_name(f".{path.name}.new")
    for stale in (draft, *path.parent.glob(f".{draft.name}.*")):
        stale.unlink(missing_ok=True)
    if not write_private(draft, text):
        raise FileExistsError(errno.EEXIST, "another process is writing it", str(draft))
    os.replace(draft, path)
    _sync_folder(path.parent)


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
