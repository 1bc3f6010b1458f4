"""Erasures and merges of customers.

An erasure destroys the data key of a customer, so that nothing stored about it can be read again, and empties what
stands in clear: labels, groups, blind indexes and search words. Orders, totals and the audit log stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.customers import CUSTOMERS, MERGED, Customer, get_final_state
from storekeep.server.domain.errors import IllegalState, InvalidField, ResourceInUse
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.orders.changes import save_order
from storekeep.server.domain.orders.orders import find_order
from storekeep.server.domain.orders.quotes import reassign_quotes
from storekeep.server.domain.pricing.counts import forget_customer_counts
from storekeep.server.domain.standard.resources import check_etag, check_not_deleted
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.statements import Statement
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import data_keys
from storekeep.server.store.tables import erasures as store

MERGED_CUSTOMERS_MAX = 500
"""Maximum number of customers that are merged into one, also through others, as the contract states: an erasure of that
one erases them in one transaction, which takes some 0.3 s."""
SUBJECT = "system/erasures"
REPEATED_MAX = 100
"""Maximum number of customers that are erased again in one transaction, which takes some 0.1 s."""
MERGED_ORDERS_MAX = 1_000
"""Maximum number of orders, and of quotes, that a merge moves, as the contract states. Orders take some 0.3 s."""


def erase_customer(database: Store, call: Call, customer_id: str, *, etag: str = "", force: bool = False) -> Customer:
    """Erase the personal data of a customer, and of those that were merged into it, for good.

    Args:
        force: erase although the customer has open orders.

    Raises: CustomerNotFound, IllegalState if the customer was merged into another, EtagMismatch, ResourceInUse.
    """

    def effect(mutation: Mutation) -> Customer:
        old = CUSTOMERS.find(mutation.tx, (customer_id,))
        state = get_final_state(old)
        if state == MERGED:
            raise IllegalState(old.name, state=MERGED, target="ERASED")
        check_etag(old, etag)
        if state:
            return old
        open_order = store.FIND_OPEN_ORDER.one(mutation.tx, customer_id=customer_id, now_us=mutation.tx.now_us)
        if open_order is not None and not force:
            raise ResourceInUse(old.name, user=f"orders/{open_order[0]}", way_out="`force` erases it with open orders")
        for source in _find_sources(mutation.tx, old.name):
            _empty(mutation, source)
        return _empty(mutation, old)

    return mutate(database, call, effect, Customer)


def _find_sources(tx: Transaction, name: str) -> list[Customer]:
    """Return the customers that were merged into a customer, also through others, the first ones first."""
    keys: list[tuple[str]] = []
    targets: Sequence[str] = [name]
    while targets:
        ids = [row[0] for target in targets for row in store.FIND_MERGED.all(tx, target=target)]
        keys += [(source_id,) for source_id in ids]
        targets = [f"customers/{source_id}" for source_id in ids]
    return [CUSTOMERS.find(tx, key) for key in reversed(keys)]


def _empty(mutation: Mutation, old: Customer) -> Customer:
    """Empty the row of a customer, record that, and destroy the data key."""
    tx = mutation.tx
    new = Customer(
        old.id,
        "",
        version=old.version,
        create_time_us=old.create_time_us,
        delete_time_us=old.delete_time_us or tx.now_us,
        erase_time_us=tx.now_us,
        merged_into=old.merged_into,
    )
    new = CUSTOMERS.replace(mutation, old, new, action="erased")
    store.EMPTY_ORDER_INDEXES.run(tx, customer_id=old.id)
    store.EMPTY_FULFILLMENT_INDEXES.run(tx, customer_id=old.id)
    store.EMPTY_RESERVATION_INDEXES.run(tx, customer_id=old.id)
    reservations = [name for (name,) in store.FIND_RESERVATIONS.all(tx, customer_id=old.id)]
    tx.data_keys.destroy(tx, (old.name, *reservations))
    return new


def repeat_erasures(database: Store) -> int:
    """Erase the customers again whose data key is destroyed, in batches. Return their number.

    A backup from before an erasure has the customer, and newer keys restore it without the key: nothing about the
    person can be read, but the customer could be used, and its labels and search words are there. An interrupted run
    is continued by the next one. Open orders do not stop it.

    Raises: the store's errors.
    """
    call = Call(Caller(SUBJECT, display_name="Erasures"), f"{SUBJECT}/RepeatErasures")

    def effect(mutation: Mutation) -> int:
        data_keys.EMPTY_RESERVATIONS.run(mutation.tx)
        customer_ids = _find_unerased(mutation.tx, rows_max=REPEATED_MAX)
        for customer_id in customer_ids:
            _empty(mutation, CUSTOMERS.find(mutation.tx, (customer_id,)))
        return len(customer_ids)

    total = 0
    while database.read(_has_unerased):
        total += mutate(database, call, effect, int)
    return total


def _has_unerased(tx: Transaction) -> bool:
    return bool(_find_unerased(tx, rows_max=1)) or data_keys.HAS_INDEXED_RESERVATIONS.one(tx) is not None


def _find_unerased(tx: Transaction, *, rows_max: int) -> list[str]:
    return [row[0] for row in data_keys.FIND_UNERASED.all(tx, rows_max=rows_max)]


def merge_customers(database: Store, call: Call, customer_id: str, source_id: str, *, etag: str = "") -> Customer:
    """Move the orders, the quotes and the uses of coupons of a customer to another one. Delete the customer.

    Returns: the other one.

    Args:
        customer_id: the customer that remains.
        source_id: the customer that is merged into it.

    Raises: InvalidField, CustomerNotFound, ResourceDeleted, EtagMismatch.
    """
    if source_id == customer_id:
        raise InvalidField("source", "must be another customer")

    def effect(mutation: Mutation) -> Customer:
        tx = mutation.tx
        target, source = CUSTOMERS.find(tx, (customer_id,)), CUSTOMERS.find(tx, (source_id,))
        for customer in (target, source):
            check_not_deleted(customer)
        check_etag(target, etag)
        (merged,) = store.COUNT_MERGED.one(tx, target_id=customer_id, source_id=source_id)  # type: ignore[misc]  # a count
        if merged > MERGED_CUSTOMERS_MAX:
            raise InvalidField("source", f"must leave at most {MERGED_CUSTOMERS_MAX} customers merged into one")
        order_ids = _find_moved(tx, source_id, store.FIND_ORDER_IDS, noun="orders")
        quote_ids = _find_moved(tx, source_id, store.FIND_QUOTE_IDS, noun="quotes")
        for order_id in order_ids:
            order = find_order(tx, order_id)
            save_order(mutation, order, replace(order, customer_id=customer_id), event="reassigned")
        reassign_quotes(mutation, quote_ids, customer_id)
        store.MOVE_USES.run(tx, customer_id=customer_id, source_id=source_id)
        forget_customer_counts(tx)
        deleted = replace(source, delete_time_us=tx.now_us, merged_into=target.name)
        CUSTOMERS.replace(mutation, source, deleted, action="merged")
        return target

    return mutate(database, call, effect, Customer)


def _find_moved(tx: Transaction, customer_id: str, statement: Statement, *, noun: str) -> list[str]:
    """Return the ids of what a merge moves. Raise InvalidField if they are too many."""
    ids = [row[0] for row in statement.all(tx, customer_id=customer_id, limit=MERGED_ORDERS_MAX + 1)]
    if len(ids) > MERGED_ORDERS_MAX:
        raise InvalidField("source", f"must have at most {MERGED_ORDERS_MAX:,} {noun}")
    return ids
