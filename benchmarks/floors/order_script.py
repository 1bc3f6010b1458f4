"""A pgbench script with the statements of one real order, taken from PostgreSQL's statement log.

pgbench sends what Storekeep sent, in the same order, with new ids, times and SKUs in place of the recorded ones.
Statements before the lock and consecutive inserts are sent in a pipeline. The statement that takes the lock also
generates the ids, for which pgbench has no functions.
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
PLACEHOLDER = re.compile(r"\$(\d+)\b")
BYTES = re.compile(r"\\x(?:[0-9a-f]{2})*")
TAKES_LOCK = "pg_advisory_xact_lock"
READS_CHAIN = re.compile(r"SELECT\b.*\baudit_entries\b", re.DOTALL)
IDS = (
    "uuidv7() AS order_id, uuidv7() AS request_id, "
    "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT) AS now_us"
)
"""Generates ids of the same kinds as Storekeep and its client, so that rows go to the same places in the indexes."""


class UnclearStatements(Exception):
    """The log does not show the statements of an order."""


@dataclass(frozen=True)
class Statement:
    """One statement as it was sent.

    Attributes:
        sql: text with the parameters `$1` and so on.
        values: values of the parameters, as PostgreSQL logs them; None for NULL.
    """

    sql: str
    values: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class PlacedOrder:
    """The values of a real order that differ in each order.

    Attributes:
        sequence: sequence of its audit entry.
        number: order number, `SK-` and the sequence.
        previous_hash: hash in that entry, as PostgreSQL logs bytes.
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
    """Return the statements of the transaction that wrote an order, from BEGIN to COMMIT.

    Raises: UnclearStatements if the log does not contain it.
    """
    begun: dict[int, list[Statement]] = {}
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        executed = EXECUTED.fullmatch(entry.get("message", ""))
        if executed is None:
            continue
        values = _parse_values(entry.get("detail", ""))
        statements = begun.setdefault(entry["pid"], [])
        if executed[1].startswith("BEGIN"):
            statements.clear()
        statements += [Statement(sql, values) for sql in _split(executed[1])]
        if executed[1].startswith("COMMIT") and any(order_id in str(each.values) for each in statements):
            return statements
    raise UnclearStatements(f"the log has no transaction of order {order_id}")


def _parse_values(detail: str) -> tuple[str | None, ...]:
    matches = PARAMETER.findall(detail.partition(": ")[2])
    return tuple(None if value == "NULL" else value[1:-1].replace("''", "'") for _, value in matches)


def _split(sql: str) -> list[str]:
    """Return the statements of one message. No literal of Storekeep's statements contains a semicolon."""
    return [" ".join(part.split()) for part in sql.split(";") if part.strip()]


# -- the script


def reads_chain(statement: Statement) -> bool:
    """Whether the statement reads the end of the audit chain, whose values later statements use."""
    return bool(READS_CHAIN.match(statement.sql.replace('"', "")))


class Script:
    """Builds a pgbench script from an order's statements.

    Args:
        order: the recorded order.
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
        for index, sku in enumerate(self._skus):
            texts[sku] = f"('SKU-' || lpad(CAST(:sku{index} AS TEXT), 4, '0'))"
        self._texts: Mapping[str, str] = texts
        self._exact = {
            str(order.time_us): "CAST(:now_us AS BIGINT)",
            str(order.sequence): "CAST(:sequence AS BIGINT) + 1",
            order.previous_hash: "CAST(:entry_hash AS BYTEA)",
        }
        self._pieces = re.compile("|".join(map(re.escape, texts)))

    def make(self, statements: Sequence[Statement], *, orders: int = 1) -> str:
        """Return the script of one transaction.

        Args:
            statements: the recorded transaction.
            orders: orders in the transaction. As in Storekeep's group commit, only the first reads the chain.

        Raises: UnclearStatements if the statements do not have the expected form.
        """
        locking = next((index for index, each in enumerate(statements) if TAKES_LOCK in each.sql), None)
        if locking is None:
            raise UnclearStatements("no statement takes the lock")
        if sum(each.values.count(str(self._order.sequence)) for each in statements) > 2:
            raise UnclearStatements("the sequence of the audit entry also occurs with another meaning")
        lines = self._build_pipeline(statements[:locking])
        lines.append(f"{self._fill(statements[locking])}, {IDS} \\gset")
        *body, commit = statements[locking + 1 :]
        lines += self._build_order(body)
        writes = [each for each in body if not reads_chain(each)]
        for _ in range(orders - 1):
            lines += [f"SELECT {IDS} \\gset", "\\set sequence :sequence + 1", *self._build_order(writes)]
        return "\n".join([*lines, f"{commit.sql};"]) + "\n"

    def _build_order(self, statements: Sequence[Statement]) -> Iterator[str]:
        yield from self._set_variables()
        for are_inserts, run in groupby(statements, lambda each: each.sql.startswith("INSERT")):
            if are_inserts:
                yield from self._build_pipeline(run)
                continue
            for each in run:
                yield self._fill(each) + (" \\gset" if reads_chain(each) else ";")

    def _build_pipeline(self, statements: Iterable[Statement]) -> list[str]:
        """Return the statements as a pipeline, because no statement needs the result of another."""
        return ["\\startpipeline", *(f"{self._fill(each)};" for each in statements), "\\endpipeline"]

    def _set_variables(self) -> Iterator[str]:
        """Yield the commands that choose a customer and the SKUs, one from each section so that none occurs twice."""
        yield f"\\set customer random(0, {catalogue.CUSTOMERS - 1})"
        share = catalogue.SKUS // len(self._skus)
        for index in range(len(self._skus)):
            yield f"\\set sku{index} random({index * share + 1}, {(index + 1) * share})"

    def _fill(self, statement: Statement) -> str:
        return PLACEHOLDER.sub(lambda match: self._replace_value(statement.values[int(match[1]) - 1]), statement.sql)

    def _replace_value(self, value: str | None) -> str:
        """Return the SQL for a parameter: the recorded value, or an expression for a new one."""
        if value is None:
            return "NULL"
        if value in self._exact:
            return self._exact[value]
        if BYTES.fullmatch(value):
            content = bytes.fromhex(value[2:])
            is_text = self._order.order_id.encode() in content
            return f"convert_to({self._replace_text(content.decode())}, 'UTF8')" if is_text else _quote(value)
        return self._replace_text(value)

    def _replace_text(self, value: str) -> str:
        """Return the SQL for a text, in which recorded values are replaced with new ones."""
        parts, at = [], 0
        for match in self._pieces.finditer(value):
            parts += [_quote(value[at : match.start()]), self._texts[match[0]]]
            at = match.end()
        parts.append(_quote(value[at:]))
        return " || ".join(part for part in parts if part != "''") or "''"


def _quote(value: str) -> str:
    """Return an SQL literal with escaped colons, because pgbench replaces variables in literals too."""
    escaped = value.replace("\\", "\\\\").replace("'", "''").replace(":", "\\072")
    return f"{'E' if escaped != value.replace(chr(39), chr(39) * 2) else ''}'{escaped}'"
