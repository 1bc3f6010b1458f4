"""The table of customers."""

from __future__ import annotations

import peewee

from storekeep.server.store.sql.transactions import Deletable


class Customer(Deletable):
    """One customer; `addresses` and `labels` are JSON."""

    id = peewee.TextField(primary_key=True)
    display_name = peewee.TextField()
    email = peewee.TextField(index=True)
    phone = peewee.TextField()
    addresses = peewee.TextField()
    labels = peewee.TextField()

    class Meta:
        table_name = "customers"
        indexes = (
            (("create_time_us", "id"), False),
            (("update_time_us", "id"), False),
            (("display_name", "id"), False),
        )
