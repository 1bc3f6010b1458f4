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

from storekeep.server.domain.access.users import User, create_user
from storekeep.server.domain.addresses import Address
from storekeep.server.domain.audit.checkpoints import sign_head
from storekeep.server.domain.calls import Call
from storekeep.server.domain.calls import Caller as Sender
from storekeep.server.domain.integrity.audited_rows import KINDS, check_kind
from storekeep.server.domain.integrity.verification import verify
from storekeep.server.domain.keys.audit_chain import AuditChain
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.money import Money
from storekeep.server.domain.orders.cancellations import cancel_order
from storekeep.server.domain.orders.changes import confirm_order
from storekeep.server.domain.orders.fulfillments import LineUnits, Parcel, create_fulfillment, ship_fulfillment
from storekeep.server.domain.orders.notes import add_order_note
from storekeep.server.domain.orders.quotes import Quote, create_quote
from storekeep.server.domain.pricing.coupons import COUPONS, Coupon
from storekeep.server.domain.pricing.prices import PRICES, Price
from storekeep.server.domain.pricing.promotions import PROMOTIONS, Action, Conditions, ItemSelection, Promotion
from storekeep.server.domain.pricing.shipping_methods import SHIPPING_METHODS, ShippingMethod, ShippingPrice
from storekeep.server.domain.pricing.tax_rates import TAX_RATES, TaxRate
from storekeep.server.domain.pricing.tax_zones import TAX_ZONES, TaxZone
from storekeep.server.domain.pricing.terms import DEFAULT_RULES, TaxArea, TaxComponent
from storekeep.server.domain.samples import load_sample
from storekeep.server.domain.stock.reservations import NewReservation, reserve
from storekeep.server.domain.webhooks.deliveries import plan_test
from storekeep.server.domain.webhooks.endpoints import EndpointSecrets, WebhookEndpoint, create_endpoint
from storekeep.server.integrations.signatures import generate_secret
from storekeep.server.store.engine import Store
from storekeep.server.store.tables.users import USE_IDENTITY_TOKEN
from storekeep.v1 import auth_pb2
from tests.support.databases import Database, Session, new_database
from tests.support.installations import SECRET, Caller, Installation, new_request_id
from tests.support.placing import CALL, place
from tests.support.stores import make_data_keys, open_store

OF_TRIGGERS = ("audit-guards", "schema")
MOVEMENT = "a movement has no entry; triggers keep the table append-only, and its sums are checked"
NEW_SECRET = "encrypted for retries of its creation, for minutes; other data cannot be decrypted"
USES = "counts the uses of promotions by orders; orders have their own discounts"
PROGRESS = "how far events were sent; another value repeats or omits messages, not data"
INFORMATIVE = "nothing is computed from it, and a restore with newer keys changes it without an entry"
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
    "data_keys.create_time_us": INFORMATIVE,
    "data_key_state.generation": "another value makes every process read the data keys again",
    "key_encryption_keys.create_time_us": INFORMATIVE,
    "user_secrets.totp_step": "a lower value accepts codes of the last 90 s again; a higher one rejects some",
    "password_links: deleted row": "a used or replaced link is deleted without an entry of its own",
    "used_identity_tokens": "ID tokens that have signed in; without its row, one works again for ten minutes",
    "encryption_steps": "only tells `migrate` how far it has encrypted an older database; empty in a new one",
    "pricing_versions": "another value makes every process read pricing again, which is compared",
    "promotion_uses": USES,
    "use_counts": USES,
    "price_history": "repeats the entries of prices and variants; nothing else is computed from it",
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
    fill_users(made)
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
    fill_pricing(store)
    secrets = EndpointSecrets(store.chain.keyring, generate=generate_secret, retention_s=600)
    for endpoint_id in ("erp", "crm"):
        endpoint = WebhookEndpoint(endpoint_id, url="https://example.com/", event_types=("order.*",))
        create_endpoint(store, WEBHOOK_CALL, endpoint, secrets=secrets, check_url=lambda _url: "")
        plan_test(store, WEBHOOK_CALL, endpoint_id)


