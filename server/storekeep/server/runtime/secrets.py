"""The server's secret and the key-encryption key: from the settings, or from files that the first start creates.

Weak secrets and files that other users can read are rejected. Losing the secret invalidates all API keys; losing the
key-encryption key loses all personal data. Back both up separately: database backups contain neither.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import NamedTuple, Protocol

from storekeep.server.runtime.file_modes import read_private_file
from storekeep.server.runtime.files import create_file, sync
from storekeep.server.runtime.secret_strength import BYTES_MIN, is_weak

SECRET_FILE = "secret.key"  # noqa: S105 - the file's name
PREVIOUS_FILE = "secret.previous.key"
"""The previous secret, kept during a rotation."""
FINISH_SECRET = "rotate-secret --finish"  # noqa: S105 - a command


class Codec(Protocol):
    """Converts a secret to the text of its file, and back."""

    def encode(self, secret: bytes) -> str:
        """Return the text of a secret. Raises: OSError."""

    def decode(self, text: bytes) -> bytes:
        """Return the secret of a text. Raises: OSError."""


class KmsFailed(OSError):
    """The key management service of a codec cannot be reached, or returned an error."""


class PlainCodec:
    """Stores a secret as it is."""

    def encode(self, secret: bytes) -> str:
        """Return the secret as text."""
        return secret.decode()

    def decode(self, text: bytes) -> bytes:
        """Return the text."""
        return text


class SecretFiles(NamedTuple):
    """The files of one secret in the data directory.

    Attributes:
        current, previous: the names of the current one, and of the one before it.
        codec: converts the secret to the content of a file.
    """

    current: str
    previous: str
    codec: Codec = PlainCodec()


SERVER_SECRET = SecretFiles(SECRET_FILE, PREVIOUS_FILE)
KEY_ENCRYPTION_KEY = SecretFiles("kek.key", "kek.previous.key")


class WeakSecret(Exception):
    """The secret in a file is too short or not random."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: holds no secret of at least {BYTES_MIN} random bytes")


def load_secret(configured: tuple[bytes, ...], *, data_dir: Path, files: SecretFiles = SERVER_SECRET) -> bytes:
    """Return a secret. Create its file if there is no secret yet.

    Args:
        configured: the secrets in the settings, newest first; empty if the secret is in a file.
        data_dir: the directory of that file.
        files: which secret.

    Raises: WeakSecret, ExposedFile; OSError if the file can be neither read nor created.
    """
    if configured:
        return configured[0]
    path = data_dir / files.current
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        create_private_file(path, files.codec.encode(secrets.token_hex(BYTES_MIN).encode()))
    return _read_secret(path, files.codec)


def load_secrets(
    configured: tuple[bytes, ...], *, data_dir: Path, files: SecretFiles = SERVER_SECRET
) -> tuple[bytes, ...]:
    """Return a secret, followed by the previous one during a rotation.

    Args:
        configured, data_dir, files: see `load_secret`.

    Raises: WeakSecret, ExposedFile; OSError.
    """
    if configured:
        return configured
    current = _read_secret(data_dir / files.current, files.codec)
    try:
        return current, _read_secret(data_dir / files.previous, files.codec)
    except FileNotFoundError:
        return (current,)


def _read_secret(path: Path, codec: Codec) -> bytes:
    secret = codec.decode(read_private_file(path).strip())
    if is_weak(secret):
        raise WeakSecret(path)
    return secret


class RotationRefused(Exception):
    """The secret cannot be rotated in the current state."""


def begin_rotation(data_dir: Path, *, files: SecretFiles = SERVER_SECRET, remedy: str = FINISH_SECRET) -> bytes:
    """Create a new secret, keep the current one as the previous secret, and return the new one.

    The one before is kept first, so that a crash at any point leaves both, or nothing new. The caller holds
    `access.lock_secret_files`.

    Args:
        files: which secret.
        remedy: the command that ends a rotation in progress, for the error message.

    Raises: RotationRefused if a rotation is already in progress; WeakSecret; ExposedFile; OSError.
    """
    current, previous = data_dir / files.current, data_dir / files.previous
    secret = _read_secret(current, files.codec)
    if previous.exists() and _read_secret(previous, files.codec) != secret:
        raise RotationRefused(f"{previous} exists: finish the previous rotation first, with {remedy}")
    replace_private_file(previous, files.codec.encode(secret))
    new = secrets.token_hex(BYTES_MIN).encode()
    replace_private_file(current, files.codec.encode(new))
    return new


def end_rotation(data_dir: Path, *, files: SecretFiles = SERVER_SECRET) -> bool:
    """Delete the previous secret. The caller must hold `access.lock_secret_files`.

    Returns: False if there is no previous secret.

    Raises: OSError.
    """
    path = data_dir / files.previous
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
