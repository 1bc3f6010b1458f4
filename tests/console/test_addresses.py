"""The addresses of a customer: changed, added and removed in one form, and never replaced by masked ones."""

from __future__ import annotations

import pytest

from storekeep.client import Address, Customer, CustomerAddress, Storekeep
from storekeep.console.addresses import FIELDS
from tests.support.gateways import GatewayProcess
from tests.support.shops import new_id
from tests.support.visitors import Visitor, get_wrong, sign_in

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")
HOME = Address(
    recipient="Ada Marsh",
    organization="Marsh & Co",
    address_lines=["12 Quay Street", "2nd floor"],
    locality="Galway",
    administrative_area="Connacht",
    postal_code="H91",
    region_code="IE",
    phone="+353 91 1",
)


@pytest.fixture
def customer(client: Storekeep) -> Customer:
    """Create a customer with one address that has all fields."""
    address = CustomerAddress(label="home", address=HOME)
    return client.customers.create(Customer(display_name="Ada", email=f"{new_id()}@example.com", addresses=[address]))


def get_path(customer: Customer) -> str:
    return f"/{customer.name}/addresses"


def get_fields(visitor: Visitor, customer: Customer) -> dict[str, str]:
    return dict(visitor.get(get_path(customer)).form(get_path(customer)).fields)


def test_form_has_all_fields_of_an_address():
    paths = {item.name for item in FIELDS}
    assert paths == {"label", *(f"address.{field.name}" for field in Address.DESCRIPTOR.fields)}


def test_address_is_changed_added_and_removed(admin: Visitor, client: Storekeep, customer: Customer):
    assert get_path(customer) in admin.get(f"/{customer.name}").links
    fields = get_fields(admin, customer)
    added = {"addresses.2.label": "work", "addresses.2.address.region_code": "AT"}
    page = admin.post(get_path(customer), fields | {"addresses.1.address.locality": "Cork"} | added)
    assert "The addresses have been changed." in page.text
    home, work = client.customers.get(customer.name).addresses
    expected = Address()
    expected.CopyFrom(HOME)
    expected.locality = "Cork"
    assert (home.label, home.address) == ("home", expected)
    assert (work.label, work.address) == ("work", Address(region_code="AT"))
    fields = get_fields(admin, customer)
    emptied = {name: "" for name in fields if name.startswith("addresses.1.")}
    admin.post(get_path(customer), fields | emptied)
    assert [one.label for one in client.customers.get(customer.name).addresses] == ["work"]


def test_wrong_address_is_explained_beside_its_field(admin: Visitor, client: Storekeep, customer: Customer):
    fields = get_fields(admin, customer) | {"addresses.1.label": "x" * 64, "addresses.4.address.region_code": "Austria"}
    page = admin.post(get_path(customer), fields)
    assert set(get_wrong(page)) == {"addresses.1.label", "addresses.4.address.region_code"}
    assert "Label of address 1" in page.text
    assert dict(page.form(get_path(customer)).fields)["addresses.4.address.region_code"] == "Austria"
    assert client.customers.get(customer.name).addresses[0].label == "home"


def test_address_that_someone_else_has_changed_is_compared(admin: Visitor, client: Storekeep, customer: Customer):
    fields = get_fields(admin, customer)
    customer.addresses[0].address.locality = "Limerick"
    client.customers.update(customer, update_mask=["addresses"])
    page = admin.post(get_path(customer), fields | {"addresses.1.address.locality": "Cork"})
    assert page.status == 409
    assert "Someone else has changed this meanwhile" in page.text
    assert "City of address 1</th><td>Galway</td><td>Limerick</td><td><mark>Cork</mark></td>" in page.body
    admin.post(get_path(customer), dict(page.form(get_path(customer)).fields))
    assert client.customers.get(customer.name).addresses[0].address.locality == "Cork"


def test_masked_addresses_replace_nothing(gateway: GatewayProcess, client: Storekeep, customer: Customer):
    clerk = sign_in(gateway, client, "customers.read", "customers.write")
    page = clerk.get(get_path(customer))
    assert "you need the permission customers.personal.read" in page.text
    assert get_path(customer) not in page.links
    token = dict(page.form(f"/{customer.name}").fields)
    assert clerk.post(get_path(customer), token | {"addresses.1.label": "home"}).status == 403
    assert client.customers.get(customer.name).addresses[0].address == HOME
