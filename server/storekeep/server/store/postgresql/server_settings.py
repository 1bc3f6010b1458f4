"""What PostgreSQL's settings and rights mean for Storekeep: those that lose writes, refuse them or slow them down.

Each finding has the SQL or the action that mends it. It reads `pg_settings` and catalogs that every user can read.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any, NamedTuple

VERSION_MIN = 14
SLOT_BYTES_MAX = 1024**3
"""WAL that an unused replication slot may retain before it is reported, in bytes."""
DURABILITY = {
    "fsync": "a crash of the host can damage the database",
    "full_page_writes": "a crash of the host can damage the database",
    "synchronous_commit": "acknowledged writes can be lost in a crash",
}
"""Settings that must not be `off`, and why."""
REFUSED = "the server does not start, or its changes fail with STORAGE_UNAVAILABLE"
"""The consequence of what keeps the server from writing."""
READ_SETTINGS = """
    SELECT name, setting FROM pg_settings
    WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'max_connections', 'server_version_num',
                   'superuser_reserved_connections', 'server_encoding', 'default_transaction_read_only')
    """
READ_STANDBY = "SELECT pg_is_in_recovery()"
READ_MISSING_RIGHTS = """
    SELECT relname, quote_ident(current_schema()) || '.' || quote_ident(relname), quote_ident(current_user), is_ledger
    FROM pg_class, LATERAL (
        SELECT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = pg_class.oid AND right(tgname, 5) = '_kept')
    ) AS triggers (is_ledger)
    WHERE relnamespace = quote_ident(current_schema())::regnamespace
      AND relkind = 'r' AND relname <> 'schema_migrations'
      AND NOT (has_table_privilege(pg_class.oid, 'SELECT') AND has_table_privilege(pg_class.oid, 'INSERT') AND (
          is_ledger OR has_table_privilege(pg_class.oid, 'UPDATE') AND has_table_privilege(pg_class.oid, 'DELETE')
      ))
    ORDER BY relname
    """
"""The tables that the role cannot read or change as the server has to: name, name for SQL, role for SQL, and whether it
is a ledger. Triggers keep the rows of ledgers, so no right to change these is needed."""
READ_SUPERUSER = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
READ_CLOCK_US = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
READ_SLOTS = """
    SELECT slot_name, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint FROM pg_replication_slots
    WHERE NOT active AND restart_lsn IS NOT NULL
    """


class WeakSetting(NamedTuple):
    """A setting or state of PostgreSQL that should change.

    Attributes:
        what: the setting and its value.
        why: the consequence.
        remedy: the SQL or the action that mends it.
        is_error: whether acknowledged writes can be lost, or writes fail.
    """

    what: str
    why: str
    remedy: str
    is_error: bool = False


def find_weak_settings(connection: Any, *, connections: int, tables: Set[str]) -> Iterator[WeakSetting]:
    """Yield what should change.

    Args:
        connection: a read connection of the store.
        connections: number of connections that this server opens with its current settings.
        tables: names of Storekeep's tables. Other programs may have tables in the same schema.
    """
    settings = dict(connection.execute(READ_SETTINGS).fetchall())
    for name, why in DURABILITY.items():
        if settings.get(name) == "off":
            remedy = f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();"
            yield WeakSetting(f"{name} is off", why, remedy, is_error=True)
    if int(settings["server_version_num"]) // 10_000 < VERSION_MIN:
        version = int(settings["server_version_num"]) // 10_000
        yield WeakSetting(f"PostgreSQL {version}", "it is not supported", f"upgrade to {VERSION_MIN} or later")
    if settings["server_encoding"] != "UTF8":
        why = "texts with other characters are refused"
        yield WeakSetting(f"the encoding is {settings['server_encoding']}", why, "create the database with UTF8")
    available = int(settings["max_connections"]) - int(settings["superuser_reserved_connections"])
    if available < connections:
        yield WeakSetting(
            f"this server opens {connections} connections, and PostgreSQL allows {available}",
            "calls fail when PostgreSQL has no connection left",
            f"ALTER SYSTEM SET max_connections = {2 * connections}; restart PostgreSQL, "
            "or lower STOREKEEP_DATABASE_POOL_SIZE",
        )
    yield from _find_refused_writes(connection, is_read_only=settings["default_transaction_read_only"] == "on")
    yield from _find_missing_rights(connection, tables)
    yield from _find_weak_states(connection)


def _find_refused_writes(connection: Any, *, is_read_only: bool) -> Iterator[WeakSetting]:
    if connection.execute(READ_STANDBY).fetchall() == [(True,)]:
        remedy = "set STOREKEEP_DATABASE_URL to the primary, or to all servers: postgresql://host1,host2/..."
        yield WeakSetting("the database is a standby, which accepts no changes", REFUSED, remedy, is_error=True)
    elif is_read_only:
        remedy = "ALTER DATABASE or ALTER ROLE ... RESET default_transaction_read_only; or in postgresql.conf"
        yield WeakSetting("default_transaction_read_only is on", REFUSED, remedy, is_error=True)


def _find_missing_rights(connection: Any, tables: Set[str]) -> Iterator[WeakSetting]:
    rows = [row for row in connection.execute(READ_MISSING_RIGHTS).fetchall() if row[0] in tables]
    if not rows:
        return
    role = rows[0][2]
    ledgers = [name for _, name, _, is_ledger in rows if is_ledger]
    others = [name for _, name, _, is_ledger in rows if not is_ledger]
    grants = (("SELECT, INSERT, UPDATE, DELETE", others), ("SELECT, INSERT", ledgers))
    remedy = " ".join(f"GRANT {rights} ON {', '.join(names)} TO {role};" for rights, names in grants if names)
    what = f"the role {role} lacks rights on {len(rows)} tables, such as {rows[0][0]}"
    yield WeakSetting(what, REFUSED, remedy, is_error=True)


def _find_weak_states(connection: Any) -> Iterator[WeakSetting]:
    if connection.execute(READ_SUPERUSER).fetchall() == [(True,)]:
        why = "a flaw of the server would give access to every database and to the host"
        yield WeakSetting("the server connects as a superuser", why, "create a role that owns only this database")
    for name, size_bytes in connection.execute(READ_SLOTS).fetchall():
        if int(size_bytes) > SLOT_BYTES_MAX:
            what = f"the replication slot {name} is unused and retains {int(size_bytes) // 1024**2} MiB of WAL"
            yield WeakSetting(what, "it fills the disk", f"SELECT pg_drop_replication_slot('{name}');")


def read_clock_us(connection: Any) -> int:
    """Return the clock of PostgreSQL's host, in microseconds since 1970."""
    return int(connection.execute(READ_CLOCK_US).fetchall()[0][0])
