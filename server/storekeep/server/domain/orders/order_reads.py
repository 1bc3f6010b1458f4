"""What new orders read: customers, offers and stock levels, once for all orders of a commit and of the next commits.

Invariant: an order reads what it would read alone. Orders run one after another, so each counts the units that it
takes; an order that needs any other level than the one that was read for all reads for itself. The store ends what
lasts when anything else may have changed it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from storekeep.server.domain.customers import CUSTOMERS, read_contact
from storekeep.server.domain.errors import CustomerNotFound, LocationNotFound, ResourceDeleted
from storekeep.server.domain.orders.baskets import Offers, build_offers
from storekeep.server.domain.orders.new_orders import DEFAULT_LOCATION, NewOrder
from storekeep.server.domain.pricing.counts import load_coupons
from storekeep.server.domain.pricing.snapshot import Prices, read_prices, read_snapshot
from storekeep.server.domain.pricing.terms import fold_code
from storekeep.server.domain.standard.resources import check_not_deleted
from storekeep.server.domain.stock.allocations import SourceLevel, SourceLocations, sum_quantities
from storekeep.server.store.sql.statements import Row
from storekeep.server.store.sql.transactions import SharedReads, Transaction
from storekeep.server.store.tables import customers as customer_store
from storekeep.server.store.tables import orders as store
from storekeep.server.store.tables import stock as stock_store

SHARED_LINES_MAX = 5_000
"""The most lines of orders that read together; it bounds the memory. Larger orders gain nothing from it."""
LASTING_BYTES_MAX = 4 * 1024 * 1024
"""The most memory of what orders read for later commits, about 4,000 SKUs; beyond, it is read anew."""
ROW_BYTES = 1_000
"""An estimate of the memory of a row without its long texts."""
BUYER_TEXTS, OFFER_TEXTS = (2, 4), (12, 13, 19, 20)
"""The columns of `FIND_BUYERS` and `OFFER` with long texts: encrypted data; translations and labels."""
UNITS_END = 2**63
"""More units than any order has."""
encode = msgspec.json.encode
Contact = tuple[str, str]
"""An email address and a phone number."""
_Key = tuple[str, str, str]
"""What orders with the same offers have in common: location, currency and language."""
NOBODY = (None, "", "", "", "[]", "null")
"""What stands for a customer that does not exist; see `FIND_BUYERS`."""


class OrderReads:
    """What one order reads.

    Attributes:
        units: SKU -> ordered units, sorted.
        offers: by SKU.
        source_locations: the levels that supply the SKUs.
        contact: the email address and the phone number of the order.
        language_code: the language of the order; empty for the default.
        version: the version of pricing; 0 if nothing is configured.
        facts: the facts of the customer, as `FIND_FACTS` returns them; None if they are not read.
        prices: the prices beside those of variants by SKU; None if they are not read.

    Args:
        counts_units: whether other orders use the same levels, so that each counts the units that it takes.
    """

    __slots__ = (
        "_counts_units",
        "contact",
        "facts",
        "language_code",
        "offers",
        "prices",
        "source_locations",
        "units",
        "version",
    )

    def __init__(
        self,
        units: dict[str, int],
        offers: Offers,
        source_locations: SourceLocations,
        contact: Contact,
        *,
        facts: Row | None = None,
        prices: Prices | None = None,
        counts_units: bool = False,
    ) -> None:
        self.units = units
        self.offers = offers
        self.source_locations = source_locations
        self.contact = contact
        some = next(iter(offers.values()))
        self.language_code = some.language_code
        self.version = some.version
        self.facts = facts
        self.prices = prices
        self._counts_units = counts_units

    def count_units(self, tx: Transaction) -> None:
        """Count the units that the order has taken, for the next orders of the commit."""
        if self._counts_units:
            for sku, units in self.units.items():
                self.source_locations[sku].take(units)
        elif tx.shared_reads is not None:  # any level may have changed
            tx.shared_reads.rows, tx.shared_reads.lasting = _ALONE, None


class _Group:
    """What orders of one location, currency and language read.

    Attributes:
        location: deletion time of the location: 0 if not deleted, None if missing.
        offers: by SKU.
        levels: for each SKU, the level from which the smallest of the orders is supplied.
        smallest: for each SKU that was for sale, the units for which its level was read. The others are read again for
            the next commit, because a product is on sale from a time on.
        rivals: SKU -> most units at another location that may have precedence when units have been taken. SKUs of
            which no order has taken units are absent.
        prices: the prices beside those of variants by SKU.
    """

    __slots__ = ("levels", "location", "offers", "prices", "rivals", "smallest")

    def __init__(self) -> None:
        self.location: int | None = None
        self.offers: Offers = {}
        self.levels: dict[str, SourceLevel] = {}
        self.smallest: dict[str, int] = {}
        self.rivals: dict[str, int] = {}
        self.prices: Prices = {}

    def find(self, units: dict[str, int], contact: Contact, facts: Row) -> OrderReads | None:
        """Return what an order reads; None if it has to read for itself."""
        levels, offers = {}, {}
        for sku, ordered in units.items():
            level = self.levels.get(sku)
            if level is None:
                return None
            available = level.left + level.backorder_limit
            if available < ordered or (level.is_used and self.rivals.get(sku, 0) >= available):
                return None
            levels[sku], offers[sku] = level, self.offers[sku]
        prices = {sku: self.prices[sku] for sku in units if sku in self.prices} if self.prices else self.prices
        return OrderReads(units, offers, levels, contact, facts=facts, prices=prices, counts_units=True)


class _Lasting:
    """What orders have read that the orders of later commits may use too.

    Attributes:
        tables: as in `Lasting`.
        customers: the rows of `FIND_BUYERS` by customer id.
        groups: by what their orders have in common.
        levels: by location and SKU.
        size: an estimate of its memory, in bytes.
    """

    __slots__ = ("customers", "groups", "levels", "size", "tables")

    def __init__(self) -> None:
        self.tables = store.READ_BY_ORDERS
        self.customers: dict[str, Row] = {}
        self.groups: dict[_Key, _Group] = defaultdict(_Group)
        self.levels: dict[tuple[str, str], SourceLevel] = {}
        self.size = 0

    def count(self, rows: Sequence[Row], columns: Sequence[int]) -> None:
        """Count the memory of rows that are added.

        Args:
            columns: those with long texts.
        """
        self.size += sum([ROW_BYTES + sum([len(row[column] or "") for column in columns]) for row in rows])


class _SharedRows:
    """What the orders of a commit read together.

    Args:
        orders: the orders.
        lasting: what earlier ones have read.
    """

    def __init__(self, tx: Transaction, orders: Sequence[NewOrder], lasting: _Lasting) -> None:
        self._lasting = lasting
        self._orders = orders
        self._units = {id(order): sum_quantities(order.lines) for order in orders}
        self._orders_by_sku = Counter([sku for units in self._units.values() for sku in units])
        self._read_customers(tx, {order.customer_id for order in orders})
        codes = [(fold_code(code), order.customer_id) for order in orders for code in order.pricing.codes]
        if codes:
            load_coupons(tx, codes)
        self._keys = {id(order): self._make_key(order) for order in orders}
        self._groups: dict[_Key, _Group] = {}

    def _read_customers(self, tx: Transaction, customer_ids: set[str]) -> None:
        customers = self._lasting.customers
        missing = sorted(customer_ids - customers.keys())
        if missing:
            rows = customer_store.FIND_BUYERS.all(tx, ids=encode(missing).decode())
            self._lasting.count(rows, BUYER_TEXTS)
            customers.update({row[0]: row[1:] for row in rows})

    def find(self, tx: Transaction, new: NewOrder) -> OrderReads | None:
        """Return what an order reads; None if it has to read for itself.

        Raises: CustomerNotFound, LocationNotFound, ResourceDeleted.
        """
        key = self._keys[id(new)]
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = self._read_group(tx, key)
        deleted, contact, _, *facts = self._lasting.customers.get(new.customer_id, NOBODY)
        _check_parties(tx, new, customer=deleted, location=group.location)
        return group.find(self._units[id(new)], _find_contact(tx, new, contact), tuple(facts))

    def _make_key(self, order: NewOrder) -> _Key:
        language = order.language_code or self._lasting.customers.get(order.customer_id, NOBODY)[2]
        return order.location_id, order.currency_code, language

    def _read_group(self, tx: Transaction, key: _Key) -> _Group:
        """Return a group after reading what its orders need and earlier ones did not."""
        group = self._lasting.groups[key]
        units: dict[str, int] = {}
        for order in self._orders:
            if self._keys[id(order)] == key:
                for sku, ordered in self._units[id(order)].items():
                    units[sku] = min(ordered, units.get(sku, ordered))
        missing = {sku: ordered for sku, ordered in units.items() if ordered < group.smallest.get(sku, UNITS_END)}
        if missing:
            self._read_offers(tx, key, group, missing)
        if not key[0]:
            self._read_rivals(tx, group, units)
        snapshot = read_snapshot(tx, version=next(iter(group.offers.values())).version)
        group.prices = read_prices(tx, snapshot, units, currency_code=key[1])
        return group

    def _read_offers(self, tx: Transaction, key: _Key, group: _Group, units: dict[str, int]) -> None:
        """Read the offers and the levels of some SKUs.

        Args:
            units: SKU -> units of the smallest order.
        """
        location_id, currency_code, language_code = key
        rows = store.OFFER.all(
            tx,
            customer_id="",
            location_id=location_id or DEFAULT_LOCATION,
            taken_at=location_id,
            quantities=encode(units).decode(),
            currency_code=currency_code,
            language_code=language_code,
            now_us=tx.now_us,
        )
        self._lasting.count(rows, OFFER_TEXTS)
        group.location = rows[0][1]
        offers = build_offers(rows)
        group.offers |= offers
        group.smallest |= {sku: units[sku] for sku, offer in offers.items() if offer.for_sale}
        levels = _read_levels(rows)
        for sku in units:
            group.levels.pop(sku, None)
            group.rivals.pop(sku, None)
        for sku, level in levels.items():
            group.levels[sku] = self._lasting.levels.setdefault((level.location_id, sku), level)

    def _read_rivals(self, tx: Transaction, group: _Group, units: Iterable[str]) -> None:
        """Read the rivals of the levels that more than one order takes units from."""
        taken = [
            (sku, level.location_id)
            for sku in units
            if sku not in group.rivals
            and (level := group.levels.get(sku)) is not None
            and (level.is_used or self._orders_by_sku[sku] > 1)
        ]
        if taken:
            group.rivals |= dict.fromkeys([sku for sku, _ in taken], 0)
            group.rivals |= dict(stock_store.RIVAL_UNITS.all(tx, taken=encode(taken).decode()))


_ALONE = object()
"""In place of shared rows: each order reads for itself."""


def read_for_order(tx: Transaction, new: NewOrder) -> OrderReads:
    """Check that the customer and the location of a new order exist; return what it depends on.

    Raises: CustomerNotFound, LocationNotFound, ResourceDeleted.
    """
    shared = tx.shared_reads
    is_shared = shared is not None and (len(shared.subjects) > 1 or shared.lasting is not None)
    if shared is not None and is_shared and shared.rows is not _ALONE:
        reads = _read_shared(tx, shared, new)
        if reads is not None:
            return reads
    units = sum_quantities(new.lines)
    rows = store.OFFER.all(
        tx,
        customer_id=new.customer_id,
        location_id=new.location_id or DEFAULT_LOCATION,
        taken_at=new.location_id,
        quantities=encode(units).decode(),
        currency_code=new.currency_code,
        language_code=new.language_code or None,
        now_us=tx.now_us,
    )
    customer, location, encrypted = rows[0][:3]
    _check_parties(tx, new, customer=customer, location=location)
    return OrderReads(units, build_offers(rows), _read_levels(rows), _find_contact(tx, new, encrypted))


def _read_shared(tx: Transaction, shared: SharedReads, new: NewOrder) -> OrderReads | None:
    """Return what an order reads together with others; None if it has to read for itself."""
    rows = shared.rows
    if rows is None:
        if sum([len(order.lines) for order in shared.subjects]) > SHARED_LINES_MAX:
            shared.rows = _ALONE
            return None
        lasting: Any = shared.lasting
        if lasting is None or lasting.size > LASTING_BYTES_MAX:
            lasting = shared.lasting = _Lasting()
        rows = shared.rows = _SharedRows(tx, shared.subjects, lasting)
    reads: OrderReads | None = rows.find(tx, new)
    return reads


def _read_levels(rows: Sequence[Row]) -> dict[str, SourceLevel]:
    """Return the levels in the rows of `OFFER`, by SKU."""
    return {row[3]: SourceLevel(*row[4:9]) for row in rows if row[4] is not None}


def _find_contact(tx: Transaction, new: NewOrder, encrypted: str) -> Contact:
    """Return the email address and the phone number of an order: its own, or else the customer's."""
    if new.email and new.phone:
        return new.email, new.phone
    contact = read_contact(tx, new.customer_id, encrypted)
    return new.email or contact.email, new.phone or contact.phone


def _check_parties(tx: Transaction, new: NewOrder, *, customer: int | None, location: int | None) -> None:
    """Raise unless the customer and the requested location exist and are not deleted.

    Args:
        customer, location: their deletion times: 0 if not deleted, None if missing.

    Raises: CustomerNotFound, LocationNotFound, ResourceDeleted.
    """
    if not new.location_id:
        location = 0
    if customer == 0 and location == 0:
        return
    parties = (
        (f"customers/{new.customer_id}", customer, CustomerNotFound),
        (f"locations/{new.location_id}", location, LocationNotFound),
    )
    for name, time_us, not_found in parties:
        if time_us is None:
            raise not_found(name)
    if customer:
        check_not_deleted(CUSTOMERS.find(tx, (new.customer_id,)))  # says whether it was erased or merged
    if location:
        raise ResourceDeleted(f"locations/{new.location_id}")
