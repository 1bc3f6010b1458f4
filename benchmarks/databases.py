"""The databases of the measured servers: SQLite files, and databases of the benchmark's own PostgreSQL."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import apsw
import psycopg

COUNT_ORDERS = "SELECT count(*) FROM orders"


class Database(Protocol):
    """The database of one Storekeep or peer."""

    @property
    def storekeep_url(self) -> str:
        """The URL for Storekeep; empty for the default file in its data directory."""

    @property
    def sqlalchemy_url(self) -> str:
        """The URL for SQLAlchemy."""

    def count_orders(self) -> int:
        """Return the number of committed orders."""


@dataclass(frozen=True)
class SqliteFile:
    """A SQLite database in a file."""

    path: Path

    @property
    def storekeep_url(self) -> str:
        """Empty: Storekeep's default."""
        return ""

    @property
    def sqlalchemy_url(self) -> str:
        """The file, for SQLAlchemy's default driver or the module that the peer passes."""
        return f"sqlite:///{self.path}"

    def count_orders(self) -> int:
        """Return the number of committed orders."""
        with closing(apsw.Connection(str(self.path))) as connection:
            return int(connection.execute(COUNT_ORDERS).get)


@dataclass(frozen=True)
class PostgresDatabase:
    """A PostgreSQL database, by libpq URL."""

    url: str

    @property
    def storekeep_url(self) -> str:
        """The libpq URL."""
        return self.url

    @property
    def sqlalchemy_url(self) -> str:
        """The URL with psycopg 3 as the driver."""
        return self.url.replace("postgresql://", "postgresql+psycopg://", 1)

    def count_orders(self) -> int:
        """Return the number of committed orders."""
        with self.connect() as connection:
            row = connection.execute(COUNT_ORDERS).fetchone()
        return int(row[0]) if row else 0

    def connect(self) -> psycopg.Connection:
        """Return a connection in autocommit mode."""
        return psycopg.connect(self.url, autocommit=True)
