"""The statements of one real order as a script for pgbench, out of PostgreSQL's own log of them.

No statement is written down here: pgbench sends what Storekeep sends, in the same order, with new ids, times and SKUs
in the places of the recorded ones. What comes before the lock, and what is inserted one after the other, is sent in a
pipeline. The statement that takes the lock also makes the ids, for which pgbench has no functions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from benchmarks import catalogue

EXECUTED = re.compile(r"(?:statement|execute [^:]*): (.*)", re.DOTALL)
PARAMETER = re.compile(r"\$(\d+) = (NULL|'(?:[^']|'')*')")
PLACE = re.compile(r"\$(\d+)\b")
BYTES = re.compile(r"\\x(?:[0-9a-f]{2})*")
TAKES_LOCK = "pg_advisory_xact_lock"
READS_CHAIN = re.compile(r"SELECT\b.*\baudit_entries\b", re.DOTALL)
IDS = (
    "uuidv7() AS order_id, uuidv7() AS request_id, "
    "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT) AS now_us"
)
"""Ids as Storekeep and its client make them, which decides where their rows go in an index."""


class UnclearStatements(Exception):
    """The log does not show what an order's statements are."""


@dataclass(frozen=True)
class Statement:
    """One statement as it was sent.

    Attributes:
        sql: with `$1` and so on in its places.
        values: of its places, as PostgreSQL writes them; None for NULL.
    """

    sql: str
    values: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class PlacedOrder:
    """What of a real order is another in each order.

    Attributes:
        sequence: of its audit entry.
        number: what people call it by: `SK-` and the sequence.
        previous_hash: in that entry, as PostgreSQL writes bytes.
    """

    order_id: str
    request_id: str
    customer_id: str
    skus: tuple[str, ...]
    time_us: int
    sequence: int
    number: str
    previous_hash: str


# -- the log


def read_transaction(log: Path, order_id: str) -> list[Statement]:
    """The statements of the transaction that wrote an order, from its BEGIN to its COMMIT.

    Raises: UnclearStatements where the log does not hold it.
    """
    begun: dict[int, list[Statement]] = {}
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        executed = EXECUTED.fullmatch(entry.get("message", ""))
        if executed is None:
            continue
        values = _values(entry.get("detail", ""))
        statements = begun.setdefault(entry["pid"], [])
        if executed[1].startswith("BEGIN"):
            statements.clear()
        statements += [Statement(sql, values) for sql in _split(executed[1])]
        if executed[1].startswith("COMMIT") and any(order_id in str(each.values) for each in statements):
            return statements
    raise UnclearStatements(f"the log has no transaction of order {order_id}")


def _values(detail: str) -> tuple[str | None, ...]:
    found = PARAMETER.findall(detail.partition(": ")[2])
    return tuple(None if value == "NULL" else value[1:-1].replace("''", "'") for _, value in found)


def _split(sql: str) -> list[str]:
    """The statements of one message; none of Storekeep's has a semicolon in a text."""
    return [" ".join(part.split()) for part in sql.split(";") if part.strip()]


# -- the script


def reads_chain(statement: Statement) -> bool:
    """Whether it reads the end of the audit chain, which further statements are given."""
    return bool(READS_CHAIN.match(statement.sql.replace('"', "")))


