"""Customers. They are soft-deleted, so that orders keep valid references. A deleted customer cannot place orders."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any, ClassVar

import msgspec
from msgspec.structs import replace

from storekeep.server.domain.addresses import Address, check_region
from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import CustomerNotFound, IllegalState, InvalidField
from storekeep.server.domain.exemptions import Exemption, check_exemption, hide_exemption
from storekeep.server.domain.keys.encryption import WordHash
from storekeep.server.domain.keys.personal_fields import (
    PersonalFields,
    decrypt_values,
    find_word_hash,
    get_word_hash,
    hide_items,
    hide_text,
)
from storekeep.server.domain.mutations import Mutation, mutate
from storekeep.server.domain.standard.blind_words import blind_condition, blind_words
from storekeep.server.domain.standard.collections import Addition, Collection, Edit
from storekeep.server.domain.standard.filters import FilterField, Kind
from storekeep.server.domain.standard.lists import Column, Listing
from storekeep.server.domain.standard.pages import Page, PageTokens
from storekeep.server.domain.standard.preparations import Preparation, find_document
from storekeep.server.domain.standard.resources import check_deleted, check_etag
from storekeep.server.domain.standard.searches import SearchRequest, search_page
from storekeep.server.domain.tax_ids import find_tax_id_problem
from storekeep.server.store.engine import Store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.tables import customers as store
from storekeep.server.store.tables.search import CUSTOMER_INDEX, Words, build_words


class LabelledAddress(msgspec.Struct, frozen=True):
    """An address of a customer with a label, such as `home`."""

    label: str
    address: Address


class Customer(msgspec.Struct, frozen=True):
    """A customer; see `Customer` in the contract. Its groups are sorted."""

    PERSONAL: ClassVar = PersonalFields(
        {
            "display_name": hide_text,
            "email": hide_text,
            "phone": hide_text,
            "addresses": hide_items,
            "company": hide_text,
            "tax_id": hide_text,
            "exemption": hide_exemption,
        },
        find_subject=lambda _, customer: customer.name,
        tokens=("display_name", "email", "phone", "company", "tax_id"),
    )

    id: str
    display_name: str
    email: str = ""
    phone: str = ""
    addresses: tuple[LabelledAddress, ...] = ()
    labels: dict[str, str] = {}
    groups: tuple[str, ...] = ()
    company: str = ""
    tax_id: str = ""
    encrypted: str = ""
    exemption: Exemption | None = None
    language_code: str = ""
    version: int = 0
    create_time_us: int = 0
    update_time_us: int = 0
    delete_time_us: int | None = None
    erase_time_us: int | None = None
    merged_into: str = ""

    @property
    def name(self) -> str:
        """Return the resource name."""
        return f"customers/{self.id}"


ERASED, MERGED = "ERASED", "MERGED"
"""States of a deleted customer that cannot be undeleted."""


def get_final_state(customer: Customer) -> str:
    """Return the state of a customer that cannot be undeleted; empty for any other."""
    if customer.erase_time_us is not None:
        return ERASED
    return MERGED if customer.merged_into else ""


class Contact(msgspec.Struct, frozen=True):
    """The part of a customer's personal data that an order needs."""

    email: str = ""
    phone: str = ""


decode_contact = msgspec.json.Decoder(Contact).decode


def read_contact(tx: Transaction, customer_id: str, encrypted: str) -> Contact:
    """Return the email address and phone number of a customer, from the column `encrypted` of its row.

    Raises: DataKeysMissing, DecryptionFailed.
    """
    values = decrypt_values(tx, encrypted, owner=f"customers/{customer_id}")
    return decode_contact(values) if values else Contact()


class _Taxed(msgspec.Struct, frozen=True):
    """The part of a customer's personal data that taxes need."""

    exemption: Exemption | None = None


NO_EXEMPTION = "null"
_decode_taxed = msgspec.json.Decoder(_Taxed).decode
_decode_exemption = msgspec.json.Decoder(Exemption).decode


def read_exemption(tx: Transaction, customer_id: str, public: str, encrypted: str) -> Exemption | None:
    """Return the exemption of a customer, without its reason if the data key is destroyed.

    Args:
        public, encrypted: the columns `exemption` and `encrypted` of its row.

    Raises: DataKeysMissing, DecryptionFailed.
    """
    if public == NO_EXEMPTION:
        return None
    values = decrypt_values(tx, encrypted, owner=f"customers/{customer_id}")
    hidden = _decode_taxed(values).exemption if values else None
    return hidden or _decode_exemption(public)


ADDRESS_WORDS_MAX = 600
"""The most words of addresses by which a customer is found: those of 30 usual ones, or of 20 in Chinese. Each
has up to three hashes in the search document, so that a customer takes some 5 ms to index."""


