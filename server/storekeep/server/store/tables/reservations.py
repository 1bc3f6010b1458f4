"""The tables of reservations, which hold stock until they expire."""

from __future__ import annotations

from typing import Any

import peewee

from storekeep.server.store.sql.many_rows import RowsInsert, build_select_columns
from storekeep.server.store.sql.statements import Statement, parameter
from storekeep.server.store.sql.transactions import Table, Versioned
from storekeep.server.store.tables.catalog import Variant
from storekeep.server.store.tables.stock import Location


class Reservation(Versioned):
    """One reservation; `order_id` is empty unless it was committed to an order; `labels` is JSON.

    No two active reservations with `unique_reference` have the same reference. `reference` has its blind index, and
    `encrypted` the reference itself.
    """

    id = peewee.TextField(primary_key=True)
    state = peewee.TextField()
    reference = peewee.TextField()
    order_id = peewee.TextField()
    expire_time_us = peewee.BigIntegerField()
    labels = peewee.TextField(constraints=[peewee.SQL("DEFAULT '{}'")])
    unique_reference = peewee.BooleanField(constraints=[peewee.SQL("DEFAULT FALSE")])
    encrypted = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])

    class Meta:
        table_name = "reservations"
        indexes = (
            (("create_time_us", "id"), False),
            (("update_time_us", "id"), False),
            (("expire_time_us", "id"), False),
            (("reference", "id"), False),
        )


Reservation.add_index(
    Reservation.index(Reservation.order_id, where=peewee.SQL("order_id <> ''"), name="reservations_order_id")
)
Reservation.add_index(
    Reservation.index(Reservation.expire_time_us, where=peewee.SQL("state = 'ACTIVE'"), name="reservations_active")
)
Reservation.add_index(
    Reservation.index(
        Reservation.reference,
        unique=True,
        where=peewee.SQL("unique_reference AND state = 'ACTIVE'"),
        name="reservations_unique_reference",
    )
)


def build_effective_state(now_us: int) -> Any:
    """Return the effective state of a reservation as SQL: EXPIRED from its expiry time on, even if not written yet."""
    expired = (Reservation.state == "ACTIVE") & (Reservation.expire_time_us <= now_us)
    return peewee.Case(None, [(expired, "EXPIRED")], Reservation.state)


class ReservationLine(Table):
    """A number of units of one SKU at one location, reserved for one line of a reservation."""

    reservation = peewee.ForeignKeyField(Reservation, backref="line_rows", index=False)
    line_number = peewee.IntegerField()
    variant = peewee.ForeignKeyField(Variant, column_name="sku", index=False)
    location = peewee.ForeignKeyField(Location, index=False)
    quantity = peewee.BigIntegerField(constraints=[peewee.Check("quantity > 0")])

    class Meta:
        table_name = "reservation_lines"
        primary_key = peewee.CompositeKey("reservation", "line_number", "location")
        without_rowid = True


LINE_COLUMNS = ("reservation", "line_number", "variant", "location", "quantity")
INSERT_LINES = RowsInsert(ReservationLine, LINE_COLUMNS)
FIND_LINES = Statement(
    f"""
    SELECT {build_select_columns(ReservationLine, LINE_COLUMNS)}
    FROM reservation_lines WHERE reservation_id IN TEXTS(:reservation_ids)
    ORDER BY reservation_id, line_number, location_id
    """  # noqa: S608 - names from the model
)
DELETE_LINES = Statement(
    lambda: ReservationLine.delete().where(ReservationLine.reservation == parameter("reservation_id"))
)
FIND_BY_UNIQUE_REFERENCE = Statement(
    "SELECT id FROM reservations WHERE reference = :reference AND unique_reference AND state = 'ACTIVE'"
)
"""The id of the active reservation that has a unique reference, expired or not."""
EXPIRED_IDS = Statement(
    """
    SELECT id FROM reservations WHERE state = 'ACTIVE' AND expire_time_us <= :now_us
    ORDER BY expire_time_us LIMIT :rows_max
    """
)
"""Ids of expired reservations whose expiry is not written yet, the earliest expiry first."""
EXPIRED_IDS_BY_SKU = Statement(
    """
    SELECT id FROM reservations
    WHERE state = 'ACTIVE' AND expire_time_us <= :now_us AND EXISTS (
        SELECT 1 FROM reservation_lines WHERE reservation_id = reservations.id AND sku IN TEXTS(:skus)
    )
    ORDER BY expire_time_us LIMIT :rows_max
    """
)
"""The same, for reservations with units of some SKUs."""
