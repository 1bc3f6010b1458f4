"""`storekeep import customers`: one customer per row, with one address.

Only what the file says is compared and written: absent cells, other addresses and other labels stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from storekeep.cli.customers import customer_name
from storekeep.cli.imports.addresses import TARGETS as ADDRESS_TARGETS
from storekeep.cli.imports.addresses import read_address
from storekeep.cli.imports.columns import Target, Values
from storekeep.cli.imports.ids import id_of
from storekeep.cli.imports.lookups import find_known
from storekeep.cli.imports.runs import Outcome
from storekeep.client import AlreadyExists, Customer, CustomerAddress, Storekeep, WriteOptions

ADDRESS_LABEL = "main"
"""The label of the imported address, unless `address_label` says otherwise."""

TARGETS = (
    Target("id", "The customer's id: 1 to 63 letters, digits and _.-", required=True),
    Target("name", "A person's or a company's name.", required=True),
    Target("email", "Where they are written to."),
    Target("phone", "As they write it."),
    *ADDRESS_TARGETS,
    Target("address_label", f"What the customer calls the address; {ADDRESS_LABEL} without."),
)


@dataclass(frozen=True)
class CustomerDraft:
    """A customer, as the file has it."""

    customer_id: str
    display_name: str
    email: str | None = None
    phone: str | None = None
    address: CustomerAddress | None = None
    labels: dict[str, str] = field(default_factory=dict)

    def onto(self, customer: Customer) -> Customer:
        """Return the customer with what the file says put on it."""
        wanted = Customer()
        wanted.CopyFrom(customer)
        wanted.display_name = self.display_name
        wanted.email = customer.email if self.email is None else self.email
        wanted.phone = customer.phone if self.phone is None else self.phone
        wanted.labels.update(self.labels)
        if self.address is not None:
            _put_address(wanted, self.address)
        return wanted


class CustomerImporter:
    """Makes customers what a file says."""

    def __init__(self, client: Storekeep, *, write_options: WriteOptions) -> None:
        self._client = client
        self._write_options = write_options

    def draft(self, values: Values) -> CustomerDraft:
        """Read a row. Raises: CellRefused."""
        return CustomerDraft(
            customer_id=id_of(values.needed("id"), target="id"),
            display_name=values.needed("name"),
            email=values.text("email"),
            phone=values.text("phone"),
            address=_read_address(values),
            labels=values.labels(),
        )

    def key(self, draft: CustomerDraft) -> str:
        """Return what must not occur twice in a file."""
        return customer_name(draft.customer_id)

    def look_up(self, drafts: Sequence[CustomerDraft]) -> Callable[[CustomerDraft], Outcome]:
        """Look up the customers of a chunk."""
        known = find_known([self.key(draft) for draft in drafts], batch_get=self._client.customers.batch_get)
        return lambda draft: self._write(draft, known.get(self.key(draft)))

    def _write(self, draft: CustomerDraft, current: Customer | None) -> Outcome:
        if current is None:
            try:
                self._client.customers.create(
                    draft.onto(Customer()), customer_id=draft.customer_id, **self._write_options
                )
            except AlreadyExists:
                current = self._client.customers.get(self.key(draft))
            else:
                return Outcome.CREATED
        return self._update(draft, current)

    def _update(self, draft: CustomerDraft, current: Customer) -> Outcome:
        wanted = draft.onto(current)
        if wanted == current:
            return Outcome.UNCHANGED
        mask = ("display_name", "email", "phone", "addresses", "labels")
        self._client.customers.update(wanted, update_mask=mask, **self._write_options)
        return Outcome.UPDATED


def _put_address(customer: Customer, address: CustomerAddress) -> None:
    for present in customer.addresses:
        if present.label == address.label:
            present.CopyFrom(address)
            return
    customer.addresses.append(address)


def _read_address(values: Values) -> CustomerAddress | None:
    address = read_address(values)
    if address is None:
        return None
    return CustomerAddress(label=values.text("address_label") or ADDRESS_LABEL, address=address)
