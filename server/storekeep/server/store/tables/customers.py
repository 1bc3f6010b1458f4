"""The table of customers."""

from __future__ import annotations

import peewee

from storekeep.server.store.sql.transactions import Table


class Customer(Table):
    """One customer; `addresses` and `labels` are JSON."""

    id = peewee.TextField(primary_key=True)
    display_name = peewee.TextField()
    email = peewee.TextField(index=True)
    phone = peewee.TextField()
    addresses = peewee.TextField()
    labels = peewee.TextField()
    version = peewee.BigIntegerField()
    create_time_us = peewee.BigIntegerField()
    update_time_us = peewee.BigIntegerField()
    delete_time_us = peewee.BigIntegerField(null=True)

    class Meta:
        table_name = "customers"
        indexes = ((("create_time_us", "id"), False), (("display_name", "id"), False))
