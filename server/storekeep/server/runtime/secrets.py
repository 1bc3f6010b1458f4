"""The server's secret: from the settings, or from `secret.key` in the data directory, created on the first start.

Weak secrets and files that other users can read are rejected. Losing the secret invalidates all API keys. Back it up
separately: database backups do not contain it.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from storekeep.server.runtime.file_modes import read_private_file
from storekeep.server.runtime.files import create_file, sync
from storekeep.server.runtime.secret_strength import BYTES_MIN, is_weak

SECRET_FILE = "secret.key"  # noqa: S105 - the file's name
PREVIOUS_FILE = "secret.previous.key"
"""The previous secret, kept during a rotation."""


class WeakSecret(Exception):
    """The secret in a file is too short or not random."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: holds no secret of at least {BYTES_MIN} random bytes")


def load_secret(configured: tuple[bytes, ...], *, data_dir: Path) -> bytes:
    """Return the server's secret. Create its file if there is no secret yet.

    Args:
        configured: the secrets in the settings, newest first; empty if the secret is in a file.
        data_dir: the directory of that file.

    Raises: WeakSecret, ExposedFile; OSError if the file can be neither read nor created.
    """
    if configured:
        return configured[0]
    path = data_dir / SECRET_FILE
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        create_private_file(path, secrets.token_hex(BYTES_MIN))
    return _read_secret(path)


def load_secrets(configured: tuple[bytes, ...], *, data_dir: Path) -> tuple[bytes, ...]:
    """Return the server's secret, followed by the previous secret during a rotation.

    Args:
        configured, data_dir: see `load_secret`.

    Raises: WeakSecret, ExposedFile; OSError.
    """
    if configured:
        return configured
    current = _read_secret(data_dir / SECRET_FILE)
    try:
        return current, _read_secret(data_dir / PREVIOUS_FILE)
    except FileNotFoundError:
        return (current,)


def _read_secret(path: Path) -> bytes:
    secret = read_private_file(path).strip()
    if is_weak(secret):
        raise WeakSecret(path)
    return secret


class RotationRefused(Exception):
    """The secret cannot be rotated in the current state."""


def begin_rotation(data_dir: Path) -> bytes:
    """Create a new secret, keep the current one as the previous secret, and return the new one.

    The one before is kept first, so that a crash at any point leaves both, or nothing new. The caller holds
    `access.lock_secret_files`.

    Raises: RotationRefused if a rotation is already in progress; WeakSecret; ExposedFile; OSError.
    """
    if (data_dir / PREVIOUS_FILE).exists() and _read_secret(data_dir / PREVIOUS_FILE) != _read_secret(
        data_dir / SECRET_FILE
    ):
        raise RotationRefused(
            f"{data_dir / PREVIOUS_FILE} exists: finish the previous rotation first, with rotate-secret --finish"
        )
    replace_private_file(data_dir / PREVIOUS_FILE, _read_secret(data_dir / SECRET_FILE).decode())
    new = secrets.token_hex(BYTES_MIN)
    replace_private_file(data_dir / SECRET_FILE, new)
    return new.encode()


def end_rotation(data_dir: Path) -> bool:
    """Delete the previous secret. The caller must hold `access.lock_secret_files`.

    Returns: False if there is no previous secret.

    Raises: OSError.
    """
    path = data_dir / PREVIOUS_FILE
    if not path.exists():
        return False
    path.unlink()
    sync(path.parent)
    return True


def replace_private_file(path: Path, text: str) -> None:
    """Replace the content of a file that only its owner can read, atomically.

    Only one process may call this at a time: temporary files of killed processes are removed.

    Raises: OSError.
    """
    for stale in path.parent.glob(f".{path.name}.*"):
        stale.unlink(missing_ok=True)
    with create_file(path, replaces=True) as temporary:
        temporary.write_text(text + "\n")


def create_private_file(path: Path, text: str) -> bool:
    """Create a file that only its owner can read, atomically.

    Returns: False if the file exists, for example because another process created it first. It is not changed then.

    Raises: OSError.
    """
    try:
        with create_file(path, replaces=False) as temporary:
            temporary.write_text(text + "\n")
    except FileExistsError:
        return False
    return True
