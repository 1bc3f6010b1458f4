"""Database URLs: validates them, tells the engine, and hides the password."""

from __future__ import annotations

import re
from pathlib import Path

SQLITE_SCHEME = "sqlite:///"
POSTGRESQL_SCHEME = "postgresql://"
PASSWORD = re.compile(r"(?<=://)([^:@/?]*):.*@")
"""Matches the user and the password up to the last `@`: a password that is not percent-encoded may contain one."""
PASSWORD_PARAMETER = re.compile(r"([?&](?:ssl)?password=)[^&]*", re.IGNORECASE)


def parse_sqlite_path(url: str) -> Path | None:
    """Return the file of a SQLite URL; None for another engine."""
    return Path(url.removeprefix(SQLITE_SCHEME)) if url.startswith(SQLITE_SCHEME) else None


def make_sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return f"{SQLITE_SCHEME}{path}"


def hide_password(url: str) -> str:
    """Return a URL without its password, for logs and messages; for SQLite, only the path."""
    path = parse_sqlite_path(url)
    if path is not None:
        return str(path)
    return PASSWORD_PARAMETER.sub(r"\1***", PASSWORD.sub(r"\1:***@", url))


def find_url_problem(url: str) -> str:
    """Return why a URL names no usable database; empty if it does. The text never contains the password."""
    if url.startswith(SQLITE_SCHEME):
        return "" if url != SQLITE_SCHEME else "sqlite:/// needs a path after it"
    if not url.startswith(POSTGRESQL_SCHEME):
        scheme = url.partition(":")[0] if "://" in url else ""
        return f"{scheme or 'a URL without ://'} is not served; use {SQLITE_SCHEME} or {POSTGRESQL_SCHEME}"
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        return "PostgreSQL support is not installed; run: pip install 'storekeep[postgres]'"
    try:
        conninfo_to_dict(url)
    except ProgrammingError as error:
        why = str(error).strip() if hide_password(url) == url else "is there an unencoded character in the password?"
        return f"not a PostgreSQL URL: {why}"
    return ""


def find_replica_url_problem(url: str) -> str:
    """Return why a URL names no usable replica; empty if it does. The text never contains the password."""
    if parse_sqlite_path(url):
        return "a replica is a PostgreSQL database"
    problem = find_url_problem(url)
    if problem:
        return problem
    from psycopg.conninfo import conninfo_to_dict

    parameters = conninfo_to_dict(url)
    if "," in f"{parameters.get('host', '')}{parameters.get('hostaddr', '')}{parameters.get('port', '')}":
        return "several hosts in one URL; staleness is measured per host, so give each its own URL"
    if "," in str(parameters.get("dbname", "")):
        return "a comma in the name of the database; separate URLs by spaces"
    return ""
