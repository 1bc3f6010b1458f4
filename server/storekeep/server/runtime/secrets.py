"""The server's secret: from the settings, or `secret.key` in the data directory, made on the first start.

Refuses a weak one, and a file that others can read. Losing it invalidates all API keys: a backup of the database does
not hold it.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from storekeep.server.config import Settings
from storekeep.server.runtime.file_modes import require_private
from storekeep.server.runtime.files import new_file, sync
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
    sync(path.parent)
    return True


def replace_private(path: Path, text: str) -> None:
    """Have a file that only its owner can read say something else, whole or not at all.

    One process at a time may do it: what another one was killed in the middle of is removed.

    Raises: OSError.
    """
    for stale in path.parent.glob(f".{path.name}.*"):
        stale.unlink(missing_ok=True)
    with new_file(path, replaces=True) as new:
        new.write_text(text + "\n")


def write_private(path: Path, text: str) -> bool:
    """Write a file that only its owner can read, whole or not at all.

    Returns: False, and nothing is changed, where another process was first.
    """
    try:
        with new_file(path, replaces=False) as new:
            new.write_text(text + "\n")
    except FileExistsError:
        return False
    return True
