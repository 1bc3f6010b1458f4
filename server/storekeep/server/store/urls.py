"""The URL of a database: which engine it names, whether it can be used, and how it is shown without its password."""

from __future__ import annotations

import re
from pathlib import Path

SQLITE_SCHEME = "sqlite:///"
POSTGRESQL_SCHEME = "postgresql://"
PASSWORD = re.compile(r"(?<=://)([^:@/?]*):.*@")
"""The user, and the password behind it: all up to the last `@`, as a password that is not encoded may have one."""
PASSWORD_PARAMETER = re.compile(r"([?&](?:ssl)?password=)[^&]*", re.IGNORECASE)


def sqlite_path(url: str) -> Path | None:
    """The file of a SQLite database; None where another engine has it."""
    return Path(url.removeprefix(SQLITE_SCHEME)) if url.startswith(SQLITE_SCHEME) else None


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite database."""
    return f"{SQLITE_SCHEME}{path}"


def shown(url: str) -> str:
    """The URL as it may be shown to anyone; of SQLite, just the path."""
    path = sqlite_path(url)
    if path is not None:
        return str(path)
    return PASSWORD_PARAMETER.sub(r"\1***", PASSWORD.sub(r"\1:***@", url))


def problem_of(url: str) -> str:
    """Why a URL names no database that can be used; empty where it does. Tells nothing of its password."""
    if url.startswith(SQLITE_SCHEME):
        return "" if url != SQLITE_SCHEME else "there is no path behind sqlite:///"
    if not url.startswith(POSTGRESQL_SCHEME):
        scheme = url.partition(":")[0] if "://" in url else ""
        return f"{scheme or 'a URL without ://'} is not served, only {SQLITE_SCHEME} and {POSTGRESQL_SCHEME}"
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        return "PostgreSQL needs what `pip install 'storekeep[postgres]'` installs"
    try:
        conninfo_to_dict(url)
    except ProgrammingError as error:
        why = str(error).strip() if shown(url) == url else "is there an unencoded character in the password?"
        return f"not a URL of PostgreSQL: {why}"
    return ""


def problem_of_replica(url: str) -> str:
    """Why a URL names no replica that can be used; empty where it does. Tells nothing of its password."""
    if sqlite_path(url):
        return "a replica is a PostgreSQL"
    problem = problem_of(url)
    if problem:
        return problem
    from psycopg.conninfo import conninfo_to_dict

    given = conninfo_to_dict(url)
    if "," in f"{given.get('host', '')}{given.get('hostaddr', '')}{given.get('port', '')}":
        return "several hosts in one URL; how old a replica is can only be known of one, so give each its own URL"
    return ""
