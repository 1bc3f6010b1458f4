"""The server's secret: from the settings, or `secret.key` in the data directory, made on the first start.

Refuses a weak one, and a file that others can read. Losing it invalidates all API keys: a backup of the database does
not hold it.
"""

from __future__ import annotations

import secrets
from pathlib import Path

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


def load_secret(given: tuple[bytes, ...], *, data_dir: Path) -> bytes:
    """Return the server's secret, and make it when there is none.

    Args:
        given: the secrets that the settings give, the newest first; empty when a file has it.
        data_dir: folder of that file.

    Raises: WeakSecret, ExposedFile; OSError when it can neither be read nor made.
    """
    if given:
        return given[0]
    path = data_dir / SECRET_FILE
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        write_private(path, secrets.token_hex(BYTES_MIN))
    return _read_secret(path)


def load_secrets(given: tuple[bytes, ...], *, data_dir: Path) -> tuple[bytes, ...]:
    """Return the server's secret, and the one before it when it is kept.

    Args:
        given, data_dir: see `load_secret`.

    Raises: WeakSecret, ExposedFile; OSError.
    """
    if given:
        return given
    current = _read_secret(data_dir / SECRET_FILE)
    try:
        return current, _read_secret(data_dir / PREVIOUS_FILE)
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


def begin_rotation(data_dir: Path) -> bytes:
    """Have a new secret beside the one that is there, which stays as the one before; gives the new one.

    The one before is kept first, so that a crash at any point leaves both, or nothing new. The caller holds
    `access.rotating`.

    Raises: RotationRefused, where a rotation is under way already; WeakSecret; ExposedFile; OSError.
    """
    if (data_dir / PREVIOUS_FILE).exists() and _read_secret(data_dir / PREVIOUS_FILE) != _read_secret(
        data_dir / SECRET_FILE
    ):
        raise RotationRefused(
            f"{data_dir / PREVIOUS_FILE} is there: end the rotation before this one by rotate-secret --finish"
        )
    replace_private(data_dir / PREVIOUS_FILE, _read_secret(data_dir / SECRET_FILE).decode())
    new = secrets.token_hex(BYTES_MIN)
    replace_private(data_dir / SECRET_FILE, new)
    return new.encode()


def end_rotation(data_dir: Path) -> bool:
    """Forget the secret before; False where there is none. The caller holds `access.rotating`.

    Raises: OSError.
    """
    path = data_dir / PREVIOUS_FILE
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
