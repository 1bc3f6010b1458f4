"""The page of a customer's addresses: all in one form, where an emptied one is removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from storekeep.client import Customer, CustomerAddress, EtagMismatch
from storekeep.console.customers import PERSONAL, WRITE, get_name
from storekeep.console.forms import Difference, FormField
from storekeep.console.requests import BadRequest, Inputs, Reply, Request, Route

ADDRESSES_MAX = 20
FIELDS = (
    FormField("label", "Label", hint="such as home"),
    FormField("address.recipient", "Recipient"),
    FormField("address.organization", "Company"),
    FormField("address.address_lines", "Street"),
    FormField("address.postal_code", "Postal code"),
    FormField("address.locality", "City"),
    FormField("address.administrative_area", "State or province"),
    FormField("address.region_code", "Country code", hint="such as DE"),
    FormField("address.phone", "Phone"),
)
EMPTY = CustomerAddress()


def _list_inputs(number: int) -> list[tuple[FormField, FormField]]:
    """Return each field with its input in the form.

    Args:
        number: number of the address, from 1.
    """
    heading = f"Address {number}"
    return [
        (item, replace(item, name=f"addresses.{number}.{item.name}", heading="" if at else heading))
        for at, item in enumerate(FIELDS)
    ]


def _list_filled(request: Request) -> list[int]:
    """Return the numbers of the addresses in the form that have some text."""
    numbers = range(1, ADDRESSES_MAX + 1)
    return [number for number in numbers if any(request.field(one.name) for _, one in _list_inputs(number))]


def _find_inputs(request: Request) -> Inputs:
    """Return the inputs of the form. The addresses of a request are those with some text."""
    labels = {
        one.name: f"{one.label} of address {number}"
        for number in range(1, ADDRESSES_MAX + 1)
        for _, one in _list_inputs(number)
    }
    paths = {
        f"customer.addresses[{index}].{item.name}": one.name
        for index, number in enumerate(_list_filled(request))
        for item, one in _list_inputs(number)
    }
    return Inputs(labels, paths)


def show_addresses(request: Request) -> Reply:
    """Show the form of a customer's addresses, with an empty one. Raises: StorekeepError, BadRequest."""
    name = get_name(request)
    if not request.session.may(PERSONAL):
        if request.problem is not None:
            raise request.problem
        return request.done(f"/{name}", f"To change addresses, you need the permission {PERSONAL}.")
    customer = request.session.client.customers.get(name)
    addresses = [*customer.addresses, EMPTY][:ADDRESSES_MAX]
    count = max([len(addresses), *_list_filled(request)])
    addresses += [EMPTY] * (count - len(addresses))
    stored = [(one, item.read(at)) for number, at in enumerate(addresses, 1) for item, one in _list_inputs(number)]
    return request.page(
        "customer-addresses.html",
        title="Addresses",
        inputs=_find_inputs(request),
        customer=customer,
        stored=stored,
        fields=[(one, request.field(one.name, text)) for one, text in stored],
        conflict=_build_conflict(request, stored),
    )


def _build_conflict(request: Request, stored: Sequence[tuple[FormField, str]]) -> list[Difference]:
    """Return the inputs that differ from the addresses of now, if these were changed meanwhile."""
    if not isinstance(request.problem, EtagMismatch):
        return []
    labels, read = _find_inputs(request).labels, request.field
    differences = [
        Difference(replace(one, label=labels[one.name]), read(f"was.{one.name}"), text, read(one.name))
        for one, text in stored
    ]
    return [item for item in differences if item.theirs.split() != item.mine.split()]


def update_addresses(request: Request) -> Reply:
    """Replace the addresses of a customer by those in the form. Raises: StorekeepError, BadRequest."""
    if not request.session.may(PERSONAL):  # what is masked would replace what is stored
        raise BadRequest(f"To change addresses, you need the permission {PERSONAL}.", status=403)
    name = get_name(request)
    customer = Customer(name=name, etag=request.field("etag"))
    for number in _list_filled(request):
        address = customer.addresses.add()
        for item, one in _list_inputs(number):
            item.write(address, request.field(one.name))
    request.session.client.customers.update(customer, update_mask=["addresses"], **request.write_options())
    return request.done(f"/{name}", "The addresses have been changed.")


ROUTES = (
    Route("GET", "/customers/{customer}/addresses", show_addresses, WRITE),
    Route("POST", "/customers/{customer}/addresses", update_addresses, WRITE, show_addresses),
)
