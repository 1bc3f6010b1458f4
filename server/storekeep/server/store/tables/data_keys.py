"""The tables of data keys: one key for each person, encrypted with a key-encryption key (KEK).

A row of `data_keys` never changes its size: SQLite then overwrites it in place, and no copy of the key stays in a freed
part of the file. New rows go to the end for the same reason: SQLite copies rows when it splits a page in the middle.
"""

from __future__ import annotations

import peewee

from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Table

NEVER_US = 2**62
"""The `destroy_time_us` of a key that is not destroyed. It takes the same 8 bytes as a time."""
MOVED_US = NEVER_US - 1
"""The `destroy_time_us` in a backup of a key that is in its keys file. The copy cannot use it."""


class KeyEncryptionKey(Table):
    """The id of a current or former KEK. The newest is current: new data keys are encrypted with it."""

    number = peewee.BigIntegerField(primary_key=True)
    key_id = peewee.TextField()
    create_time_us = peewee.BigIntegerField()

    class Meta:
        table_name = "key_encryption_keys"


class DataKey(Table):
    """One data key; `subject` is the resource name of the person. `wrapped_key` is base64, and zeros once destroyed."""

    number = peewee.BigAutoField()
    subject = peewee.TextField(unique=True)
    key_id = peewee.TextField()
    wrapped_key = peewee.TextField()
    create_time_us = peewee.BigIntegerField()
    destroy_time_us = peewee.BigIntegerField()

    class Meta:
        table_name = "data_keys"
        indexes = ((("key_id", "number"), False),)


DataKey.add_index(
    DataKey.index(DataKey.number, where=peewee.SQL(f"destroy_time_us < {MOVED_US}"), name="data_keys_destroyed")
)


class DataKeyState(Table):
    """One row; `generation` changes to a new random value whenever keys are destroyed, so that caches are dropped."""

    id = peewee.BigIntegerField(primary_key=True)
    generation = peewee.TextField()

    class Meta:
        table_name = "data_key_state"


