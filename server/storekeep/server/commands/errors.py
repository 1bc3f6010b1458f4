"""Errors of the commands that are reported in one line. Imported only if there is an error."""

from __future__ import annotations

from storekeep.server.domain.access.server_secrets import SecretInUse
from storekeep.server.domain.audit.checkpoints import InvalidCheckpoint
from storekeep.server.process.signals import STARTUP_ERRORS
from storekeep.server.runtime.secrets import RotationRefused
from storekeep.server.store.backups import BackupRefused
from storekeep.server.store.sqlite.key_backups import KeysMissing
from storekeep.server.supervision.failures import WorkerFailed

REPORTED_ERRORS = (
    *STARTUP_ERRORS,
    BackupRefused,
    InvalidCheckpoint,
    KeysMissing,
    RotationRefused,
    SecretInUse,
    WorkerFailed,
)
"""The errors of a start, and those of the other commands."""
