"""The rows that one PlaceOrder writes, found by comparing a database before and after some orders.

The code names no table except `orders`, so the floor keeps writing what the server writes when the schema changes.
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
    """The order that a row belongs to cannot be determined."""


@dataclass(frozen=True)
class Table:
    """A table as the database describes it.

    Attributes:
        columns: names of the columns, in order.
        key: indexes of the primary key's columns.
        is_rowid: whether the key is a rowid, which the database assigns.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[int, ...]
    is_rowid: bool

    def get_key(self, row: Row) -> Row:
        """Return the primary key of a row."""
        return tuple(row[index] for index in self.key)


@dataclass
class OrderWrites:
    """The rows that one order writes.

    Attributes:
        added: new rows by table.
        changed: pairs of old and new row by table.
    """

    order_id: str
    added: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    changed: dict[str, list[tuple[Row, Row]]] = field(default_factory=lambda: defaultdict(list))

    def count_rows(self) -> tuple[tuple[str, int], ...]:
        """Return the number of rows by table, which is the same for all orders with as many lines."""
        rows = [(name, len(rows)) for kind in (self.added, self.changed) for name, rows in kind.items()]
        return tuple(sorted(rows))


def read_tables(connection: Any) -> dict[str, Table]:
    """Return the tables of the schema, without SQLite's internal ones."""
    names = connection.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).fetchall()
    return {name: _read_table(connection, name) for (name,) in names}


def _read_table(connection: Any, name: str) -> Table:
    described = connection.execute(f"PRAGMA table_info({name})").fetchall()
    key = tuple(row[0] for row in sorted((row for row in described if row[5]), key=lambda row: row[5]))
    is_rowid = len(key) == 1 and described[key[0]][2].upper() == "INTEGER"
    return Table(name, tuple(row[1] for row in described), key, is_rowid)


def read_orders(before: Path, after: Path) -> list[OrderWrites]:
    """Return the rows that each order wrote between two copies of a database. Nothing else may have been written.

    Raises: UnclearRows if a row cannot be assigned, or the orders wrote different numbers of rows.
    """
    connection = sqlite.connect(after)
    connection.execute("ATTACH ? AS before", [str(before)])
    tables = read_tables(connection)
    new = {name: connection.execute(f"SELECT * FROM {name} EXCEPT SELECT * FROM before.{name}") for name in tables}
    rows = {name: cursor.fetchall() for name, cursor in new.items()}
    orders = {row[tables[ORDERS].key[0]]: OrderWrites(row[tables[ORDERS].key[0]]) for row in rows[ORDERS]}
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
    if len({written.count_rows() for written in orders.values()}) != 1:
        raise UnclearRows("the orders wrote different numbers of rows")
    return list(orders.values())


def _find(connection: Any, table: Table, row: Row) -> Row | None:
    match = " AND ".join(f"{table.columns[index]} = ?" for index in table.key)
    old_row: Row | None = connection.execute(
        f"SELECT * FROM before.{table.name} WHERE {match}", table.get_key(row)
    ).fetchone()
    return old_row


def _assign_additions(orders: dict[str, OrderWrites], added: Sequence[tuple[Table, Row]]) -> None:
    """Assign to each order the rows that contain its id, or share a UUID such as the `request_id` with such a row.

    Raises: UnclearRows if a row belongs to no order or to several.
    """
    owners: dict[str, set[str]] = {order_id: {order_id} for order_id in orders}
    by_id = sorted(added, key=lambda item: not _find_uuids(item[1]) & set(orders))
    for table, row in by_id:
        uuids = _find_uuids(row)
        shared = (owners.get(uuid, set()) for uuid in uuids)
        # Rows of all orders have the UUID of the API key; it tells nothing.
        named = uuids & set(orders) or set().union(*(found for found in shared if len(found) == 1))
        if len(named) != 1:
            raise UnclearRows(f"a row of {table.name} belongs to {len(named)} orders")
        (order_id,) = named
        orders[order_id].added[table.name].append(row)
        for uuid in uuids:
            owners.setdefault(uuid, set()).add(order_id)


def _find_uuids(row: Row) -> set[str]:
    return {match.decode() for value in row for match in UUID.findall(_to_bytes(value))}


def _assign_changes(written: OrderWrites, changed: Sequence[tuple[Table, Row, Row]]) -> None:
    """Assign to the order the changed rows whose keys contain a SKU of its lines."""
    values = {value for rows in written.added.values() for row in rows for value in row if isinstance(value, str)}
    for table, old, new in changed:
        if set(table.get_key(new)) <= values:
            written.changed[table.name].append((old, new))


def _to_bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else b""
