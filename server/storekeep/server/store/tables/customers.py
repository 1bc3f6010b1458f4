"""The table of customers."""

from __future__ import annotations

import peewee

from storekeep.server.store.sql.listings import compare_elements
from storekeep.server.store.sql.transactions import Deletable


class Customer(Deletable):
    """One customer; `addresses`, `labels` and `groups` are JSON."""

    id = peewee.TextField(primary_key=True)
    display_name = peewee.TextField()
    email = peewee.TextField(index=True)
    phone = peewee.TextField()
    addresses = peewee.TextField()
    labels = peewee.TextField()
    groups = peewee.TextField(constraints=[peewee.SQL("DEFAULT '[]'")])
    company = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])
    tax_id = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])

    class Meta:
        table_name = "customers"
        indexes = (
            (("create_time_us", "id"), False),
            (("update_time_us", "id"), False),
            (("display_name", "id"), False),
        )


def match_group(operation: str, group: str | None, _now_us: int) -> peewee.Expression:
    """Return the condition for members of a customer group, as SQL.

    Args:
        operation: `:`, `PREFIX`, or `PRESENT` for any group.
    """
    return compare_elements(Customer.groups, operation, group)