def fill_users(made: Installation) -> None:
    access, password = made.access, "Seven wet umbrellas dry"
    for user_id in ("ann", "ben"):
        create_user(made.store, CALL, User(user_id, user_id.title(), f"{user_id}@example.com"))
    token = access.password_links.create(CALL, "ann", lifetime_us=10**12).token
    access.sign_ins.redeem_link(CALL, token=token, new_password=password)
    access.sign_ins.sign_in(CALL, email="ann@example.com", password=password, code="", program="Tests")
    access.password_links.create(CALL, "ben", lifetime_us=10**12)
    made.store.write(lambda tx: USE_IDENTITY_TOKEN.run(tx, token_id="used", expire_time_us=10**18))


def fill_pricing(store: Store) -> None:
    for zone_id in ("de", "at"):
        TAX_ZONES.create(store, CALL, TaxZone(zone_id, "Zone", (TaxArea(zone_id.upper()),)))
        rate = TaxRate(zone_id, "VAT", zone_id, "", (TaxComponent("VAT", 190_000),), 1, 2)
        TAX_RATES.create(store, CALL, rate)
        price = Price(zone_id, "MUG-BLUE", "EUR", 1, "gold", 2, 3, 4, 5, 1)
        PRICES.create(store, CALL, price)
        selection = ItemSelection(skus=("MUG-BLUE",))
        action = Action(percentage_ppm=1, items=selection)
        promotion = Promotion(zone_id, "Spring", currency_code="EUR", conditions=Conditions(units_min=2), action=action)
        PROMOTIONS.create(store, CALL, promotion)
        COUPONS.create(store, CALL, Coupon(zone_id, zone_id, zone_id.upper()))
        method = ShippingMethod(zone_id, "Parcel", (zone_id,), prices=(ShippingPrice(Money("EUR", 490)),))
        SHIPPING_METHODS.create(store, CALL, method)
        offer = Quote(zone_id, "ada-marsh", currency_code="EUR", lines=(("MUG-BLUE", 1),), note=zone_id)
        create_quote(store, CALL, offer, rules=DEFAULT_RULES)


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


PARTS = 6
"""Tests of the whole: in one, it would take minutes on a busy host, and look as if it hung."""


class Vandal:
    """Makes one change, runs `verify`, and undoes the change."""

    def __init__(self, database: Database, session: Session) -> None:
        self._session = session
        self.tables = list_columns(session, database.engine)
        self._store = open_store(database.url)
        self.close = self._store.close

    def is_found(self, table: str = "") -> bool:
        """Return whether a check fails, except the checks of the triggers, which are off here.

        Args:
            table: Where the change is. It is compared first, as `verify` does later: most changes show there.
        """
        self._store.data_keys = make_data_keys()
        own = [kind for kind in KINDS if table.startswith(kind.rows.table._meta.table_name.rstrip("s"))]
        if any(breach for kind in own for breach in check_kind(self._store, kind)):
            return True
        findings = verify(self._store, AuditChain(Keyring.from_secret(SECRET)))
        return any(not finding.holds for finding in findings if finding.name not in OF_TRIGGERS)

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
        found = self.is_found(table)
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
        found = self.is_found(table)
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
        found = self.is_found(table)
        self.delete(table, added)
        return found


@pytest.mark.parametrize("part", range(PARTS))
def test_verify_finds_every_change_by_sql(full: Database, part: int) -> None:
    missed = []
    with full.unguarded() as session, closing(Vandal(full, session)) as vandal:
        assert not vandal.is_found()
        tables = sorted(vandal.tables.keys() - EXCEPTIONS.keys())[part::PARTS]
        for table in tables:
            columns, _ = vandal.tables[table]
            row = vandal.row(table)
            assert row is not None, f"{table} is empty: have `full` write to it"
            missed += [f"{table}.{column}" for column in columns if not vandal.finds_change(table, row, column)]
            missed += [] if vandal.finds_deletion(table, row) else [f"{table}: deleted row"]
            missed += [] if vandal.finds_addition(table, row) else [f"{table}: added row"]
        assert not vandal.is_found(), "the test puts everything back"
    assert set(missed) == {
        name for name in EXCEPTIONS if name.startswith(tuple(f"{table}{end}" for table in tables for end in ".:"))
    }


def test_exceptions_of_verify_exist(full: Database, engine: str) -> None:
    with full.opened() as session:
        tables = list_columns(session, engine)
    names = {
        f"{table}{end}" for table, (columns, _) in tables.items() for end in ("", *(f".{name}" for name in columns))
    }
    assert {name.partition(": ")[0] for name in EXCEPTIONS} <= names
