"""The wiring of data keys and key-encryption keys (KEK), for the server and for commands that run without one."""

from __future__ import annotations

import secrets

from storekeep.server.config import Settings
from storekeep.server.domain.keys.data_keys import DataKeys
from storekeep.server.domain.keys.personal_fields import install_index_key
from storekeep.server.runtime.key_encryption import LocalKeyEncryption
from storekeep.server.runtime.secrets import KEY_ENCRYPTION_KEY, SecretFiles, load_secret, load_secrets
from storekeep.server.store.engine import Store

POLL_INTERVAL_S = 1.0
"""How often a KEK that a key management service encrypted is read again, in seconds."""


def make_data_keys(settings: Settings) -> DataKeys:
    """Return the data keys, and create a KEK if there is none.

    Raises: WeakSecret, ExposedFile, OSError.
    """
    load_secret(settings.configured_keks, data_dir=settings.data_dir, files=make_kek_files(settings))
    return DataKeys(read_key_encryption(settings), cache_max=settings.data_key_cache_max)


def find_data_keys(settings: Settings) -> DataKeys | None:
    """Return the data keys; None if there is no KEK, which is not created.

    Raises: WeakSecret, ExposedFile, OSError.
    """
    try:
        return DataKeys(read_key_encryption(settings), cache_max=settings.data_key_cache_max)
    except FileNotFoundError:
        return None


def read_key_encryption(settings: Settings) -> LocalKeyEncryption:
    """Return the KEKs.

    Raises: WeakSecret, ExposedFile, OSError; FileNotFoundError if there is no KEK.
    """
    files = make_kek_files(settings)
    return LocalKeyEncryption(
        lambda: load_secrets(settings.configured_keks, data_dir=settings.data_dir, files=files),
        poll_interval_s=POLL_INTERVAL_S if settings.kms_url else None,
    )


def make_kek_files(settings: Settings) -> SecretFiles:
    """Return the files of the KEK. With a key management service, they have what this encrypted."""
    if not settings.kms_url or settings.kms_token_file is None:
        return KEY_ENCRYPTION_KEY
    from storekeep.server.integrations.kms import KmsCodec  # loads an HTTP client

    codec = KmsCodec(settings.kms_url, key=settings.kms_key, token_file=settings.kms_token_file)
    return KEY_ENCRYPTION_KEY._replace(codec=codec)


def install_data_keys(store: Store) -> None:
    """Bind a new database to the KEK. Check that this server has every KEK that the database needs.

    Raises: KeyUnknown, and the store's errors.
    """
    store.write(store.data_keys.install)
    store.write(install_index_key)
    store.read(store.data_keys.check)


def check_data_keys(settings: Settings, store: Store) -> None:
    """Check that this server has every KEK that the database needs. Create nothing.

    Raises: KeyUnknown, WeakSecret, ExposedFile, OSError, and the store's errors.
    """
    try:
        encryption = read_key_encryption(settings)
    except FileNotFoundError:  # `serve` creates one
        encryption = LocalKeyEncryption(lambda: (secrets.token_bytes(),))
    store.read(DataKeys(encryption).check)


def find_former_keks(store: Store) -> bool:
    """Return whether data keys in the database need a former KEK."""
    data_keys: DataKeys = store.data_keys
    return store.read(data_keys.needs_former_keks)


def list_retention_days(settings: Settings) -> dict[str, float]:
    """Return the age of each retention rule in days; 0 for a rule that is off."""
    from storekeep.server.domain.personal_data.retention import INACTIVE  # loads the domain of orders

    return {INACTIVE.name: settings.customer_retention_days}
