"""`verify` detects changes by SQL: each changed column, and each added or deleted row.

The cases come from the schema, so that a new table or column fails here until it is compared or listed as an exception.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from typing import Any

import apsw
import grpc
import psycopg
import pytest

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.audit.checkpoints import sign_head
from storekeep.server.domain.calls import Call
from storekeep.server.domain.calls import Caller as Sender
from storekeep.server.domain.integrity.verification import verify
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.orders.cancellations import cancel_order
from storekeep.server.domain.orders.changes import confirm_order
from storekeep.server.domain.orders.fulfillments import LineUnits, Parcel, create_fulfillment, ship_fulfillment
from storekeep.server.domain.orders.notes import add_order_note
from storekeep.server.domain.samples import load_sample
from storekeep.server.domain.stock.reservations import NewReservation, reserve
from storekeep.server.domain.webhooks.deliveries import plan_test
from storekeep.server.domain.webhooks.endpoints import EndpointSecrets, WebhookEndpoint, create_endpoint
from storekeep.server.integrations.signatures import generate_secret
from storekeep.server.store.engine import Store
from storekeep.server.store.opening import open_store
from storekeep.v1 import auth_pb2
from tests.support.databases import Database, Session, new_database
from tests.support.installations import SECRET, Caller, Installation, new_request_id
from tests.support.placing import CALL, place

MOVEMENT = "a movement has no entry; triggers keep the table append-only, and its sums are checked"
NEW_SECRET = "encrypted for retries of its creation, for minutes; other data cannot be decrypted"
PROGRESS = "how far events were sent; another value repeats or omits messages, not data"
EXCEPTIONS = {
    "schema_migrations": "compared with the files by their SHA-256 at each start, and before `verify`",
    "access_versions": "another value makes the workers read permissions again; the permissions are checked",
    "replies": "replies to retries of the same request with the same key; purged after days",
    "api_key_secrets.secret_number": "only counts the keys that `rotate-secret --finish` invalidates",
    "locations.create_time_us": "the location that a migration makes has no entry until it is changed",
    "locations.update_time_us": "the location that a migration makes has no entry until it is changed",
    "product_documents.id": "only links the text index; the documents are compared with the products",
    "customer_documents.id": "only links the text index; the documents are compared with the customers",
    "stock_levels.version": "moves with each movement, without an entry of its own",
    "stock_levels.update_time_us": "moves with each movement, without an entry of its own",
    "stock_movements.id": MOVEMENT,
    "stock_movements.cause": MOVEMENT,
    "stock_movements.reason": MOVEMENT,
    "stock_movements.actor": MOVEMENT,
    "stock_movements.create_time_us": MOVEMENT,
    "stock_movements.source": MOVEMENT,
    "stock_movements.line_number": MOVEMENT,
    "new_api_key_secrets.sealed_secret": NEW_SECRET,
    "new_api_key_secrets.create_time_us": NEW_SECRET,
    "new_api_key_secrets: deleted row": NEW_SECRET,
    "webhook_progress": PROGRESS,
    "webhook_deliveries": PROGRESS,
}
"""Column, table or row -> why `verify` does not compare it. docs/operations.md lists them for operators."""
DESCRIPTION = {
    "billing_address": Address(recipient="Ada", region_code="IE"),
    "labels": {"gift": "yes"},
    "ship_by_time_us": 1,
    "deliver_by_time_us": 2,
}
ROWS = {
    "refresh_tokens": "use_time_us IS NULL",
    "signing_keys": "expire_time_us IS NULL",
}
"""Table -> condition for the row whose columns are changed, if it is not the first row."""

WEBHOOK_CALL = Call(Sender("serviceAccounts/test", permissions=frozenset({"orders.read"})), "test/Webhooks")


@pytest.fixture(scope="module")
def full(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Yield a database with rows in every table."""
    database = new_database(engine, tmp_path_factory.mktemp("full"))
    made = Installation(database)
    server = made.serve()
    with grpc.insecure_channel(made.address) as channel:
        nobody = Caller(channel)
        admin = nobody.with_key(made.admin_key)
        admin.make_account("shop", roles=["viewer"])
        key = auth_pb2.CreateApiKeyRequest(
            parent="serviceAccounts/shop", api_key=auth_pb2.ApiKey(), api_key_id="new", request_id=new_request_id()
        )
        tokens = nobody.issue(admin("CreateApiKey", key).secret)
        nobody("RefreshToken", auth_pb2.RefreshTokenRequest(refresh_token=tokens.refresh_token))
        nobody("RevokeToken", auth_pb2.RevokeTokenRequest(token=tokens.access_token))
    server.stop(grace=0).wait(timeout=60)
    fill(made.store)
    sign_head(made.store, made.store.chain)
    made.store.close()
    yield database
    database.remove()


