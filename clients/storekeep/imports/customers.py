"""`storekeep import customers`: one customer per row, with one address.

Only values in the file are compared and written. Absent cells, other addresses and other labels do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from google.protobuf.field_mask_pb2 import FieldMask

from storekeep.client import (
    AlreadyExists,
    CreateCustomerRequest,
    Customer,
    CustomerAddress,
    Storekeep,
    UpdateCustomerRequest,
    WriteOptions,
)
from storekeep.client.names import to_customer_name
from storekeep.imports.addresses import TARGETS as ADDRESS_TARGETS
from storekeep.imports.addresses import read_address
from storekeep.imports.batches import write_batches
from storekeep.imports.columns import Target, Values
from storekeep.imports.ids import parse_id
from storekeep.imports.lookups import find_existing, require_existing
from storekeep.imports.sku_maps import SkuMap
from storekeep.imports.writes import Batched, Outcome, Write, run_writes

MASK = ("display_name", "email", "phone", "company", "tax_id", "language_code", "groups", "addresses", "labels")
"""The fields that an update changes."""
ADDRESS_LABEL = "main"
"""Default label of the imported address."""

TARGETS = (
    Target("id", "Id of the customer: 1 to 63 letters, digits and _.-", required=True),
    Target("name", "Name of the person or company.", required=True),
    Target("email", "Email address."),
    Target("phone", "Phone number, in any format."),
    Target("company", "Legal name of the company."),
    Target("tax_id", "Tax number, such as a VAT id."),
    Target("language", "Language tag (BCP 47), such as de or pt-BR."),
    Target("groups", "Ids of groups, separated by commas or semicolons; they replace all groups."),
    *ADDRESS_TARGETS,
    Target("address_label", f"Label of the address (default: {ADDRESS_LABEL})."),
)


@dataclass(frozen=True)
class CustomerItem:
    """A customer as read from the file."""

    customer_id: str
    display_name: str
    email: str | None = None
    phone: str | None = None
    company: str | None = None
    tax_id: str | None = None
    language_code: str | None = None
    groups: tuple[str, ...] = ()
    address: CustomerAddress | None = None
    labels: dict[str, str] = field(default_factory=dict)

    def apply_to(self, customer: Customer) -> Customer:
        """Return a copy of the customer with the values of the file."""
        updated = Customer()
        updated.CopyFrom(customer)
        updated.display_name = self.display_name
        updated.email = customer.email if self.email is None else self.email
        updated.phone = customer.phone if self.phone is None else self.phone
        updated.company = customer.company if self.company is None else self.company
        updated.tax_id = customer.tax_id if self.tax_id is None else self.tax_id
        if self.language_code is not None and self.language_code.lower() != customer.language_code.lower():
            updated.language_code = self.language_code  # the server stores the canonical form
        if self.groups:
            updated.groups[:] = self.groups
        updated.labels.update(self.labels)
        if self.address is not None:
            _put_address(updated, self.address)
        return updated


class CustomerImporter:
    """Creates and updates customers from rows."""

    def __init__(self, client: Storekeep, *, write_options: WriteOptions, skus: SkuMap) -> None:
        self._client = client
        self._dry_run = write_options.get("validate_only", False)

    def parse(self, values: Values) -> CustomerItem:
        """Parse a row. Raises: InvalidCell."""
        return CustomerItem(
            customer_id=parse_id(values.require("id"), target="id"),
            display_name=values.require("name"),
            email=values.text("email"),
            phone=values.code("phone"),
            company=values.text("company"),
            tax_id=values.code("tax_id"),
            language_code=values.text("language"),
            groups=_read_groups(values),
            address=_read_address(values),
            labels=values.labels(),
        )

    def key(self, item: CustomerItem) -> str:
        """Return the key of an item, which must be unique in a file."""
        return to_customer_name(item.customer_id)

    def list_shared_cells(self, item: CustomerItem) -> tuple[str, Mapping[str, str]]:
        """Return the resource of an item, and the cells that all rows of the resource must share: none."""
        return self.key(item), {}

    def look_up(self, items: Sequence[CustomerItem]) -> Callable[[CustomerItem], Outcome]:
        """Look up the existing customers of a chunk and write it. Return the function that writes one left item."""
        existing = find_existing([self.key(item) for item in items], batch_get=self._client.customers.batch_get)
        done = write_batches(
            {self.key(item): item for item in items},
            plan=lambda item: self._plan(item, existing.get(self.key(item))),
            dry_run=self._dry_run,
        ).outcomes
        return lambda item: done.get(self.key(item)) or self._write(item, existing.get(self.key(item)))

    def _write(self, item: CustomerItem, current: Customer | None) -> Outcome:
        try:
            return run_writes(self._plan(item, current), dry_run=self._dry_run)
        except AlreadyExists:
            current = self._client.customers.get(self.key(item))
            return run_writes(self._plan(item, current), dry_run=self._dry_run)

    def _plan(self, item: CustomerItem, current: Customer | None) -> list[Write]:
        """Return the call that creates or updates a customer; none if it has all values of the file.

        Raises: InvalidCell if the customer is deleted.
        """
        customers, name = self._client.customers, self.key(item)
        updated = item.apply_to(current or Customer())
        if current is None:
            create = partial(customers.create, updated, customer_id=item.customer_id)
            creation = CreateCustomerRequest(customer=updated, customer_id=item.customer_id)
            batched = Batched(customers.batch_create, name, creation)
            return [Write(lambda options: create(**options), Outcome.CREATED, batched=batched)]
        require_existing(current)
        if updated == current:
            return []
        update = partial(customers.update, updated, update_mask=MASK)
        change = UpdateCustomerRequest(customer=updated, update_mask=FieldMask(paths=MASK))
        batched = Batched(customers.batch_update, name, change)
        return [Write(lambda options: update(**options), Outcome.UPDATED, batched=batched)]


def _put_address(customer: Customer, address: CustomerAddress) -> None:
    for existing in customer.addresses:
        if existing.label == address.label:
            phone = existing.address.phone
            existing.CopyFrom(address)
            existing.address.phone = phone
            return
    customer.addresses.append(address)


def _read_groups(values: Values) -> tuple[str, ...]:
    names = (values.text("groups") or "").replace(";", ",").split(",")
    return tuple(sorted({name.strip() for name in names} - {""}))


def _read_address(values: Values) -> CustomerAddress | None:
    address = read_address(values)
    if address is None:
        return None
    return CustomerAddress(label=values.text("address_label") or ADDRESS_LABEL, address=address)