class Script:
    """Makes pgbench's script of an order's statements.

    Args:
        order: that was recorded.
    """

    def __init__(self, order: PlacedOrder) -> None:
        self._order = order
        self._skus = sorted(order.skus)
        texts = {
            order.order_id: "CAST(:order_id AS TEXT)",
            order.request_id: "CAST(:request_id AS TEXT)",
            order.customer_id: f"('customer-' || lpad(CAST(:customer AS TEXT), {len(order.customer_id) - 9}, '0'))",
            str(order.time_us): "CAST(:now_us AS TEXT)",
            order.number: "('SK-' || lpad(CAST(CAST(:sequence AS BIGINT) + 1 AS TEXT), 8, '0'))",
        }
        for place, sku in enumerate(self._skus):
            texts[sku] = f"('SKU-' || lpad(CAST(:sku{place} AS TEXT), 4, '0'))"
        self._texts: Mapping[str, str] = texts
        self._wholes = {
            str(order.time_us): "CAST(:now_us AS BIGINT)",
            str(order.sequence): "CAST(:sequence AS BIGINT) + 1",
            order.previous_hash: "CAST(:entry_hash AS BYTEA)",
        }
        self._pieces = re.compile("|".join(map(re.escape, texts)))

    def make(self, statements: Sequence[Statement], *, orders: int = 1) -> str:
        """The script of a transaction.

        Args:
            statements: of the recorded one.
            orders: in the transaction; all after the first know the end of the chain, as in Storekeep's group commit.

        Raises: UnclearStatements.
        """
        locking = next((place for place, each in enumerate(statements) if TAKES_LOCK in each.sql), None)
        if locking is None:
            raise UnclearStatements("no statement takes the lock")
        if sum(each.values.count(str(self._order.sequence)) for each in statements) > 2:
            raise UnclearStatements("the number of the audit entry stands for something else too")
        lines = self._pipeline(statements[:locking])
        lines.append(f"{self._filled(statements[locking])}, {IDS} \\gset")
        *body, commit = statements[locking + 1 :]
        lines += self._order_lines(body)
        writes = [each for each in body if not reads_chain(each)]
        for _ in range(orders - 1):
            lines += [f"SELECT {IDS} \\gset", "\\set sequence :sequence + 1", *self._order_lines(writes)]
        return "\n".join([*lines, f"{commit.sql};"]) + "\n"

    def _order_lines(self, statements: Sequence[Statement]) -> Iterator[str]:
        yield from self._variables()
        for are_inserts, run in groupby(statements, lambda each: each.sql.startswith("INSERT")):
            if are_inserts:
                yield from self._pipeline(run)
                continue
            for each in run:
                yield self._filled(each) + (" \\gset" if reads_chain(each) else ";")

    def _pipeline(self, statements: Iterable[Statement]) -> list[str]:
        """Statements that are sent together, as nobody waits for what each of them gives."""
        return ["\\startpipeline", *(f"{self._filled(each)};" for each in statements), "\\endpipeline"]

    def _variables(self) -> Iterator[str]:
        """The customer, and a SKU out of each part of all, so that none is chosen twice."""
        yield f"\\set customer random(0, {catalogue.CUSTOMERS - 1})"
        share = catalogue.SKUS // len(self._skus)
        for place in range(len(self._skus)):
            yield f"\\set sku{place} random({place * share + 1}, {(place + 1) * share})"

    def _filled(self, statement: Statement) -> str:
        return PLACE.sub(lambda found: self._value(statement.values[int(found[1]) - 1]), statement.sql)

    def _value(self, value: str | None) -> str:
        """What stands in a place: the recorded value, or what makes a new one of it."""
        if value is None:
            return "NULL"
        if value in self._wholes:
            return self._wholes[value]
        if BYTES.fullmatch(value):
            said = bytes.fromhex(value[2:])
            is_text = self._order.order_id.encode() in said
            return f"convert_to({self._text(said.decode())}, 'UTF8')" if is_text else _quoted(value)
        return self._text(value)

    def _text(self, value: str) -> str:
        """A text as a sum of what stays and what is new."""
        parts, at = [], 0
        for found in self._pieces.finditer(value):
            parts += [_quoted(value[at : found.start()]), self._texts[found[0]]]
            at = found.end()
        parts.append(_quoted(value[at:]))
        return " || ".join(part for part in parts if part != "''") or "''"


def _quoted(value: str) -> str:
    """A text that pgbench finds no variable in: they begin with a colon, in texts too."""
    quoted = value.replace("\\", "\\\\").replace("'", "''").replace(":", "\\072")
    return f"{'E' if quoted != value.replace(chr(39), chr(39) * 2) else ''}'{quoted}'"
