"""Tax rates: the taxes on one class in one zone, for a window of time."""

from __future__ import annotations

import msgspec

from storekeep.server.domain.catalog.pricing_versions import raise_version
from storekeep.server.domain.errors import AlreadyExists, TaxRateNotFound
from storekeep.server.domain.pricing.tax_zones import require_zone
from storekeep.server.domain.pricing.terms import TaxComponent
from storekeep.server.domain.pricing.windows import check_window
from storekeep.server.domain.standard.collections import Collection
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import pricing as store


class TaxRate(msgspec.Struct, frozen=True):
    """A tax rate; see `TaxRate` in the contract."""

    id: str
    display_name: str = ""
    zone_id: str = ""
    tax_class: str = ""
    components: tuple[TaxComponent, ...] = ()
    start_time_us: int | None = None
    end_time_us: int | None = None
    version: int = 0
    create_time_us: int = 0
    update_time_us: int = 0
    delete_time_us: int | None = None

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"taxRates/{self.id}"


def _check(tx: Transaction, new: TaxRate, old: TaxRate | None) -> None:
    """Check the window, and the zone of a new rate.

    Raises: InvalidField, TaxZoneNotFound.
    """
    check_window(new.start_time_us, new.end_time_us, field="tax_rate.end_time")
    if old is None:
        require_zone(tx, new.zone_id)


def _store_parts(tx: Transaction, new: TaxRate, old: TaxRate | None) -> None:
    """Raise unless the start tells the rate apart from the others of its class in its zone: the latest one counts.

    Rates of older releases can have the same start. Their other fields can change.

    Raises: AlreadyExists.
    """
    raise_version(tx)
    is_restored = old is not None and old.delete_time_us is not None
    if new.delete_time_us is not None or (old is not None and not is_restored and _get_place(new) == _get_place(old)):
        return
    table = store.TaxRate
    same_start = (
        table.start_time_us.is_null() if new.start_time_us is None else table.start_time_us == new.start_time_us
    )
    same_place = (table.zone == new.zone_id) & (table.tax_class == new.tax_class) & same_start
    query = table.select(table.id).where(same_place & table.delete_time_us.is_null() & (table.id != new.id)).limit(1)
    for (other_id,) in tx.run(query).fetchall():
        start = "has no start either" if new.start_time_us is None else "has the same start"
        problem = f"taxes this class in this zone and {start}; give the new rate a start, or add its tax to this one"
        raise AlreadyExists(f"taxRates/{other_id}", problem=problem)


def _get_place(rate: TaxRate) -> tuple[str, str, int | None]:
    return rate.zone_id, rate.tax_class, rate.start_time_us


TAX_RATES = Collection(
    TaxRate,
    store.TaxRate,
    key=("id",),
    pattern="taxRates/{}",
    event="tax_rate",
    not_found=TaxRateNotFound,
    check=_check,
    store_parts=_store_parts,
)
LISTING = Listing(
    method="ListTaxRates",
    query=lambda: store.TaxRate.select(*TAX_RATES.rows.fields),
    columns={
        "display_name": Column(store.TaxRate.display_name, FilterField(Kind.TEXT), sortable=True),
        "tax_zone": Column(store.TaxRate.zone, FilterField(Kind.TEXT, prefix="taxZones/")),
        "tax_class": Column(store.TaxRate.tax_class, FilterField(Kind.TEXT)),
        "start_time": Column(store.TaxRate.start_time_us, FilterField(Kind.TIME)),
        "end_time": Column(store.TaxRate.end_time_us, FilterField(Kind.TIME)),
        "create_time": Column(store.TaxRate.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.TaxRate.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.TaxRate.id,),
    read_rows=TAX_RATES.read_rows,
    deleted=store.TaxRate.delete_time_us,
)
