"""`verify` after SQL changed encrypted values, data keys or key-encryption keys: each is reported by its row."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storekeep.server.domain.customers import CUSTOMERS, Customer
from storekeep.server.domain.integrity.verification import verify
from storekeep.server.domain.keys.data_keys import FORMAT
from storekeep.server.domain.keys.personal_fields import INDEX_SUBJECT
from storekeep.server.domain.orders.changes import confirm_order
from storekeep.server.domain.orders.fulfillments import LineUnits, Parcel, create_fulfillment, ship_fulfillment
from storekeep.server.domain.orders.notes import add_order_note
from storekeep.server.domain.personal_data.erasures import erase_customer
from storekeep.server.domain.personal_data.kek_rotations import rewrap_data_keys, start_kek_rotation
from storekeep.server.domain.samples import load_sample
from storekeep.server.domain.stock.expiry import set_expirers
from storekeep.server.runtime.key_encryption import make_key_id
from storekeep.server.wiring.expirers import EXPIRERS
from tests.support.databases import Database, Session, new_database
from tests.support.placing import CALL, place
from tests.support.processes import run_command
from tests.support.stores import KEK, make_data_keys, open_store

NEW_KEK = b"nEw0n0dJm1rQeTz7bXy3VhU5sAf8LpGiNo2w"
ADA = "customers/ada-marsh"
ADA_ROW = "WHERE id = 'ada-marsh'"
ADA_KEY = f"WHERE subject = '{ADA}'"
INDEX_KEY = f"WHERE subject = '{INDEX_SUBJECT}'"
NEVER = "(SELECT MAX(destroy_time_us) FROM data_keys)"
ZEROS = "0" * 80


@pytest.fixture(scope="module")
def sound(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Yield a database with personal data, an erased customer and a rotation of the key-encryption key."""
    database = new_database(engine, tmp_path_factory.mktemp("sound"))
    with closing(open_store(database.url)) as store:
        set_expirers(store, EXPIRERS)
        load_sample(store)
        CUSTOMERS.create(store, CALL, Customer("mei-tanaka", "Mei Tanaka", email="mei@example.com"))
        order = place(store, "ada-marsh", ("MUG-BLUE", 2))
        confirm_order(store, CALL, order.id)
        shipped = create_fulfillment(store, CALL, order.id, lines=(LineUnits(1, 2),))
        ship_fulfillment(store, CALL, (order.id, shipped.id), parcels=(Parcel("P-1"), Parcel("P-2")))
        add_order_note(store, CALL, order.id, "a note")
        erase_customer(store, CALL, "mei-tanaka", force=True)
        store.data_keys = make_data_keys(NEW_KEK, KEK)
        start_kek_rotation(store, make_key_id(NEW_KEK))
        rewrap_data_keys(store)
    yield database
    database.remove()


@pytest.fixture
def database(sound: Database, tmp_path: Path) -> Iterator[Database]:
    copy = sound.copy(tmp_path)
    yield copy
    copy.remove()


def report(database: Database, *keks: bytes) -> dict[str, tuple[str, ...]]:
    """Return check -> breaches of the checks that fail."""
    with closing(open_store(database.url)) as store:
        store.data_keys = make_data_keys(*keks) if keks else None
        return {finding.name: finding.breaches for finding in verify(store) if not finding.holds}


def flip(text: str, index: int) -> str:
    """Return base64 text with one bit of the byte at an index flipped."""
    data = bytearray(a2b_base64(text))
    data[index] ^= 0x80
    return b2a_base64(data, newline=False).decode()


def get(session: Session, sql: str) -> str:
    ((value,),) = session.rows(sql)
    return str(value)


def test_sound_keys_hold_with_and_without_the_key_encryption_key(database: Database) -> None:
    assert report(database, NEW_KEK) == report(database, NEW_KEK, KEK) == report(database) == {}


