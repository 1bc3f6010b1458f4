"""The wiring of the encryption of personal data in a database of an older release, for `migrate`."""

from __future__ import annotations

from contextlib import closing
from functools import partial

from storekeep.server.config import Settings
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.domain.personal_data.existing_data import encrypt_existing_data
from storekeep.server.store.opening import open_store
from storekeep.server.store.schema import SchemaError, rewrite_tables
from storekeep.server.store.tables.encryption_steps import CHANGED_TABLES
from storekeep.server.store.urls import hide_password
from storekeep.server.wiring.data_keys import install_data_keys, make_data_keys
from storekeep.server.wiring.keyrings import read_keyring


def encrypt_personal_data(settings: Settings) -> int:
    """Encrypt the personal data of a database of an older release. Return the number of rows that were read.

    Raises: SchemaError without the server's secret, KeyUnknown, SecretUnknown, WeakSecret, ExposedFile, OSError, and
        the store's errors.
    """
    url = settings.database
    try:
        keyring = read_keyring(settings)
    except FileNotFoundError as error:
        raise SchemaError(
            f"{hide_password(url)}: its personal data cannot be encrypted without the server's secret, because the "
            f"audit log has to record that: {error.filename} does not exist"
        ) from None
    with closing(open_store(url, limits=settings.database_limits)) as store:
        store.chain = AuditChain(keyring)
        store.data_keys = make_data_keys(settings)
        install_data_keys(store)
        return encrypt_existing_data(store, rewrite_files=partial(rewrite_tables, url, CHANGED_TABLES))
