"""The tables of reservations: stock that is kept for somebody until an instant."""

from __future__ import annotations

import peewee

from storekeep.server.store.database import Table
from storekeep.server.store.inventory import Location
from storekeep.server.store.products import Variant


class Reservation(Table):
    """One reservation; `order_id` is empty unless it was committed to an order."""

    id = peewee.TextField(primary_key=True)
    state = peewee.TextField()
    reference = peewee.TextField()
    order_id = peewee.TextField()
    expire_time_us = peewee.BigIntegerField()
    version = peewee.BigIntegerField()
    create_time_us = peewee.BigIntegerField()
    update_time_us = peewee.BigIntegerField()

    class Meta:
        table_name = "reservations"
        indexes = (
            (("create_time_us", "id"), False),
            (("expire_time_us", "id"), False),
            (("reference", "id"), False),
        )


Reservation.add_index(
    Reservation.index(Reservation.expire_time_us, where=peewee.SQL("state = 'ACTIVE'"), name="reservations_active")
)


class ReservationLine(Table):
    """So many units of one SKU at one location, kept by a reservation."""

    reservation = peewee.ForeignKeyField(Reservation, backref="line_rows", index=False)
    line_number = peewee.IntegerField()
    variant = peewee.ForeignKeyField(Variant, column_name="sku", index=False)
    location = peewee.ForeignKeyField(Location, index=False)
    quantity = peewee.BigIntegerField(constraints=[peewee.Check("quantity > 0")])

    class Meta:
        table_name = "reservation_lines"
        primary_key = peewee.CompositeKey("reservation", "line_number")
        without_rowid = True
