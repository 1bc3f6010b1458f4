"""Expirers: all of them are registered at startup, and a store without expirers is an error."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from storekeep.server import domain
from storekeep.server.domain.samples import load_sample
from storekeep.server.domain.stock.expiry import Expirer, ExpirersMissing, expire_batch, set_expirers
from storekeep.server.domain.stock.reservations import NewReservation, reserve
from storekeep.server.jobs.periodic import ExpiryJob
from storekeep.server.wiring.expirers import EXPIRERS
from tests.support.databases import Database
from tests.support.placing import CALL
from tests.support.processes import server_environment
from tests.support.stores import open_store

SKU = "SHORTBREAD-12"
ADJUST = """
import sys
from contextlib import closing
from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.stock.expiry import set_expirers
from storekeep.server.domain.stock.levels import adjust_stock
from tests.support.stores import open_store

url, sku, wiring = sys.argv[1:]
with closing(open_store(url)) as store:
    if wiring == "wired":
        from storekeep.server.wiring.expirers import EXPIRERS
        set_expirers(store, EXPIRERS)
    try:
        level = adjust_stock(store, Call(Caller("test"), "test"), ("main", sku), quantity_delta=-1)
        print(level.on_hand, level.reserved)
    except Exception as error:
        print(type(error).__name__)
"""
"""Subtract one unit in a process that imports only the domain modules it needs."""


@pytest.mark.parametrize(("wiring", "outcome"), [("wired", "29 0"), ("forgotten", "ExpirersMissing")])
def test_stock_of_an_expired_reservation_is_free_or_the_wiring_is_wrong(database: Database, wiring: str, outcome: str):
    with closing(open_store(database.url, clock=lambda: 1_700_000_000_000_000)) as store:
        set_expirers(store, EXPIRERS)
        load_sample(store)
        reserve(store, CALL, NewReservation(((SKU, 30),), ttl_us=1_000_000))
    command = [sys.executable, "-c", ADJUST, database.url, SKU, wiring]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == outcome


def test_every_expirer_of_the_domain_is_listed():
    names = [module.name for module in pkgutil.walk_packages(domain.__path__, f"{domain.__name__}.")]
    modules = [importlib.import_module(name) for name in names]
    defined = [value for module in modules for value in vars(module).values() if isinstance(value, Expirer)]
    assert len(defined) == len(EXPIRERS)
    assert all(expirer in EXPIRERS for expirer in defined)


@pytest.mark.engine("sqlite", reason="the same code wires a server on either engine")
def test_server_without_expirers_does_not_start(database: Database, tmp_path: Path):
    code = (
        "from storekeep.server import command; from storekeep.server.wiring import expirers; "
        "expirers.EXPIRERS = (); command.main(['serve'])"
    )
    environment = server_environment(tmp_path, database_url=database.url)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "ExpirersMissing" in done.stderr


@pytest.mark.engine("sqlite", reason="the list is not in the database")
def test_store_without_expirers_expires_nothing_in_silence(database: Database):
    with closing(open_store(database.url)) as store:
        with pytest.raises(ExpirersMissing):
            set_expirers(store, ())
        with pytest.raises(ExpirersMissing):
            ExpiryJob(store, interval_s=60)
        with pytest.raises(ExpirersMissing):
            expire_batch(store)
