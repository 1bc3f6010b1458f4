"""The initial data of the order machine, and its random inputs as hypothesis strategies."""

from __future__ import annotations

from hypothesis import strategies as st

from storekeep.server.domain.samples import load_sample
from storekeep.server.domain.stock import counts
from storekeep.server.domain.stock.expiry import set_expirers
from storekeep.server.domain.stock.locations import LOCATIONS, Location
from storekeep.server.wiring.expirers import EXPIRERS
from tests.support.databases import Database
from tests.support.placing import CALL
from tests.support.stores import open_store

SECOND = 1_000_000
START_US = 1_800_000_000 * SECOND
COUNTED = ("STRAINER", "TIN-RED")
LEFT = 3
"""Units of these SKUs that remain from the sample."""
PRICES = {"MUG-MOSS": 1_450, "TIN-RED": 990, "STRAINER": 690}
PRIORITIES = {"main": 0, "north": 0, "depot": 5}

skus = st.sampled_from(sorted(PRICES))
locations = st.sampled_from(sorted(PRIORITIES))
any_location = st.sampled_from(["", "", "", *sorted(PRIORITIES)])
wanted_lines = st.lists(st.tuples(skus, st.integers(1, 5)), min_size=1, max_size=4)
few_lines = st.lists(st.tuples(skus, st.integers(1, 3)), min_size=1, max_size=2)
few_texts = st.sampled_from(["", "a", "b"])
recent = st.integers(0, 4)
"""Index of an existing resource, from the newest that has not ended; 4 for the newest of all."""
line_units = st.dictionaries(st.integers(1, 3), st.integers(0, 4), max_size=2)
"""Units by line number; 0 for all units of the line."""


def prepare(database: Database) -> None:
    """Create the initial data: the sample, and three locations with little or no stock of the SKUs."""
    store = open_store(database.url, clock=lambda: START_US)
    set_expirers(store, EXPIRERS)
    load_sample(store)
    for name in PRIORITIES.keys() - {"main"}:
        LOCATIONS.create(store, CALL, Location(name, name, priority=PRIORITIES[name]))
    for sku in COUNTED:
        counts.set_stock(store, CALL, ("main", sku), quantity=LEFT)
    store.close()