def fill(store: Store) -> None:
    load_sample(store)
    orders = [place(store, "ada-marsh", ("MUG-BLUE", 2), ("TIN-RED", 1), **DESCRIPTION) for _ in range(3)]
    confirm_order(store, CALL, orders[1].id)
    shipped, _ = (create_fulfillment(store, CALL, orders[1].id, lines=(LineUnits(1, 1),)) for _ in range(2))
    ship_fulfillment(store, CALL, (orders[1].id, shipped.id), parcels=(Parcel("P-1"), Parcel("P-2")))
    cancel_order(store, CALL, orders[2].id, reason="test")
    add_order_note(store, CALL, orders[1].id, "a note")
    reserve(store, CALL, NewReservation((("MUG-BLUE", 4), ("TIN-RED", 1))))
    secrets = EndpointSecrets(store.chain.keyring, generate=generate_secret, retention_s=600)
    for endpoint_id in ("erp", "crm"):
        endpoint = WebhookEndpoint(endpoint_id, url="https://example.com/", event_types=("order.*",))
        create_endpoint(store, WEBHOOK_CALL, endpoint, secrets=secrets, check_url=lambda _url: "")
        plan_test(store, WEBHOOK_CALL, endpoint_id)


def list_columns(session: Session, engine: str) -> dict[str, tuple[list[str], list[str]]]:
    """Return table -> its columns, and the columns of its primary key."""
    if engine == "sqlite":
        names = session.rows("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        infos = {name: session.rows(f"PRAGMA table_info({name})") for (name,) in names}
        return {
            name: ([row[1] for row in rows], [row[1] for row in rows if row[5]])
            for name, rows in infos.items()
            if not name.startswith(("product_search", "customer_search"))
        }
    rows = session.rows(
        "SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables"
        " USING (table_schema, table_name) WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
        " AND is_generated = 'NEVER' ORDER BY table_name, ordinal_position"
    )
    keys = session.rows(
        "SELECT table_name, column_name FROM information_schema.key_column_usage"
        " JOIN information_schema.table_constraints USING (table_schema, table_name, constraint_name)"
        " WHERE table_schema = 'public' AND constraint_type = 'PRIMARY KEY' ORDER BY key_column_usage.ordinal_position"
    )
    return {
        table: ([c for t, c in rows if t == table], [c for t, c in keys if t == table])
        for table in sorted({t for t, _ in rows})
    }


def make_other_value(value: Any, others: Sequence[Any]) -> Any:
    """Return a plausible other value: that of another row, if possible."""
    for other in others:
        if other != value and other is not None:
            return other
    if value is None:
        return 1
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return 1 - value if value in (0, 1) else value + 1_000
    if isinstance(value, bytes | memoryview):
        return bytes(value)[:-1] + bytes([bytes(value)[-1] ^ 1])
    with suppress(ValueError):
        if isinstance(json.loads(value), list | dict):
            return "[]" if value.startswith("[") and value != "[]" else '["x"]' if value == "[]" else '{"x": "y"}'
    return f"{value}x"


class Vandal:
    """Makes one change, runs `verify`, and undoes the change."""

    def __init__(self, database: Database, session: Session) -> None:
        self._session = session
        self.tables = list_columns(session, database.engine)
        self._store = open_store(database.url)
        self.close = self._store.close

    def is_found(self) -> bool:
        """Return whether a check fails, except the check of the triggers, which are off here."""
        findings = verify(self._store, AuditChain(Keyring.from_secret(SECRET)))
        return any(not finding.holds for finding in findings if finding.name != "audit-guards")

    def row(self, table: str) -> dict[str, Any] | None:
        columns, _ = self.tables[table]
        where = f" WHERE {ROWS[table]}" if table in ROWS else ""
        rows = self._session.rows(f"SELECT {', '.join(columns)} FROM {table}{where} ORDER BY 1 LIMIT 1")
        return dict(zip(columns, rows[0], strict=True)) if rows else None

    def _where(self, table: str, row: dict[str, Any]) -> tuple[str, list[Any]]:
        _, keys = self.tables[table]
        return " AND ".join(f"{key} = ?" for key in keys), [row[key] for key in keys]

    def _set(self, table: str, row: dict[str, Any], column: str, value: Any) -> int:
        where, key = self._where(table, row)
        return self._session.run(f"UPDATE {table} SET {column} = ? WHERE {where}", value, *key)

    def finds_change(self, table: str, row: dict[str, Any], column: str) -> bool:
        others = [] if column in self.tables[table][1] else self.values(table, column)
        value = make_other_value(row[column], others)
        try:
            assert self._set(table, row, column, value) == 1
        except (apsw.ConstraintError, psycopg.IntegrityError):  # the value must be unique, and another row has it
            value = make_other_value(row[column], [])
            assert self._set(table, row, column, value) == 1
        found = self.is_found()
        assert self._set(table, row | {column: value}, column, row[column]) == 1
        return found

    def values(self, table: str, column: str) -> list[Any]:
        return [value for (value,) in self._session.rows(f"SELECT DISTINCT {column} FROM {table} ORDER BY 1 LIMIT 3")]

    def insert(self, table: str, row: dict[str, Any]) -> None:
        places = ", ".join("?" * len(row))
        self._session.run(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", *row.values())

    def delete(self, table: str, row: dict[str, Any]) -> None:
        where, key = self._where(table, row)
        assert self._session.run(f"DELETE FROM {table} WHERE {where}", *key) == 1

    def finds_deletion(self, table: str, row: dict[str, Any]) -> bool:
        self.delete(table, row)
        found = self.is_found()
        self.insert(table, row)
        return found

    def finds_addition(self, table: str, row: dict[str, Any]) -> bool:
        key = self.tables[table][1][-1]
        added = row | {key: make_other_value(row[key], [])}
        for column in self.tables[table][0]:
            try:
                self.insert(table, added)
                break
            except (apsw.ConstraintError, psycopg.IntegrityError):  # another column must be unique, too
                added[column] = make_other_value(row[column], [])
        found = self.is_found()
        self.delete(table, added)
        return found


def test_verify_finds_every_change_by_sql(full: Database) -> None:
    missed = []
    with full.unguarded() as session, closing(Vandal(full, session)) as vandal:
        assert not vandal.is_found()
        for table, (columns, _) in vandal.tables.items():
            if table in EXCEPTIONS:
                continue
            row = vandal.row(table)
            assert row is not None, f"{table} is empty: have `full` write to it"
            missed += [f"{table}.{column}" for column in columns if not vandal.finds_change(table, row, column)]
            missed += [] if vandal.finds_deletion(table, row) else [f"{table}: deleted row"]
            missed += [] if vandal.finds_addition(table, row) else [f"{table}: added row"]
        assert not vandal.is_found(), "the test puts everything back"
        tables = set(vandal.tables)
    assert set(missed) == EXCEPTIONS.keys() - tables
