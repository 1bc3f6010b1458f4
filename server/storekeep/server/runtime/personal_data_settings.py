"""The settings of personal data: its keys, and how long data and keys are retained."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from storekeep.server.runtime.secret_strength import BYTES_MIN, is_weak
from storekeep.server.runtime.setting_types import Count


class PersonalDataSettings(BaseSettings):
    """The part of the settings that the keys of personal data use."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    kek: SecretStr = SecretStr("")
    """Use this key-encryption key (KEK), at least 32 bytes. It encrypts the data keys of personal data. Empty:
    `kek.key` in the data directory, created at the first start. Without it all personal data is lost. Change it with
    `storekeep-server rotate-kek`."""
    kek_previous: SecretStr = SecretStr("")
    """The KEK that `STOREKEEP_KEK` replaces, during a rotation. Empty: `kek.previous.key` in the data directory, if it
    exists."""
    kms_url: str = ""
    """Encrypt `kek.key` with a key management service: the URL of a transit engine of OpenBao or Vault, such as
    `https://bao.example:8200/v1/transit`. It is called at a start and at a rotation only. Empty: no such service."""
    kms_key: str = ""
    """Name of the key in the key management service."""
    kms_token_file: Path | None = None
    """File with the token for the key management service, which only the server may read. Read for each request."""
    data_key_cache_max: Count = 10_000
    """Maximum number of decrypted data keys that a process holds in memory, some 1 KiB each."""
    customer_retention_days: Annotated[float, Field(ge=0, le=36_500)] = 0.0
    """Erase customers without a change, an order or a quote for so many days, and no open order. Show them first with
    `storekeep-server retention`. 0: never, because an erasure cannot be undone and laws differ."""
    backup_keep_keys_days: Annotated[float, Field(ge=0, le=3650)] = 7.0
    """Delete keys files of scheduled backups that are older than this many days, but never the newest one, which
    restores every older backup. Erased persons are readable in backups with their keys files for this long."""

    @property
    def configured_keks(self) -> tuple[bytes, ...]:
        """Return the current and the previous KEK from the settings; empty if a file holds them."""
        keys = (self.kek.get_secret_value().encode(), self.kek_previous.get_secret_value().encode())
        return tuple(filter(None, keys)) if keys[0] else ()


def find_key_problems(settings: PersonalDataSettings) -> Iterator[str]:
    """Yield a line for each KEK that is weak or without the one that replaces it."""
    keys = {"STOREKEEP_KEK": settings.kek, "STOREKEEP_KEK_PREVIOUS": settings.kek_previous}
    for name, key in keys.items():
        value = key.get_secret_value().encode()
        if value and is_weak(value):
            yield f"{name}: too weak; use {BYTES_MIN} random bytes, such as from: openssl rand -hex 32"
    if settings.kms_url:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", settings.kms_key) or settings.kms_token_file is None:
            yield "STOREKEEP_KMS_URL needs STOREKEEP_KMS_KEY and STOREKEEP_KMS_TOKEN_FILE"
        if settings.kek.get_secret_value():
            yield "STOREKEEP_KMS_URL and STOREKEEP_KEK exclude each other; set one"
        if not re.match(r"https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/]", settings.kms_url):
            yield "STOREKEEP_KMS_URL: must begin with https://; plain HTTP is for loopback only"
    if settings.kek_previous.get_secret_value() and not settings.kek.get_secret_value():
        yield "STOREKEEP_KEK_PREVIOUS needs STOREKEEP_KEK, the key that replaces it"
