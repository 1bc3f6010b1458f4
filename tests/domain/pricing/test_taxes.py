"""Tax zones and tax rates: what they refuse, and the snapshot of them that orders read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storekeep.client import (
    AlreadyExists,
    InvalidField,
    ResourceInUse,
    Storekeep,
    TaxArea,
    TaxComponent,
    TaxRate,
    TaxZone,
    TaxZoneNotFound,
)
from storekeep.server.domain.calls import Call, Caller
from storekeep.server.domain.pricing import snapshot, tax_rates, tax_zones, terms
from storekeep.server.domain.pricing.snapshot import NOTHING, Snapshot, read_snapshot
from storekeep.server.store.engine import Store
from tests.support.databases import Database
from tests.support.shops import new_id
from tests.support.stores import open_store

CALL = Call(Caller("serviceAccounts/test"), "storekeep.v1.PricingService/Test")
VAT = terms.TaxComponent("VAT", 190_000)


@pytest.fixture
def store(database: Database) -> Iterator[Store]:
    """A store of a database without prices."""
    with closing(open_store(database.url)) as opened:
        yield opened


def read(store: Store) -> Snapshot:
    return store.read(read_snapshot)


def make_zone(store: Store, zone_id: str, *areas: terms.TaxArea) -> str:
    return tax_zones.TAX_ZONES.create(
        store, CALL, tax_zones.TaxZone(zone_id, areas=areas or (terms.TaxArea("DE", zone_id),))
    ).name


def new_area() -> TaxArea:
    """Return an area that no other zone has."""
    return TaxArea(region_code="DE", administrative_area=new_id("A"))


def make_rate(store: Store, rate_id: str, zone_id: str, **fields: object) -> str:
    rate = tax_rates.TaxRate(rate_id, zone_id=zone_id, components=(VAT,), **fields)
    return tax_rates.TAX_RATES.create(store, CALL, rate).name


def test_zone_needs_an_area_and_a_rate_needs_a_zone(client: Storekeep):
    with pytest.raises(InvalidField):
        client.tax_zones.create(TaxZone())
    with pytest.raises(InvalidField):
        client.tax_rates.create(TaxRate(components=[TaxComponent(rate_ppm=1)]))
    with pytest.raises(TaxZoneNotFound):
        client.tax_rates.create(TaxRate(tax_zone="taxZones/nowhere", components=[TaxComponent(rate_ppm=1)]))


@pytest.mark.parametrize("rate_ppm", [-1, 10_000_001, 2**31 - 1])
def test_rate_out_of_bounds_is_refused(client: Storekeep, rate_ppm: int):
    zone = client.tax_zones.create(TaxZone(areas=[new_area()]))
    with pytest.raises(InvalidField):
        client.tax_rates.create(TaxRate(tax_zone=zone.name, components=[TaxComponent(rate_ppm=rate_ppm)]))


def test_window_that_ends_before_it_starts_is_refused_also_by_an_update(client: Storekeep):
    zone = client.tax_zones.create(TaxZone(areas=[new_area()]))
    rate = TaxRate(tax_zone=zone.name, components=[TaxComponent(rate_ppm=1)], start_time={"seconds": 10})
    made = client.tax_rates.create(rate)
    for end_s in (10, 9):
        rate.end_time.seconds = end_s
        with pytest.raises(InvalidField, match="must be after start_time"):
            client.tax_rates.create(rate)
        with pytest.raises(InvalidField, match="must be after start_time"):
            client.tax_rates.update(TaxRate(name=made.name, end_time=rate.end_time), update_mask=["end_time"])


def test_rate_with_the_class_zone_and_start_of_another_is_refused(client: Storekeep):
    zone = client.tax_zones.create(TaxZone(areas=[new_area()]))
    rate = TaxRate(tax_zone=zone.name, components=[TaxComponent(display_name="VAT", rate_ppm=190_000)])
    first = client.tax_rates.create(rate)
    refusal = "taxes this class in this zone and has no start either"
    with pytest.raises(AlreadyExists, match=f"{first.name} {refusal}"):
        client.tax_rates.create(rate)
    rate.start_time.seconds = 10
    later = client.tax_rates.create(rate)
    with pytest.raises(AlreadyExists, match="has the same start"):
        client.tax_rates.create(rate)
    with pytest.raises(AlreadyExists, match=refusal):
        client.tax_rates.update(TaxRate(name=later.name), update_mask=["start_time"])
    rate.tax_class = "reduced"
    client.tax_rates.create(rate)
    client.tax_rates.delete(later.name)
    rate.tax_class = ""
    client.tax_rates.create(rate)
    with pytest.raises(AlreadyExists, match="has the same start"):
        client.tax_rates.undelete(later.name)
    assert client.tax_rates.update(TaxRate(name=first.name, display_name="x"), update_mask=["display_name"])


def test_zone_with_rates_cannot_be_deleted(client: Storekeep):
    zone = client.tax_zones.create(
        TaxZone(areas=[TaxArea(region_code="DE", administrative_area=new_id("A"))]), tax_zone_id=new_id("z")
    )
    rate = client.tax_rates.create(TaxRate(tax_zone=zone.name, components=[TaxComponent(rate_ppm=1)]))
    with pytest.raises(ResourceInUse):
        client.tax_zones.delete(zone.name)
    client.tax_rates.delete(rate.name)
    client.tax_zones.delete(zone.name)
    with pytest.raises(TaxZoneNotFound):
        client.tax_rates.create(TaxRate(tax_zone=zone.name, components=[TaxComponent(rate_ppm=1)]))


def test_snapshot_of_a_new_database_is_empty(store: Store):
    assert read(store) is NOTHING


def test_snapshot_has_zones_by_name_and_rates_with_the_latest_start_first(store: Store):
    for zone_id in ("b", "a"):
        make_zone(store, zone_id)
    for rate_id, start_us in (("always", None), ("early", 1), ("late-1", 2), ("late-2", 3)):
        make_rate(store, rate_id, "a", start_time_us=start_us, end_time_us=9)
    make_rate(store, "reduced", "a", tax_class="reduced")
    found = read(store)
    assert [zone.name for zone in found.zones] == ["taxZones/a", "taxZones/b"]
    names = {key: [rate.name for rate in rates] for key, rates in found.rates.items()}
    assert names == {
        ("taxZones/a", ""): [f"taxRates/{rate_id}" for rate_id in ("late-2", "late-1", "early", "always")],
        ("taxZones/a", "reduced"): ["taxRates/reduced"],
    }
    assert found.rates["taxZones/a", ""][0].window == terms.Window(3, 9)


def test_snapshot_is_read_again_only_after_a_change(store: Store, monkeypatch: pytest.MonkeyPatch):
    make_zone(store, "a")
    first = read(store)
    loads: list[int] = []
    load: Callable[..., Snapshot] = snapshot._load
    monkeypatch.setattr(snapshot, "_load", lambda tx, version: loads.append(version) or load(tx, version))
    assert read(store) is first
    make_rate(store, "vat", "a")
    second = read(store)
    assert second.version > first.version
    assert [read(store) is second for _ in range(3)] == [True] * 3
    assert loads == [second.version]


def test_deleted_resources_and_dry_runs_are_not_in_the_snapshot(store: Store):
    make_zone(store, "a")
    make_rate(store, "vat", "a")
    before = read(store)
    dry = Call(CALL.caller, CALL.method, validate_only=True)
    tax_zones.TAX_ZONES.create(store, dry, tax_zones.TaxZone("b", areas=(terms.TaxArea("AT"),)))
    assert read(store) is before
    tax_rates.TAX_RATES.delete(store, CALL, ("vat",), etag="")
    assert read(store).rates == {}
    tax_rates.TAX_RATES.undelete(store, CALL, ("vat",), etag="")
    assert list(read(store).rates) == [("taxZones/a", "")]


def test_copies_of_a_database_do_not_share_their_later_versions(database: Database, tmp_path: Path):
    with closing(open_store(database.url)) as store:
        make_zone(store, "a")
    (tmp_path / "copy").mkdir()
    other = database.copy(tmp_path / "copy")
    with closing(open_store(database.url)) as store, closing(open_store(other.url)) as copied:
        assert read(copied) == read(store)
        make_zone(store, "b")
        make_zone(copied, "c")
        assert [zone.name for zone in read(store).zones] == ["taxZones/a", "taxZones/b"]
        assert [zone.name for zone in read(copied).zones] == ["taxZones/a", "taxZones/c"]
    other.remove()
