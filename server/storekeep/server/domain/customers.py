"""Customers. They are soft-deleted, so that orders keep valid references. A deleted customer cannot place orders."""

from __future__ import annotations

import json

import msgspec

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.errors import CustomerNotFound
from storekeep.server.domain.standard.collections import Collection
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.store.tables import customers as store


class LabelledAddress(msgspec.Struct, frozen=True):
    """An address of a customer with a label, such as `home`."""

    label: str
    address: Address


class Customer(msgspec.Struct, frozen=True):
    """A customer; see `Customer` in the contract. Its groups are sorted."""

    id: str
    display_name: str
    email: str = ""
    phone: str = ""
    addresses: tuple[LabelledAddress, ...] = ()
    labels: dict[str, str] = {}
    groups: tuple[str, ...] = ()
    company: str = ""
    tax_id: str = ""
    version: int = 0
    create_time_us: int = 0
    update_time_us: int = 0
    delete_time_us: int | None = None

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"customers/{self.id}"


CUSTOMERS = Collection(
    Customer,
    store.Customer,
    key=("id",),
    pattern="customers/{}",
    event="customer",
    not_found=CustomerNotFound,
)
LISTING = Listing(
    method="ListCustomers",
    query=lambda: store.Customer.select(*CUSTOMERS.rows.fields),
    columns={
        "display_name": Column(store.Customer.display_name, FilterField(Kind.TEXT), sortable=True),
        "email": Column(store.Customer.email, FilterField(Kind.TEXT)),
        "phone": Column(store.Customer.phone, FilterField(Kind.TEXT)),
        "company": Column(store.Customer.company, FilterField(Kind.TEXT)),
        "tax_id": Column(store.Customer.tax_id, FilterField(Kind.TEXT)),
        "groups": Column(store.Customer.groups, FilterField(Kind.SET), store=json.dumps),
        "create_time": Column(store.Customer.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Customer.update_time_us, FilterField(Kind.TIME)),
    },
    unique=(store.Customer.id,),
    read_rows=CUSTOMERS.read_rows,
    deleted=store.Customer.delete_time_us,
)
