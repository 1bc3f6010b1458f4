"""The floor of PlaceOrder on PostgreSQL: pgbench with 8 clients that send a real order's statements, prepared.

pgbench is PostgreSQL's own load generator, written in C. It computes nothing: prices, hashes and JSON are those of the
recorded order. One transaction is one order with the same advisory lock and the same number of rows, which is checked.
A second floor commits several orders together, as Storekeep does.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import grpc

from benchmarks.databases import PostgresDatabase
from benchmarks.floors.order_script import PlacedOrder, Script, Statement, UnclearStatements, read_transaction
from benchmarks.loads.load import LINES, Load, LoadFailed
from benchmarks.loads.order_messages import PLACE_ORDER, Requests
from benchmarks.machine import CORES, run_pinned
from benchmarks.postgres import Postgres, find_binary
from benchmarks.subjects import CALL_TIMEOUT_S, Storekeep
from storekeep.v1 import orders_pb2

CLIENTS = 8
TOGETHER = 16
"""Orders in each transaction of the second floor."""
GENERIC_PLANS = "-c plan_cache_mode=force_generic_plan"
"""Without this option PostgreSQL plans some statements again for each order, which costs up to a third of its time."""
LOG_TIMEOUT_S = 10.0
END_TIMEOUT_S = 60.0
PROCESSED = re.compile(r"number of transactions actually processed: (\d+)")
FAILED = re.compile(r"number of failed transactions: (\d+)")
RATE = re.compile(r"tps = ([\d.]+) \(without initial connection time\)")
ORDER = """
    SELECT o.create_time_us, o.customer_id, a.request_id, a.sequence, o.number, a.previous_hash
    FROM orders o JOIN audit_entries a ON a.resource = 'orders/' || o.id WHERE o.id = %s
    """
TABLES = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"


@dataclass(frozen=True)
class Floor:
    """pgbench with a script.

    Attributes:
        script: file with the script.
        database: database that the script writes to.
        orders: orders in each transaction.
    """

    script: Path
    database: PostgresDatabase
    orders: int

    def run(self, seconds: float) -> Load:
        """Run one turn.

        Raises: LoadFailed if a transaction fails.
        """
        output, cpu_s = self._run_pgbench("-c", str(CLIENTS), "-T", str(max(1, round(seconds))), timeout_s=seconds)
        transactions, per_s = int(_parse(PROCESSED, output)), float(_parse(RATE, output))
        return Load(transactions * self.orders, transactions / per_s, server_cpu_s=0.0, client_cpu_s=cpu_s)

    def check_rows(self, expected: Counter[str]) -> None:
        """Run the script once and check that it adds as many rows as real orders.

        Args:
            expected: rows that one real order adds, by table.

        Raises: LoadFailed if it adds other rows.
        """
        before = count_rows(self.database)
        self._run_pgbench("-c", "1", "-t", "1", timeout_s=0.0)
        added = count_rows(self.database) - before
        if added != Counter({table: rows * self.orders for table, rows in expected.items()}):
            raise LoadFailed(
                f"pgbench adds {dict(added)} rows, {self.orders} orders of Storekeep's {dict(expected)} each"
            )

    def _run_pgbench(self, *options: str, timeout_s: float) -> tuple[str, float]:
        command = [str(find_binary("pgbench")), "-n", "-M", "prepared", "-f", str(self.script), *options]
        command.append(f"{self.database.url}&options={quote(GENERIC_PLANS)}")
        try:
            output, cpu_s = run_pinned(command, cores=CORES, timeout_s=timeout_s + END_TIMEOUT_S)
        except RuntimeError as error:
            raise LoadFailed(str(error)) from error
        if int(_parse(FAILED, output)):
            raise LoadFailed(f"pgbench: not every transaction succeeded\n{output}")
        return output, cpu_s


def _parse(pattern: re.Pattern[str], output: str) -> str:
    match = pattern.search(output)
    if match is None:
        raise LoadFailed(f"unexpected output of pgbench\n{output}")
    return match[1]


def count_rows(database: PostgresDatabase) -> Counter[str]:
    """Return the number of rows in each table."""
    with database.connect() as connection:
        names = [name for (name,) in connection.execute(TABLES)]
        counts = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone() for name in names}
    return Counter({name: row[0] for name, row in counts.items() if row})


def record(postgres: Postgres, shop: Storekeep, *, copy: PostgresDatabase, folder: Path) -> tuple[Floor, Floor]:
    """Place an order with PostgreSQL's statement log on, and build the pgbench scripts from the log.

    Args:
        shop: a Storekeep on PostgreSQL.
        copy: another database with the same catalogue, for the floors to write to.
        folder: folder for the scripts.

    Returns: the floor that commits each order, and the one that commits several together.

    Raises: UnclearStatements, LoadFailed.
    """
    database = shop.database
    if not isinstance(database, PostgresDatabase):
        raise TypeError("the shop is not on PostgreSQL")
    _place(shop)  # the first order also prepares statements
    _log_statements(postgres, "all")
    before = count_rows(database)
    order_id = _place(shop)
    statements = _await_transaction(postgres.find_statement_log(), order_id)
    _log_statements(postgres, "none")
    written = count_rows(database) - before
    script = Script(_find(database, order_id))

    def build_floor(orders: int) -> Floor:
        file = folder / f"orders-{orders}.sql"
        file.write_text(script.make(statements, orders=orders))
        floor = Floor(file, copy, orders)
        floor.check_rows(written)
        return floor

    return build_floor(1), build_floor(TOGETHER)


def _place(shop: Storekeep) -> str:
    """Place one order and return its id."""
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = shop.channel.unary_unary(PLACE_ORDER)
    answer = call(Requests(LINES).make(), timeout=CALL_TIMEOUT_S, metadata=shop.build_metadata())
    return orders_pb2.Order.FromString(answer).name.partition("/")[2]


def _log_statements(postgres: Postgres, which: str) -> None:
    postgres.run(f"ALTER SYSTEM SET log_statement = '{which}'", "SELECT pg_reload_conf()")
    time.sleep(1.0)  # time for the reload signal to reach each session


def _await_transaction(log: Path, order_id: str) -> list[Statement]:
    """Return the logged statements of an order. Another process writes the log, shortly after the reply."""
    deadline = time.monotonic() + LOG_TIMEOUT_S
    while True:
        try:
            return read_transaction(log, order_id)
        except (OSError, ValueError, UnclearStatements):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _find(database: PostgresDatabase, order_id: str) -> PlacedOrder:
    with database.connect() as connection:
        row = connection.execute(ORDER, [order_id]).fetchone()
        lines = connection.execute("SELECT sku FROM order_lines WHERE order_id = %s", [order_id]).fetchall()
    if row is None:
        raise UnclearStatements(f"order {order_id} is not in the database")
    time_us, customer_id, request_id, sequence, number, previous_hash = row
    return PlacedOrder(
        order_id,
        request_id,
        customer_id,
        tuple(sku for (sku,) in lines),
        time_us,
        sequence,
        number,
        f"\\x{previous_hash.hex()}",
    )
