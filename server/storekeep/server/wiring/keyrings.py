"""The wiring of the server's secrets, for the server and for commands that need nothing else of access control."""

from __future__ import annotations

from storekeep.server.config import Settings
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.runtime.secrets import load_secret, load_secrets


def make_keyring(settings: Settings) -> Keyring:
    """Return the keyring of the server's secrets, and create the secret if there is none.

    Raises: WeakSecret, ExposedFile, OSError.
    """
    load_secret(settings.configured_secrets, data_dir=settings.data_dir)
    return read_keyring(settings)


def read_keyring(settings: Settings) -> Keyring:
    """Return the keyring of the server's secrets, which reloads them when they change.

    Raises: WeakSecret, ExposedFile, OSError; FileNotFoundError if there is no secret.
    """
    return Keyring(
        lambda: load_secrets(settings.configured_secrets, data_dir=settings.data_dir),
        overlap_days=settings.secret_overlap_days,
    )


def find_audit_chain(settings: Settings) -> AuditChain | None:
    """Return the audit chain; None if there is no secret, which is not created.

    Raises: WeakSecret, ExposedFile, OSError.
    """
    try:
        return AuditChain(read_keyring(settings))
    except FileNotFoundError:
        return None
