"""Everything that expires by itself, wired to a store: without it a mutation would take expired units for allocated."""

from __future__ import annotations

from storekeep.server.domain.orders import cancellations
from storekeep.server.domain.stock import reservations
from storekeep.server.domain.stock.expiry import set_expirers
from storekeep.server.store.engine import Store

EXPIRERS = (reservations.EXPIRER, cancellations.EXPIRER)
"""Reservations, and unpaid orders."""


def wire_expirers(store: Store) -> None:
    """Give a store the expirers of every mutation that it runs."""
    set_expirers(store, EXPIRERS)
