"""Stores that tests open themselves, with a key-encryption key of the tests."""

from __future__ import annotations

from typing import Any

from storekeep.server.domain.keys.data_keys import DataKeys
from storekeep.server.runtime.key_encryption import LocalKeyEncryption
from storekeep.server.store import opening
from storekeep.server.store.engine import Store

KEK = b"kWc0n0dJm1rQeTz7bXy3VhU5sAf8LpGiNo2w"


def open_store(url: str, **options: Any) -> Store:
    """Open a database, so that personal data can be written and read."""
    store = opening.open_store(url, **options)
    store.data_keys = make_data_keys()
    return store


def make_data_keys(*keks: bytes) -> DataKeys:
    """Return data keys with an empty cache, and with other key-encryption keys if they are given."""
    return DataKeys(LocalKeyEncryption(lambda: keks or (KEK,)))
