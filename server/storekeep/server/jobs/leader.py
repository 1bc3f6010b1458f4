"""The periodic jobs of the leader."""

from __future__ import annotations

from storekeep.server.config import Settings
from storekeep.server.domain.access.identities import purge_used_tokens
from storekeep.server.domain.access.password_links import purge_links
from storekeep.server.domain.access.tokens import purge_expired
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.jobs.backups import BackupJob, BackupPlan
from storekeep.server.jobs.erasures import KeyRemovalJob, RetentionJob
from storekeep.server.jobs.periodic import (
    CheckpointJob,
    ExpiryJob,
    PeriodicJob,
    PurgeJob,
    purge_new_secrets,
    purge_replies,
)
from storekeep.server.jobs.webhooks import purge_old_deliveries
from storekeep.server.store.engine import Store
from storekeep.server.store.urls import parse_sqlite_path

SECONDS_PER_DAY = 86_400


def make_jobs(settings: Settings, store: Store, *, retention_days: dict[str, float]) -> tuple[PeriodicJob, ...]:
    """Return the periodic jobs of the leader, in start order, without backups and webhooks.

    Args:
        retention_days: see `RetentionJob`.
    """
    purges = [
        purge_new_secrets(retention_s=settings.secret_reply_retention_s),
        purge_replies(retention_s=settings.reply_retention_days * SECONDS_PER_DAY),
        purge_expired,
        purge_links,
        purge_used_tokens,
        purge_old_deliveries(retention_days=settings.webhook_retention_days),
    ]
    return (
        PurgeJob(store, purges=purges, interval_s=settings.maintenance_interval_s),
        ExpiryJob(store, interval_s=settings.expiry_interval_s),
        RetentionJob(store, days=retention_days, interval_s=settings.maintenance_interval_s),
        KeyRemovalJob(store),
        CheckpointJob(
            store,
            store.chain,
            entries=settings.audit_checkpoint_entries,
            interval_s=settings.audit_checkpoint_interval_s,
        ),
    )


def make_backup_job(settings: Settings, keyring: Keyring) -> BackupJob | None:
    """Return the job of scheduled backups; None if there are none."""
    database = parse_sqlite_path(settings.database)
    if database is None or not (settings.backup_interval_s or settings.backup_time):
        return None
    return BackupJob(
        BackupPlan(
            database=str(database),
            folder=str(settings.backups_dir),
            interval_s=settings.backup_interval_s,
            time_of_day=settings.backup_time,
            keep=settings.backup_keep,
            keep_days=settings.backup_keep_days,
            keep_keys_days=settings.backup_keep_keys_days,
        ),
        list_secrets=keyring.list_secrets,
    )
