"""The rows that one PlaceOrder writes, found by comparing a database before and after some orders.

Nothing here knows the tables by name but `orders`, so the floor writes what the server writes, whatever that becomes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2 as sqlite

ORDERS = "orders"
UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

Row = tuple[Any, ...]


class UnclearRows(Exception):
    """It cannot be told which order a row belongs to."""


@dataclass(frozen=True)
class Table:
    """A table as the database describes it.

    Attributes:
        columns: their names, in order.
        key: places of the columns of the primary key.
        counts_itself: whether its key is a rowid, which the database chooses.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[int, ...]
    counts_itself: bool

    def key_of(self, row: Row) -> Row:
        """The values of a row's key."""
        return tuple(row[place] for place in self.key)


@dataclass
class Written:
    """What one order writes.

    Attributes:
        added: table -> new rows.
        changed: table -> rows as they were, and as they are.
    """

    order_id: str
    added: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    changed: dict[str, list[tuple[Row, Row]]] = field(default_factory=lambda: defaultdict(list))

    def shape(self) -> tuple[tuple[str, int], ...]:
        """How many rows of which table: the same for all orders of as many lines."""
        rows = [(name, len(rows)) for kind in (self.added, self.changed) for name, rows in kind.items()]
        return tuple(sorted(rows))


def read_tables(connection: Any) -> dict[str, Table]:
    """The tables that hold data of their own, without those that SQLite keeps for itself."""
    names = connection.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    return {name: _read_table(connection, name) for (name,) in names}


def _read_table(connection: Any, name: str) -> Table:
    described = connection.execute(f"PRAGMA table_info({name})").fetchall()
    key = tuple(row[0] for row in sorted((row for row in described if row[5]), key=lambda row: row[5]))
    counts_itself = len(key) == 1 and described[key[0]][2].upper() == "INTEGER"
    return Table(name, tuple(row[1] for row in described), key, counts_itself)


def read_orders(before: Path, after: Path) -> list[Written]:
    """What each order wrote between two copies of one database, in which nothing but orders was written.

    Raises: UnclearRows.
    """
    connection = sqlite.connect(after)
    connection.execute("ATTACH ? AS before", [str(before)])
    tables = read_tables(connection)
    new = {name: connection.execute(f"SELECT * FROM {name} EXCEPT SELECT * FROM before.{name}") for name in tables}
    rows = {name: cursor.fetchall() for name, cursor in new.items()}
    orders = {row[tables[ORDERS].key[0]]: Written(row[tables[ORDERS].key[0]]) for row in rows[ORDERS]}
    added: list[tuple[Table, Row]] = []
    changed: list[tuple[Table, Row, Row]] = []
    for table in tables.values():
        for row in rows[table.name]:
            old = _find(connection, table, row)
            if old is None:
                added.append((table, row))
            else:
                changed.append((table, old, row))
    connection.close()
    _assign_additions(orders, added)
    for written in orders.values():
        _assign_changes(written, changed)
    if len({written.shape() for written in orders.values()}) != 1:
        raise UnclearRows("not all orders write as many rows")
    return list(orders.values())


def _find(connection: Any, table: Table, row: Row) -> Row | None:
    match = " AND ".join(f"{table.columns[place]} = ?" for place in table.key)
    found: Row | None = connection.execute(
        f"SELECT * FROM before.{table.name} WHERE {match}", table.key_of(row)
    ).fetchone()
    return found


def _assign_additions(orders: dict[str, Written], added: Sequence[tuple[Table, Row]]) -> None:
    """Give each order the rows that name it, and those that share a UUID with them, such as the `request_id`.

    Raises: UnclearRows.
    """
    owners: dict[str, set[str]] = {order_id: {order_id} for order_id in orders}
    by_id = sorted(added, key=lambda item: not _uuids_of(item[1]) & set(orders))
    for table, row in by_id:
        uuids = _uuids_of(row)
        named = uuids & set(orders) or set().union(*(owners.get(uuid, set()) for uuid in uuids))
        if len(named) != 1:
            raise UnclearRows(f"a row of {table.name} belongs to {len(named)} orders")
        (order_id,) = named
        orders[order_id].added[table.name].append(row)
        for uuid in uuids:
            owners.setdefault(uuid, set()).add(order_id)


def _uuids_of(row: Row) -> set[str]:
    return {found.decode() for value in row for found in UUID.findall(_as_bytes(value))}


def _assign_changes(written: Written, changed: Sequence[tuple[Table, Row, Row]]) -> None:
    """Give the order the changed rows whose keys hold a SKU of its lines.

    Raises: UnclearRows.
    """
    values = {value for rows in written.added.values() for row in rows for value in row if isinstance(value, str)}
    for table, old, new in changed:
        if set(table.key_of(new)) <= values:
            written.changed[table.name].append((old, new))


def _as_bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else b""