@pytest.mark.parametrize("index", [0, 1, len(FORMAT) + 8, 30, -1])
def test_flipped_bit_in_an_encrypted_value_names_its_row(database: Database, index: int) -> None:
    with database.unguarded() as session:
        text = get(session, f"SELECT encrypted FROM customers {ADA_ROW}")
        session.run(f"UPDATE customers SET encrypted = ? {ADA_ROW}", flip(text, index))
    found = report(database, NEW_KEK)
    assert any(breach.startswith(f"{ADA}: encrypted not as recorded") for breach in found["audit-rows"])
    assert any(breach.startswith(f"{ADA}: its ") for breach in found["audit-rows"])
    assert all(breach.startswith(f"{ADA}: ") for breach in found["audit-rows"])


@pytest.mark.parametrize("value", ["x", "AAAA", "!", "{}"])
def test_value_of_another_form_names_its_row(database: Database, value: str) -> None:
    with database.unguarded() as session:
        for table in ("customers", "orders", "order_notes", "fulfillments"):
            session.run(f"UPDATE {table} SET encrypted = ? WHERE encrypted <> ''", value)
    breaches = report(database, NEW_KEK)["audit-rows"]
    assert any(breach.startswith(f"{ADA}: its personal data cannot be decrypted") for breach in breaches)
    assert not any("it holds data that" in breach for breach in breaches)


def test_value_that_decrypts_but_is_no_json_names_its_row(database: Database) -> None:
    with closing(open_store(database.url)) as store:
        store.data_keys = make_data_keys(NEW_KEK)
        data = store.write(lambda tx: tx.data_keys.encrypt(tx, ADA, b"{no json", aad=ADA.encode()))
    with database.unguarded() as session:
        session.run(f"UPDATE customers SET encrypted = ? {ADA_ROW}", b2a_base64(data, newline=False).decode())
    found = report(database, NEW_KEK)
    assert f"{ADA}: its personal data cannot be decrypted, or is not what Storekeep writes" in found["audit-rows"]
    assert f"{ADA}: its row cannot be read; see audit-rows" in found["search-documents"]


KEYS = (
    (f"UPDATE data_keys SET wrapped_key = 'x' {ADA_KEY}", f"({ADA}): it was changed"),
    (f"UPDATE data_keys SET wrapped_key = replace(wrapped_key, '=', '') || 'A' {ADA_KEY}", f"({ADA}): it was changed"),
    (f"UPDATE data_keys SET subject = 'customers/x' {ADA_KEY}", "(customers/x): it was changed"),
    (f"UPDATE data_keys SET wrapped_key = '{ZEROS}' {ADA_KEY}", f"({ADA}): it is overwritten"),
    (f"UPDATE data_keys SET destroy_time_us = 1 {ADA_KEY}", f"({ADA}): it is marked as destroyed"),
    (f"UPDATE data_keys SET key_id = 'gone' {ADA_KEY}", f"({ADA}): its key-encryption key gone is not in"),
    (f"UPDATE data_keys SET key_id = '{make_key_id(KEK)}' {INDEX_KEY}", "(system/blind-index): it was changed"),
    (f"UPDATE data_keys SET wrapped_key = 'x' {INDEX_KEY}", "(system/blind-index): it was changed"),
    (f"UPDATE data_keys SET number = -number {ADA_KEY}", f"({ADA}): its number is not positive"),
    (f"DELETE FROM data_keys {INDEX_KEY}", "the key of system/blind-index is missing"),
    ("UPDATE key_encryption_keys SET key_id = 'gone' WHERE number = 2", "row 2: not as recorded in auditEntries/"),
    ("DELETE FROM key_encryption_keys WHERE number = 2", "row 2: not as recorded in auditEntries/"),
    ("DELETE FROM key_encryption_keys WHERE number = 1", "the numbers are not 1, 2, 3"),
    ("UPDATE key_encryption_keys SET number = 7 WHERE number = 2", "the numbers are not 1, 2, 3"),
    ("DELETE FROM data_key_state", "data_key_state: it has not exactly one row"),
    (
        f"UPDATE data_keys SET destroy_time_us = {NEVER}, wrapped_key = 'x' WHERE subject = 'customers/mei-tanaka'",
        "customers/mei-tanaka: erased, but its data key is not destroyed",
    ),
)
"""(SQL that changes a key, part of the report)."""


