"""The table of quotes."""

from __future__ import annotations

from typing import Any

import peewee

from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Versioned
from storekeep.server.store.tables.customers import Customer


class Quote(Versioned):
    """One quote; `order_id` is empty unless an order accepted it.

    `lines`, the addresses, `shipping`, `coupon_codes`, `exemption`, `priced_lines` and `pricing` are JSON; `null` for
    none. `encrypted` has the personal values.
    """

    id = peewee.TextField(primary_key=True)
    customer = peewee.ForeignKeyField(Customer, index=False)
    customer_id: str
    state = peewee.TextField()
    currency_code = peewee.TextField()
    lines = peewee.TextField()
    shipping_address = peewee.TextField()
    billing_address = peewee.TextField()
    shipping = peewee.TextField()
    coupon_codes = peewee.TextField()
    shipping_method = peewee.TextField()
    tax_address = peewee.TextField()
    exemption = peewee.TextField()
    expire_time_us = peewee.BigIntegerField()
    note = peewee.TextField()
    send_time_us = peewee.BigIntegerField(null=True)
    order_id = peewee.TextField()
    total_minor = peewee.BigIntegerField()
    priced_lines = peewee.TextField()
    pricing = peewee.TextField()
    encrypted = peewee.TextField(constraints=[peewee.SQL("DEFAULT ''")])

    class Meta:
        table_name = "quotes"
        indexes = (
            (("create_time_us", "id"), False),
            (("update_time_us", "id"), False),
            (("expire_time_us", "id"), False),
            (("customer", "create_time_us", "id"), False),
        )


FIND_CUSTOMER = Statement("SELECT customer_id FROM quotes WHERE id = :quote_id")
OPEN = ("DRAFT", "SENT")
"""The states that end at the expiry time."""
Quote.add_index(Quote.index(Quote.expire_time_us, where=peewee.SQL("state IN ('DRAFT', 'SENT')"), name="quotes_open"))
EXPIRED_IDS = Statement(
    """
    SELECT id FROM quotes WHERE state IN ('DRAFT', 'SENT') AND expire_time_us <= :now_us
    ORDER BY expire_time_us LIMIT :rows_max
    """
)
"""Ids of expired quotes whose expiry is not written yet, the earliest expiry first."""


def compare_state(operation: str, state: str, now_us: int) -> Any:
    """Return a comparison with the effective state of a quote as SQL: an expired quote counts as EXPIRED.

    Args:
        operation: `=` or `!=`.
    """
    expired = Quote.state.in_(OPEN) & (Quote.expire_time_us <= now_us)
    equal: Any = Quote.state == state
    if state in OPEN:
        equal = equal & ~expired
    if state == "EXPIRED":
        equal = equal | expired
    return equal if operation == "=" else ~equal
