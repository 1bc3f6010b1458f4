"""`storekeep customers`: commands for customers."""

from __future__ import annotations

from typing import Annotated

import typer

from storekeep.cli.addresses import PANEL
from storekeep.cli.changes import Clear, build_update
from storekeep.cli.commands import LIMIT, Deleted, Etag, Label, Limit, command, new_group
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.names import to_customer_name
from storekeep.cli.pairs import parse_labels
from storekeep.cli.sessions import Session, compute_page_size
from storekeep.cli.steps import Step, add_steps
from storekeep.client import Address, Customer, CustomerAddress

COLUMNS = ("name", "display_name", "email", "phone", "update_time")
LISTING = ResourceListing(
    "List customers.",
    example="storekeep customers list --filter 'display_name : \"ernst\"'",
    method=lambda session: session.client.customers.list,
    columns=COLUMNS,
    filters=("labels.tier = gold", 'display_name = "Ernst*"', "-email:*"),
    soft_deletion=True,
)

STEPS = (
    Step("delete", "Delete customers; they can be undeleted.", lambda s: s.client.customers.delete),
    Step("undelete", "Restore deleted customers.", lambda s: s.client.customers.undelete),
)


ADDRESS_LABEL = "main"
AddressLabel = Annotated[
    str, typer.Option("--address-label", help="Label of the address, such as home or billing.", rich_help_panel=PANEL)
]
Group = Annotated[
    list[str] | None, typer.Option("--group", metavar="ID", help="A group, such as wholesale. May be repeated.")
]
COMPANY = typer.Option("--company", help="Legal name of the company.")
TAX_ID = typer.Option("--tax-id", help="Tax number, such as a VAT id.")


def add_customers(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = new_group(
        app,
        "customers",
        help="Manage customers and their addresses.",
        example="storekeep customers list",
    )
    add_listing(group, LISTING)
    command(group, "show", example="storekeep customers show ernst")(show_customer)
    command(group, "search", example='storekeep customers search "ernst handel"')(search_customers)
    create = 'storekeep customers create --id ernst --name "Ernst Handel" --city Graz --country AT'
    command(group, "create", example=create, writes=True, takes_address=True)(create_customer)
    update = "storekeep customers update ernst --phone 7675-3425"
    command(group, "update", example=update, writes=True, takes_address=True)(update_customer)
    add_steps(group, STEPS, noun="customers", example_name="ernst", to_name=to_customer_name, columns=COLUMNS)


def show_customer(session: Session, name: Annotated[str, typer.Argument(help="Id or full name.")]) -> None:
    """Show one customer."""
    session.screen.show_message(session.client.customers.get(to_customer_name(name)))


def search_customers(
    session: Session,
    query: Annotated[str, typer.Argument(help="Words that must all occur; the last may be a prefix.")],
    limit: Limit = LIMIT,
    deleted: Deleted = False,
) -> None:
    """Search customers by words in their names, ids, email addresses, phone numbers and addresses, best match first."""
    listing = session.client.customers.search(
        query, page_size=compute_page_size(limit, page_size_max=100), show_deleted=deleted
    )
    session.show_listing(listing, columns=COLUMNS, limit=limit)


def create_customer(
    session: Session,
    display_name: Annotated[str, typer.Option("--name", help="Name of the person or company.")],
    customer_id: Annotated[str, typer.Option("--id", help="Its id (default: chosen by the server).")] = "",
    email: Annotated[str, typer.Option("--email", help="Email address.")] = "",
    phone: Annotated[str, typer.Option("--phone", help="Phone number, in any format.")] = "",
    company: Annotated[str, COMPANY] = "",
    tax_id: Annotated[str, TAX_ID] = "",
    group: Group = None,
    label: Label = None,
    address_label: AddressLabel = ADDRESS_LABEL,
    postal_address: Address | None = None,
) -> None:
    """Create a customer, with an address if one is given."""
    customer = Customer(
        display_name=display_name,
        email=email,
        phone=phone,
        company=company,
        tax_id=tax_id,
        groups=group or (),
        labels=parse_labels(label or ()),
    )
    if postal_address is not None:
        customer.addresses.add(label=address_label, address=postal_address)
    created = session.client.customers.create(customer, customer_id=customer_id, **session.creation_options)
    session.screen.show_message(created)


def update_customer(
    session: Session,
    name: Annotated[str, typer.Argument(help="Id or full name.")],
    display_name: Annotated[str | None, typer.Option("--name", help="Name of the person or company.")] = None,
    email: Annotated[str | None, typer.Option("--email", help="Email address.")] = None,
    phone: Annotated[str | None, typer.Option("--phone", help="Phone number, in any format.")] = None,
    company: Annotated[str | None, COMPANY] = None,
    tax_id: Annotated[str | None, TAX_ID] = None,
    group: Group = None,
    label: Label = None,
    address_label: AddressLabel = ADDRESS_LABEL,
    clear: Clear = None,
    etag: Etag = "",
    postal_address: Address | None = None,
) -> None:
    """Change the given fields of a customer. Labels and groups, if given, replace all existing ones.

    An empty --group removes the customer from all groups.

    An address replaces the one with the same --address-label; the customer's other addresses do not change.
    """
    addresses = None
    if postal_address is not None:
        current = session.client.customers.get(to_customer_name(name))
        etag = etag or current.etag  # so that no change in between is lost
        addresses = [one for one in current.addresses if one.label != address_label]
        addresses.append(CustomerAddress(label=address_label, address=postal_address))
    changes, mask = build_update(
        Customer,
        to_customer_name(name),
        etag=etag,
        clear=clear or (),
        display_name=display_name,
        email=email,
        phone=phone,
        company=company,
        tax_id=tax_id,
        groups=[one for one in group if one] if group else None,
        labels=parse_labels(label) if label else None,
        addresses=addresses,
    )
    session.screen.show_message(session.client.customers.update(changes, update_mask=mask, **session.write_options))
