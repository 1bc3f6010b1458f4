"""The settings of users: the rules for passwords, and the cost of their hashes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from storekeep.server.runtime.setting_types import Count


class UserSettings(BaseSettings):
    """The part of the settings that sign-ins of users use."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    password_length_min: Annotated[int, Field(ge=8, le=64)] = 15
    """Fewest characters of a new password. 15 is the minimum of NIST SP 800-63B-4 for a password without a second
    factor, and 8 for one with it."""
    password_threads: Annotated[int, Field(ge=1, le=64)] = 2
    """Number of threads that sign users in. Each computes one hash at a time, so they bound what hashing takes of
    processors and memory."""
    password_queue_max: Count = 100
    """Maximum number of sign-ins that wait for a thread. Addresses take turns; beyond the maximum, the newest call of
    the address with the most calls is rejected with OVERLOADED."""
    password_memory_kib: Annotated[int, Field(ge=7_168, le=1_048_576)] = 19_456
    """Memory of one password hash (argon2id) in KiB. The default is that of OWASP for two passes, and takes some 20 ms.
    A change applies to new passwords."""
    password_passes: Annotated[int, Field(ge=1, le=20)] = 2
    """Passes of a password hash over its memory. A change applies to new passwords."""
