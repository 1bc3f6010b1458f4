"""The table of customers."""

from __future__ import annotations

import peewee

from storekeep.server.store.sql.listings import compare_elements
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Deletable


class Customer(Deletable):
    """One customer; `addresses`, `labels` and `groups` are JSON.

    `encrypted` has the personal values. The columns of the texts among them have blind indexes instead.
    """

    id = peewee.TextField(primary_key=True)
    display_name = peewee.TextField()
    email = peewee.TextField(index=True)
    phone = peewee.TextField()
    addresses = peewee.TextField()
    labels = peewee.TextField()
    groups = peewee.TextField(constraints=[peewee.SQL("DEFAULT '[]'")])
    company = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])
    tax_id = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])
    encrypted = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])
    erase_time_us = peewee.BigIntegerField(null=True)
    merged_into = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])
    exemption = peewee.TextField(constraints=[peewee.SQL("DEFAULT 'null'")])
    language_code = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])

    class Meta:
        table_name = "customers"
        indexes = (
            (("create_time_us", "id"), False),
            (("update_time_us", "id"), False),
        )


CONTACT = "CASE WHEN email <> '' OR phone <> '' THEN encrypted ELSE '' END"
"""The encrypted data of a customer with an email address or a phone number; empty for any other, so that an order of it
decrypts nothing."""
FIND_BUYERS = Statement(
    f"""
    SELECT id, COALESCE(delete_time_us, 0), {CONTACT}, language_code, encrypted, "groups", exemption
    FROM customers WHERE id IN TEXTS(:ids)
    """  # noqa: S608 - the names of columns
)
"""(id, deletion time or 0, encrypted data if it has a contact, language, encrypted data, groups, exemption) of the
customers with some ids."""
Customer.add_index(Customer.index(Customer.merged_into, where=peewee.SQL("merged_into <> ''")))
FIND_FACTS = Statement('SELECT encrypted, "groups", exemption FROM customers WHERE id = :customer_id')
"""(encrypted data, groups, exemption) of a customer, on which prices and taxes depend."""


def match_group(operation: str, group: str | None, _now_us: int) -> peewee.Expression:
    """Return the condition for members of a customer group, as SQL.

    Args:
        operation: `:`, `PREFIX`, or `PRESENT` for any group.
    """
    return compare_elements(Customer.groups, operation, group)