COLUMNS = "number, subject, key_id, wrapped_key, destroy_time_us"
LATEST_KEY_ID = Statement("SELECT key_id, number FROM key_encryption_keys ORDER BY number DESC LIMIT 1")
INSERT_KEY_ID = Statement(
    "INSERT INTO key_encryption_keys (number, key_id, create_time_us) VALUES (:number, :key_id, :now_us)"
)
WERE_GIVEN_UP = Statement("SELECT 1 FROM data_keys WHERE subject >= 'given-up/' AND subject < 'given-up0' LIMIT 1")
"""Whether keys were given up, by a restore without them. Then the rows of the KEKs of before are gone too."""
GENERATION = Statement("SELECT generation FROM data_key_state")
SET_GENERATION = Statement("UPDATE data_key_state SET generation = :generation")
FIND_BY_SUBJECTS = Statement(f"SELECT {COLUMNS} FROM data_keys WHERE subject IN TEXTS(:subjects)")  # noqa: S608 - fixed
FIND_BY_NUMBERS = Statement(
    f"""
    SELECT {COLUMNS} FROM ROWS(:numbers) AS requested
    JOIN data_keys ON number = CAST(requested.value ->> 0 AS BIGINT)
    """  # noqa: S608 - fixed text
)
"""The keys with these numbers, a JSON array of arrays with one number each."""
INSERT_DESTROYED = Statement(
    """
    INSERT INTO data_keys (subject, key_id, wrapped_key, create_time_us, destroy_time_us)
    SELECT value, CAST(:key_id AS TEXT), CAST(:zeros AS TEXT), CAST(:now_us AS BIGINT), CAST(:now_us AS BIGINT)
    FROM TEXTS(:subjects) AS given WHERE TRUE ORDER BY given.key
    ON CONFLICT (subject) DO NOTHING
    """
)
"""Mark the keys of persons that have none yet as destroyed, so that none is created later."""
DESTROY = Statement(
    f"""
    UPDATE data_keys SET wrapped_key = :zeros, destroy_time_us = :now_us
    WHERE subject IN TEXTS(:subjects) AND destroy_time_us = {NEVER_US}
    """  # noqa: S608 - fixed text
)
INSERT = Statement(
    f"""
    INSERT INTO data_keys (subject, key_id, wrapped_key, create_time_us, destroy_time_us)
    SELECT value ->> 0, CAST(:key_id AS TEXT), value ->> 1, CAST(:now_us AS BIGINT), {NEVER_US}
    FROM ROWS(:rows) AS given WHERE TRUE ORDER BY given.key
    ON CONFLICT (subject) DO NOTHING
    """  # noqa: S608 - fixed text
)
"""Insert keys, a JSON array of arrays with subject and wrapped key. Another host may have inserted one meanwhile."""
OTHER_KEY_IDS = Statement(
    f"SELECT DISTINCT key_id FROM data_keys WHERE key_id <> :key_id AND destroy_time_us = {NEVER_US}"  # noqa: S608 - fixed
)
"""The ids of former KEKs that data keys still need. A destroyed key needs none."""
OTHER_KEYS = Statement(
    """
    SELECT number, subject, wrapped_key, destroy_time_us FROM data_keys
    WHERE key_id = :key_id ORDER BY number LIMIT :rows_max
    """
)
REWRAP = Statement(
    """
    UPDATE data_keys SET key_id = :key_id, wrapped_key = value ->> 1 FROM ROWS(:rows) AS given
    WHERE number = CAST(value ->> 0 AS BIGINT)
    """
)
"""Replace encrypted keys by others of the same size: a JSON array of arrays with number and encrypted key."""
KEYS_AFTER = Statement(
    f"SELECT {COLUMNS} FROM data_keys WHERE number > :after ORDER BY number LIMIT :rows_max"  # noqa: S608 - fixed text
)
NEXT_NUMBER = Statement("SELECT number FROM data_keys WHERE number > :after ORDER BY number LIMIT 1")
KEY_ENCRYPTION_KEYS = Statement("SELECT number, key_id FROM key_encryption_keys ORDER BY number")
STATE_IDS = Statement("SELECT id FROM data_key_state ORDER BY id")
COUNT_USABLE = Statement(
    f"SELECT COUNT(*) FROM data_keys WHERE destroy_time_us = {NEVER_US} AND subject <> :subject"  # noqa: S608 - fixed
)
"""The number of data keys that are not destroyed, without that of a subject."""
ERASED_WITH_KEY = Statement(
    f"""
    SELECT customers.id FROM customers JOIN data_keys ON subject = 'customers/' || customers.id
    WHERE erase_time_us IS NOT NULL AND destroy_time_us = {NEVER_US} ORDER BY customers.id LIMIT :rows_max
    """  # noqa: S608 - fixed text
)
"""Erased customers whose data key is not destroyed."""
IS_LOST = f"destroy_time_us = {NEVER_US} AND NOT (key_id IN TEXTS(:known))"
COUNT_LOST = Statement(
    f"""
    SELECT key_id, CASE WHEN subject = :index THEN '' ELSE SUBSTR(subject, 1, INSTR(subject, '/') - 1) END, COUNT(*)
    FROM data_keys WHERE {IS_LOST} GROUP BY 1, 2
    """,  # noqa: S608 - fixed text
    postgresql=f"""
    SELECT key_id, CASE WHEN subject = :index THEN '' ELSE SPLIT_PART(subject, '/', 1) END, COUNT(*)
    FROM data_keys WHERE {IS_LOST} GROUP BY 1, 2
    """,  # noqa: S608 - fixed text
)
"""(KEK, collection of the subject, number) of the data keys that need none of the known KEKs."""
GIVE_UP = Statement(
    f"""
    UPDATE data_keys SET subject = 'given-up/' || number, wrapped_key = :zeros, destroy_time_us = :now_us
    WHERE number IN (SELECT number FROM data_keys WHERE {IS_LOST} ORDER BY number LIMIT :rows_max)
    """  # noqa: S608 - fixed text
)
MISSING = """
FROM (
    WITH RECURSIVE numbers (number) AS (
        SELECT 1 WHERE EXISTS (SELECT 1 FROM data_keys)
        UNION ALL SELECT number + 1 FROM numbers WHERE number < (SELECT MAX(number) FROM data_keys)
    )
    SELECT number FROM numbers
) AS used WHERE NOT EXISTS (SELECT 1 FROM data_keys WHERE data_keys.number = used.number)
"""
LAST_NUMBER = "COALESCE(PG_SEQUENCE_LAST_VALUE(CAST(PG_GET_SERIAL_SEQUENCE('data_keys', 'number') AS REGCLASS)), 0)"
MISSING_POSTGRESQL = f"""
FROM GENERATE_SERIES(1, {LAST_NUMBER}) AS used (number)
WHERE NOT EXISTS (SELECT 1 FROM data_keys WHERE data_keys.number = used.number)
"""  # noqa: S608 - fixed text
FIND_MISSING = Statement(
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM data_keys) AND NOT EXISTS (SELECT 1 FROM data_keys WHERE number = 1)",
    postgresql=f"SELECT 1 WHERE {LAST_NUMBER} > 0 AND NOT EXISTS (SELECT 1 FROM data_keys WHERE number = 1)",  # noqa: S608
)
"""Whether the first key has no row, as after a restore without the data of the table."""
FILL = """
INSERT INTO data_keys (number, subject, key_id, wrapped_key, create_time_us, destroy_time_us)
SELECT used.number, 'given-up/' || used.number, CAST(:key_id AS TEXT), CAST(:zeros AS TEXT), CAST(:now_us AS BIGINT),
    CAST(:now_us AS BIGINT)
"""
FILL_MISSING = Statement(f"{FILL} {MISSING}", postgresql=f"{FILL} {MISSING_POSTGRESQL}")
"""Mark the numbers as given up that keys had whose rows are missing."""
INSERT_ERASED = Statement(
    """
    INSERT INTO data_keys (subject, key_id, wrapped_key, create_time_us, destroy_time_us)
    SELECT 'customers/' || id, CAST(:key_id AS TEXT), CAST(:zeros AS TEXT), CAST(:now_us AS BIGINT),
        CAST(:now_us AS BIGINT)
    FROM customers WHERE erase_time_us IS NOT NULL ORDER BY id
    ON CONFLICT (subject) DO NOTHING
    """
)
DESTROYED = f"""
    FROM data_keys JOIN customers ON customers.id = SUBSTR(subject, 11)
    WHERE destroy_time_us < {MOVED_US} AND SUBSTR(subject, 1, 10) = 'customers/' AND erase_time_us IS NULL
"""
FIND_UNERASED = Statement(f"SELECT customers.id {DESTROYED} ORDER BY data_keys.number LIMIT :rows_max")
"""Customers whose data key is destroyed, but who are not erased: an older backup was restored with newer keys."""
RESERVATIONS = f"""
    reference <> '' AND id IN (
        SELECT SUBSTR(subject, 14) FROM data_keys
        WHERE destroy_time_us < {MOVED_US} AND SUBSTR(subject, 1, 13) = 'reservations/'
    )
"""  # noqa: S608 - fixed text
HAS_INDEXED_RESERVATIONS = Statement(f"SELECT 1 FROM reservations WHERE {RESERVATIONS} LIMIT 1")  # noqa: S608 - fixed
"""Whether a reservation has a blind index, although its data key is destroyed."""
EMPTY_RESERVATIONS = Statement(f"UPDATE reservations SET reference = '' WHERE {RESERVATIONS}")  # noqa: S608 - fixed text