def build_customer_words(customer: Customer) -> Words:
    """Return the words by which a customer is found."""
    return build_words(
        customer.display_name,
        title=(customer.id, customer.email, customer.phone),
        details=[text for labelled in customer.addresses for text in _list_address_texts(labelled)],
        details_words_max=ADDRESS_WORDS_MAX,
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


def build_document(tx: Transaction, customer: Customer) -> Words:
    """Return the search document of a customer, with hashed words.

    Raises: DataKeysMissing.
    """
    return _build_hashed_words(customer, get_word_hash(tx))


def _index_customer(tx: Transaction, new: Customer, old: Customer | None) -> None:
    if old is None or new.erase_time_us is not None or _list_searched(new) != _list_searched(old):
        word_hash = get_word_hash(tx)
        words = find_document(tx, _list_searched(new), lambda: build_document(tx, new), word_hash=word_hash)
        CUSTOMER_INDEX.put(tx, new.id, words)


def _list_searched(customer: Customer) -> tuple[Hashable, ...]:
    """Return what the search document has of a customer."""
    return customer.id, customer.display_name, customer.email, customer.phone, customer.addresses


def prepare_customers(db: Store, effects: Sequence[Any]) -> Preparation:
    """Prepare to create and update customers.

    Args:
        effects: each an `Addition` or an `Edit`.

    Raises: DataKeysMissing, the errors of `Store.snapshot`.
    """
    keys = [(effect.resource.id,) for effect in effects if isinstance(effect, Edit)]

    def read(tx: Transaction) -> tuple[list[Customer], WordHash | None]:
        return CUSTOMERS.read_rows(tx, CUSTOMERS.rows.find_many(tx, keys)) if keys else [], find_word_hash(tx)

    existing, word_hash = db.snapshot(read)
    old = {customer.id: customer for customer in existing}
    created = [effect.resource.name for effect in effects if isinstance(effect, Addition)]
    preparation = Preparation(word_hash=word_hash, subjects=created)
    if word_hash is None:
        return preparation
    for effect in effects:
        customer = effect.resource
        if isinstance(effect, Edit):
            if customer.id not in old:
                continue
            customer = effect.apply(old[customer.id])
            if _list_searched(customer) == _list_searched(old[customer.id]):
                continue
        words = partial(_build_hashed_words, customer, word_hash)
        preparation.prepare(_list_searched(customer), words)
    return preparation


def _build_hashed_words(customer: Customer, word_hash: WordHash) -> Words:
    return blind_words(word_hash, build_customer_words(customer))


def _check(_tx: Transaction, new: Customer, old: Customer | None) -> None:
    """Check the form of a new tax id, a new exemption, and the countries of new addresses.

    Raises: InvalidField.
    """
    if (old is None or new.tax_id != old.tax_id) and (problem := find_tax_id_problem(new.tax_id)):
        raise InvalidField("customer.tax_id", problem)
    if old is None or new.exemption != old.exemption:
        check_exemption(new.exemption, field="customer.tax_exemption")
    known = {labelled.address.region_code for labelled in (old.addresses if old is not None else ())}
    for index, labelled in enumerate(new.addresses):
        check_region(labelled.address.region_code, field=f"customer.addresses[{index}].address", known=known)


CUSTOMERS = Collection(
    Customer,
    store.Customer,
    key=("id",),
    pattern="customers/{}",
    event="customer",
    not_found=CustomerNotFound,
    check=_check,
    store_parts=_index_customer,
)
LISTING = Listing(
    method="ListCustomers",
    query=lambda: store.Customer.select(*CUSTOMERS.rows.fields),
    columns={
        **{
            field: Column(getattr(store.Customer, field), FilterField(Kind.ENCRYPTED), index=field)
            for field in Customer.PERSONAL.tokens
        },
        "language_code": Column(store.Customer.language_code, FilterField(Kind.TEXT)),
        "groups": Column(None, FilterField(Kind.ELEMENT), matches=store.match_group),
        "labels": Column(store.Customer.labels, FilterField(Kind.MAP)),
        "create_time": Column(store.Customer.create_time_us, FilterField(Kind.TIME), sortable=True),
        "update_time": Column(store.Customer.update_time_us, FilterField(Kind.TIME), sortable=True),
    },
    unique=(store.Customer.id,),
    read_rows=CUSTOMERS.read_rows,
    deleted=store.Customer.delete_time_us,
)


def undelete_customer(db: Store, call: Call, customer_id: str, *, etag: str) -> Customer:
    """Restore a soft-deleted customer.

    Raises: CustomerNotFound, ResourceNotDeleted, EtagMismatch, IllegalState if it was erased or merged.
    """

    def effect(mutation: Mutation) -> Customer:
        old = CUSTOMERS.find(mutation.tx, (customer_id,))
        check_deleted(old)
        check_etag(old, etag)
        state = get_final_state(old)
        if state:
            raise IllegalState(old.name, state=state, target="ACTIVE")
        return CUSTOMERS.replace(mutation, old, replace(old, delete_time_us=None), action="undeleted")

    return mutate(db, call, effect, Customer)


def search_customers(db: Store, request: SearchRequest, *, tokens: PageTokens) -> Page[Customer]:
    """Return one page of the customers that match all words of the query. Words match as a whole.

    Raises: InvalidPageToken.
    """
    return search_page(db, CUSTOMERS, CUSTOMER_INDEX, request, tokens=tokens, convert=blind_condition)
