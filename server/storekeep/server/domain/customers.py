"""Customers. They are soft-deleted, so that orders keep valid references. A deleted customer cannot place orders."""

from __future__ import annotations

import msgspec

from storekeep.server.domain.addresses import Address
from storekeep.server.domain.errors import CustomerNotFound
from storekeep.server.domain.standard.collections import Collection
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.domain.standard.pages import Page, PageTokens
from storekeep.server.domain.standard.searches import SearchRequest, search_page
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import customers as store
from storekeep.server.store.tables.search import CUSTOMER_INDEX, Words, build_words


class LabelledAddress(msgspec.Struct, frozen=True):
    """An address of a customer with a label, such as `home`."""

    label: str
    address: Address


class Customer(msgspec.Struct, frozen=True):
    """A customer; see `Customer` in the contract."""

    id: str
    display_name: str
    email: str = ""
    phone: str = ""
    addresses: tuple[LabelledAddress, ...] = ()
    labels: dict[str, str] = {}
    version: int = 0
    create_time_us: int = 0
    update_time_us: int = 0
    delete_time_us: int | None = None

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"customers/{self.id}"


def build_customer_words(customer: Customer) -> Words:
    """Return the words by which a customer is found."""
    return build_words(
        customer.display_name,
        title=(customer.id, customer.email, customer.phone),
        details=[text for labelled in customer.addresses for text in _list_address_texts(labelled)],
    )


def _list_address_texts(labelled: LabelledAddress) -> tuple[str, ...]:
    address = labelled.address
    return (
        labelled.label,
        address.recipient,
        address.organization,
        *address.address_lines,
        address.locality,
        address.administrative_area,
        address.postal_code,
        address.region_code,
        address.phone,
    )


def _index_customer(tx: Transaction, new: Customer, old: Customer | None) -> None:
    words = build_customer_words(new)
    if old is None or words != build_customer_words(old):
        CUSTOMER_INDEX.put(tx, new.id, words)


CUSTOMERS = Collection(
    Customer,
    store.Customer,
    key=("id",),
    pattern="customers/{}",
    event="customer",
    not_found=CustomerNotFound,
    store_parts=_index_customer,
)
LISTING = Listing(
    method="ListCustomers",
    query=lambda: store.Customer.select(*CUSTOMERS.rows.fields),
    columns={
        "display_name": Column(store.Customer.display_name, FilterField(Kind.TEXT), sortable=True),
        "email": Column(store.Customer.email, FilterField(Kind.TEXT)),
        "phone": Column(store.Customer.phone, FilterField(Kind.TEXT)),
        "labels": Column(store.Customer.labels, FilterField(Kind.MAP)),
        "create_time": Column(store.Customer.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Customer.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.Customer.id,),
    read_rows=CUSTOMERS.read_rows,
    deleted=store.Customer.delete_time_us,
)


def search_customers(db: Store, request: SearchRequest, *, tokens: PageTokens) -> Page[Customer]:
    """Return one page of the customers that match all words of the query. The last word matches as a prefix.

    Raises: InvalidPageToken.
    """
    return search_page(db, CUSTOMERS, CUSTOMER_INDEX, request, tokens=tokens)
