"""The databases that are measured: a SQLite file, or one database of the PostgreSQL that runs for the benchmark."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import apsw
import psycopg

COUNT_ORDERS = "SELECT count(*) FROM orders"


class Database(Protocol):
    """One database of a shop, Storekeep's or the peer's."""

    @property
    def storekeep_url(self) -> str:
        """What Storekeep is told; empty for the default in its data directory."""

    @property
    def sqlalchemy_url(self) -> str:
        """What SQLAlchemy is told."""

    def count_orders(self) -> int:
        """How many orders are committed."""


@dataclass(frozen=True)
class SqliteFile:
    """A file."""

    path: Path

    @property
    def storekeep_url(self) -> str:
        """Its own default."""
        return ""

    @property
    def sqlalchemy_url(self) -> str:
        """With SQLAlchemy's default driver, or whichever the peer gives it."""
        return f"sqlite:///{self.path}"

    def count_orders(self) -> int:
        """How many orders are committed."""
        with closing(apsw.Connection(str(self.path))) as connection:
            return int(connection.execute(COUNT_ORDERS).get)


@dataclass(frozen=True)
class PostgresDatabase:
    """A database by the URL that libpq takes."""

    url: str

    @property
    def storekeep_url(self) -> str:
        """As libpq has it."""
        return self.url

    @property
    def sqlalchemy_url(self) -> str:
        """With psycopg 3 as the driver."""
        return self.url.replace("postgresql://", "postgresql+psycopg://", 1)

    def count_orders(self) -> int:
        """How many orders are committed."""
        with self.connect() as connection:
            row = connection.execute(COUNT_ORDERS).fetchone()
        return int(row[0]) if row else 0

    def connect(self) -> psycopg.Connection:
        """A connection whose statements commit by themselves."""
        return psycopg.connect(self.url, autocommit=True)
