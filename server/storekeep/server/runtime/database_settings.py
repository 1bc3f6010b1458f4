"""The settings of the database: connections to PostgreSQL, timeouts, and SQLite's files."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from storekeep.server.runtime.setting_types import Count, Interval, Urls


class DatabaseSettings(BaseSettings):
    """The part of the settings about the database, beside its URL."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    database_pool_size: Count = 15
    """Number of read connections per process, opened at the start; one more connection writes. Seven are reserved: two
    for large replies, two for logins, one each for checks, probes and events. Eight concurrent reads keep a core busy
    while PostgreSQL takes up to eight times as long for a read as the server does."""
    database_pool_timeout_s: Interval = 2.0
    """Maximum time in seconds that a read waits for a connection when all are in use."""
    database_connect_timeout_s: Interval = 5.0
    """Maximum time in seconds to open a connection. A call never waits beyond its own deadline."""
    database_statement_timeout_s: Interval = 15.0
    """Maximum time in seconds for one statement; the call's deadline applies if it is sooner. On SQLite it applies to
    reads only: ending a write would undo the others of its commit. The default is three times what a page of the
    largest lists takes, for clients with a timeout above their default of 10 s."""
    database_lock_timeout_s: Interval = 5.0
    """Maximum time in seconds that a write waits for writes of other processes, each of which takes milliseconds."""
    database_pooler: bool = False
    """Set to `true` behind a pooler in transaction mode, such as PgBouncer. Connections then send no startup options
    and use no named prepared statements, because both would outlive the transaction."""
    database_replica_urls: Urls = Field(default=(), repr=False)
    """PostgreSQL URLs of replicas that may answer reads with `max_staleness`, separated by spaces; a list in TOML. Each
    URL names one server. Empty: the primary answers every read."""
    database_replica_pool_size: Count = 8
    """Maximum number of read connections per process to each replica, opened on demand; one more connection monitors
    it. A read that finds none free goes to the primary. The default is the number that serve reads on the primary."""
    database_replica_interval_s: Interval = 0.25
    """Interval in seconds between checks of how far the ledger of the primary and of each replica goes. A replica
    counts as stale as its last check, so most reads that allow less than twice this interval go to the primary."""
    sqlite_page_checksums: bool = False
    """Give a SQLite database checksums in its pages when `migrate` creates it or `restore` restores it, so that every
    read notices a flipped bit. Off by default, because other programs need SQLite's checksum VFS to write to such a
    file. A database that has them keeps them, whatever this setting is."""
