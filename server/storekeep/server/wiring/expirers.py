"""Everything that expires by itself, wired to a store: without it a mutation would take expired units for allocated."""

from __future__ import annotations

from storekeep.server.domain.orders import cancellations, quotes
from storekeep.server.domain.stock import reservations
from storekeep.server.domain.stock.expiry import set_expirers
from storekeep.server.store.engine import Store

EXPIRERS = (reservations.EXPIRER, cancellations.EXPIRER, quotes.EXPIRER)
"""Reservations, unpaid orders, and quotes."""


def wire_expirers(store: Store) -> None:
    """Give a store the expirers of every mutation that it runs."""
    set_expirers(store, EXPIRERS)
