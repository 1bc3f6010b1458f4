"""Tax zones: sets of areas with the same tax rates. No two have the same area. One with rates cannot be deleted."""

from __future__ import annotations

import msgspec

from storekeep.server.domain.addresses import check_region
from storekeep.server.domain.catalog.pricing_versions import raise_version
from storekeep.server.domain.errors import AlreadyExists, ResourceInUse, TaxZoneNotFound
from storekeep.server.domain.pricing.terms import TaxArea, describe_area, fold_area
from storekeep.server.domain.standard.collections import Collection
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import pricing as store


class TaxZone(msgspec.Struct, frozen=True):
    """A tax zone; see `TaxZone` in the contract."""

    id: str
    display_name: str = ""
    areas: tuple[TaxArea, ...] = ()
    version: int = 0
    create_time_us: int = 0
    update_time_us: int = 0
    delete_time_us: int | None = None

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"taxZones/{self.id}"


def require_zone(tx: Transaction, zone_id: str) -> None:
    """Raise unless the zone exists and is not deleted.

    Raises: TaxZoneNotFound.
    """
    if TAX_ZONES.find(tx, (zone_id,)).delete_time_us is not None:
        raise TaxZoneNotFound(f"taxZones/{zone_id}")


def _check(_tx: Transaction, new: TaxZone, old: TaxZone | None) -> None:
    """Raise unless the countries of new areas exist. An area may have none.

    Raises: InvalidField.
    """
    known = {"", *(area.region_code for area in (old.areas if old is not None else ()))}
    for index, area in enumerate(new.areas):
        check_region(area.region_code, field=f"tax_zone.areas[{index}]", known=known)


def _store_parts(tx: Transaction, new: TaxZone, _old: TaxZone | None) -> None:
    """Raise unless no other zone has an area of this zone: each address belongs to one zone.

    Raises: AlreadyExists.
    """
    raise_version(tx)
    if new.delete_time_us is not None:
        return
    folded = {fold_area(area): area for area in new.areas}
    table = store.TaxZone
    query = table.select(*TAX_ZONES.rows.fields).where(table.delete_time_us.is_null() & (table.id != new.id))
    for other in TAX_ZONES.read_rows(tx, tx.run(query).fetchall()):
        for area in map(fold_area, other.areas):
            if area in folded:
                raise AlreadyExists(other.name, problem=f"has the area {describe_area(folded[area])} already")


def _check_unused(tx: Transaction, zone: TaxZone) -> None:
    rate = store.RATE_IN.one(tx, zone_id=zone.id)
    if rate is not None:
        raise ResourceInUse(zone.name, user=f"taxRates/{rate[0]}")


TAX_ZONES = Collection(
    TaxZone,
    store.TaxZone,
    key=("id",),
    pattern="taxZones/{}",
    event="tax_zone",
    not_found=TaxZoneNotFound,
    check=_check,
    store_parts=_store_parts,
    check_unused=_check_unused,
)
LISTING = Listing(
    method="ListTaxZones",
    query=lambda: store.TaxZone.select(*TAX_ZONES.rows.fields),
    columns={
        "display_name": Column(store.TaxZone.display_name, FilterField(Kind.TEXT), sortable=True),
        "create_time": Column(store.TaxZone.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.TaxZone.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.TaxZone.id,),
    read_rows=TAX_ZONES.read_rows,
    deleted=store.TaxZone.delete_time_us,
)
