"""Locations: warehouses and stores that hold stock. A location with stock or open orders cannot be deleted."""

from __future__ import annotations

import msgspec

from storekeep.server.domain.addresses import Address, check_address
from storekeep.server.domain.errors import LocationNotFound, ResourceInUse
from storekeep.server.domain.standard.collections import Collection
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import stock as store


class Location(msgspec.Struct, frozen=True):
    """A location that holds stock; see `Location` in the contract."""

    id: str
    display_name: str
    address: Address | None = None
    version: int = 0
    create_time_us: int = 0
    update_time_us: int = 0
    delete_time_us: int | None = None
    priority: int = 0
    labels: dict[str, str] = {}

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"locations/{self.id}"


def _check(_tx: Transaction, new: Location, old: Location | None) -> None:
    """Raise unless the country of a new address exists.

    Raises: InvalidField.
    """
    check_address(new.address, field="location.address", old=None if old is None else old.address)


def _check_unused(tx: Transaction, location: Location) -> None:
    level = store.LOCATION_LEVEL_IN_USE.one(tx, location_id=location.id)
    if level is not None:
        raise ResourceInUse(location.name, user=f"{location.name}/stockLevels/{level[0]}")


LOCATIONS = Collection(
    Location,
    store.Location,
    key=("id",),
    pattern="locations/{}",
    event="location",
    not_found=LocationNotFound,
    check=_check,
    check_unused=_check_unused,
)
LISTING = Listing(
    method="ListLocations",
    query=lambda: store.Location.select(*LOCATIONS.rows.fields),
    columns={
        "display_name": Column(store.Location.display_name, FilterField(Kind.TEXT), sortable=True),
        "create_time": Column(store.Location.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Location.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.Location.id,),
    read_rows=LOCATIONS.read_rows,
    deleted=store.Location.delete_time_us,
)