@pytest.mark.parametrize(("sql", "reported"), KEYS)
def test_changed_key_is_named_and_raises_nothing(database: Database, sql: str, reported: str) -> None:
    with database.unguarded() as session:
        assert session.run(sql) == 1
    assert [breach for breach in report(database, NEW_KEK, KEK)["data-keys"] if reported in breach]
    report(database)


def test_deleted_data_key_is_named_by_each_row_that_needs_it(database: Database) -> None:
    with database.unguarded() as session:
        number = get(session, f"SELECT number FROM data_keys {ADA_KEY}")
        session.run(f"DELETE FROM data_keys {ADA_KEY}")
    for keks in ((NEW_KEK,), ()):
        breaches = report(database, *keks)["audit-rows"]
        assert f"{ADA}: its data key {number} is missing; restore the keys from a backup" in breaches
        assert any("/notes/" in breach for breach in breaches)


def test_data_key_of_another_person_is_found_by_the_rows(database: Database) -> None:
    with database.unguarded() as session:
        session.run(f"UPDATE data_keys SET number = 9999 {ADA_KEY}")
    breaches = report(database, NEW_KEK)["audit-rows"]
    assert any(breach.startswith(f"{ADA}: its data key ") for breach in breaches)


def test_wrong_key_encryption_key_is_one_finding(database: Database) -> None:
    found = report(database, KEK)
    assert found.keys() == {"data-keys"}
    (breach,) = found["data-keys"]
    assert make_key_id(NEW_KEK) in breach


def test_missing_former_key_encryption_key_is_one_finding(database: Database) -> None:
    with closing(open_store(database.url)) as store:
        third = b"tHi" + KEK[3:]
        store.data_keys = make_data_keys(third, NEW_KEK)
        start_kek_rotation(store, make_key_id(third))
    found = report(database, third)
    assert found.keys() == {"data-keys"}
    (breach,) = found["data-keys"]
    assert make_key_id(NEW_KEK) in breach


@pytest.mark.parametrize("column", ["email", "display_name", "tax_id"])
def test_blind_index_of_an_empty_value_is_found(database: Database, column: str) -> None:
    with database.unguarded() as session:
        token = get(session, f"SELECT email FROM customers {ADA_ROW}")
        session.run(f"UPDATE customers SET {column} = ? WHERE id = 'mei-tanaka'", token)
        session.run(f"UPDATE customers SET {column} = ? {ADA_ROW}", token[::-1])
    for keks in ((NEW_KEK,), ()):
        breaches = report(database, *keks)["audit-rows"]
        assert "customers/mei-tanaka: it has a blind index, but no encrypted value" in breaches
    assert f"{ADA}: {column} not the blind index of the encrypted value" in report(database, NEW_KEK)["audit-rows"]


def test_verify_command_reports_a_damaged_value_in_place_of_a_traceback(database: Database, tmp_path: Path) -> None:
    with database.unguarded() as session:
        session.run(f"UPDATE data_keys SET wrapped_key = 'x' {ADA_KEY}")
        session.run("UPDATE customers SET encrypted = 'AAAA' WHERE id <> 'ada-marsh' AND encrypted <> ''")
    verified = run_command("verify", data_dir=tmp_path, database_url=database.url, kek=NEW_KEK.decode())
    assert verified.returncode == 1, verified.stderr
    assert "BROKEN  data-keys" in verified.stdout
    assert "BROKEN  audit-rows" in verified.stdout
    assert "Traceback" not in verified.stderr
    reindexed = run_command("reindex", data_dir=tmp_path, database_url=database.url, kek=NEW_KEK.decode())
    assert (reindexed.returncode, len(reindexed.stderr.splitlines())) == (1, 1), reindexed.stderr
