"""`storekeep customers`: commands for customers."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.message import Message

from storekeep.cli.addresses import PANEL
from storekeep.cli.changes import Clear, build_update
from storekeep.cli.commands import LIMIT, Deleted, Etag, Label, Limit, command, new_group
from storekeep.cli.files import PRIVATE_MODE, create_file
from storekeep.cli.listings import ResourceListing, add_listing
from storekeep.cli.pairs import parse_labels
from storekeep.cli.sessions import Session, compute_page_size
from storekeep.cli.steps import Step, add_steps
from storekeep.cli.windows import parse_bound
from storekeep.client import (
    Address,
    Customer,
    CustomerAddress,
    CustomerTaxExemption,
    PermissionDenied,
    build_customer_document,
    build_customer_page,
)
from storekeep.client.names import to_customer_name

COLUMNS = ("name", "display_name", "email", "phone", "update_time")
LISTING = ResourceListing(
    "List customers.",
    example="storekeep customers list --filter 'email = \"ernst@example.com\"'",
    method=lambda session: session.client.customers.list,
    columns=COLUMNS,
    filters=("labels.tier = gold", 'email = "ernst@example.com"', "-email:*"),
    soft_deletion=True,
)

OPEN = "(state = PLACED OR state = CONFIRMED OR state = PARTIALLY_FULFILLED)"
"""Filter of orders of which units are still to be shipped."""


def _delete(session: Session) -> Callable[..., Customer]:
    def delete(name: str, **options: Any) -> Customer:
        deleted = session.client.customers.delete(name, **options)
        with suppress(PermissionDenied):
            orders = session.client.orders.list(
                filter=f"customer = {name} AND {OPEN}", page_size=1, include_total_size=True
            )
            if count := orders.page().total_size or 0:
                whose = f"{count:,} open order{'s' if count > 1 else ''} of {name}"
                session.screen.show_notice(f"The {whose} stay{'' if count > 1 else 's'} open: cancel or fulfil them.")
        return deleted

    return delete


STEPS = (
    Step("delete", "Delete customers; they can be undeleted. Their orders stay.", _delete),
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
AlwaysYes = Annotated[bool, typer.Option("--yes", help="Apply the change (default: dry run).")]
TAX_ID = typer.Option("--tax-id", help="Tax number, such as a VAT id.")
TaxExempt = Annotated[str, typer.Option("--tax-exempt", metavar="REASON", help="Why the orders pay no tax.")]
TaxCertificate = Annotated[str, typer.Option("--tax-certificate", help="Number of the certificate of the exemption.")]
TaxExemptUntil = Annotated[
    str, typer.Option("--tax-exempt-until", metavar="TIME", help="When the exemption ends (default: never).")
]
LANGUAGE = typer.Option("--language", metavar="TAG", help="Language that the customer reads, such as de or pt-BR.")


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
    export = "storekeep customers export ernst --file ernst.json --page ernst.html --yes"
    command(group, "export", example=export, writes=True)(export_customer)
    erase = "storekeep customers erase ernst --yes"
    command(group, "erase", example=erase, writes=True)(erase_customers)
    merge = "storekeep customers merge ernst --source ernst-handel --yes"
    command(group, "merge", example=merge, writes=True)(merge_customers)
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
    tax_exempt: TaxExempt = "",
    tax_certificate: TaxCertificate = "",
    tax_exempt_until: TaxExemptUntil = "",
    language: Annotated[str, LANGUAGE] = "",
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
        tax_exemption=_build_exemption(tax_exempt, tax_certificate, tax_exempt_until),
        language_code=language,
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
    tax_exempt: TaxExempt = "",
    tax_certificate: TaxCertificate = "",
    tax_exempt_until: TaxExemptUntil = "",
    language: Annotated[str | None, LANGUAGE] = None,
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
        language_code=language,
        groups=[one for one in group if one] if group else None,
        tax_exemption=_build_exemption(tax_exempt, tax_certificate, tax_exempt_until),
        labels=parse_labels(label) if label else None,
        addresses=addresses,
    )
    session.screen.show_message(session.client.customers.update(changes, update_mask=mask, **session.write_options))


def erase_customers(
    session: Session,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Ids or full names.")],
    force: Annotated[bool, typer.Option("--force", help="Erase even with open orders, which lose addresses.")] = False,
    etag: Etag = "",
    yes: AlwaysYes = False,
) -> None:
    """Erase the personal data of customers for good, also in orders, the audit log and backups.

    Without --yes, nothing is erased. Orders keep their lines, totals and taxes.
    """
    if etag and len(names) > 1:
        raise typer.BadParameter("--etag requires a single name, because an etag belongs to one resource")
    session.default_to_dry_run(action="erase", yes=yes, many=True)
    erased: list[Message] = []
    try:
        for name in names:
            customer = to_customer_name(name)
            erased.append(session.client.customers.erase(customer, etag=etag, force=force, **session.write_options))
    finally:
        if erased:
            session.screen.show_messages(erased, columns=("name", "erase_time"))


def merge_customers(
    session: Session,
    name: Annotated[str, typer.Argument(help="Id or full name of the customer that remains.")],
    source: Annotated[str, typer.Option("--source", help="The customer to merge into it, which is deleted.")],
    etag: Etag = "",
    yes: AlwaysYes = False,
) -> None:
    """Move the orders of a customer to another one that is the same person, and delete it.

    Without --yes, nothing changes. A merge cannot be undone.
    """
    session.default_to_dry_run(action="merge", yes=yes, many=True)
    merged = session.client.customers.merge(
        to_customer_name(name), source=to_customer_name(source), etag=etag, **session.write_options
    )
    session.screen.show_message(merged)


def _build_exemption(reason: str, certificate: str, until: str) -> CustomerTaxExemption | None:
    """Return the exemption of a customer; None without a reason.

    Raises: typer.BadParameter.
    """
    if not reason:
        if certificate or until:
            raise typer.BadParameter("--tax-certificate and --tax-exempt-until need --tax-exempt, the reason")
        return None
    return CustomerTaxExemption(reason=reason, certificate=certificate, end_time=parse_bound(until))


def export_customer(
    session: Session,
    name: Annotated[str, typer.Argument(help="Id or full name.")],
    file: Annotated[Path, typer.Option("--file", help="JSON file to write, which only you can read.")],
    page: Annotated[Path | None, typer.Option("--page", help="Also write a page for people, in HTML.")] = None,
    yes: AlwaysYes = False,
) -> None:
    """Write everything that is stored about a customer to a file. The audit log records the export.

    The file has the customer, its orders with notes, deliveries and reservations, its quotes, and all changes of these.
    Without --yes, no file is written, and nothing is recorded.
    """
    customer = to_customer_name(name)
    session.default_to_dry_run(action="export", yes=yes)
    export = session.client.customers.export(customer, **session.write_options)
    if session.dry_run:
        session.screen.show_facts([("customer", customer), *(("file", str(one)) for one in (file, page) if one)])
        return
    records = session.client.customers.read_data(customer, export_token=export.export_token, page_size=1000)
    document = build_customer_document(export, records)
    with create_file(file, mode=PRIVATE_MODE) as output:
        output.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
    if page is not None:
        with create_file(page, mode=PRIVATE_MODE) as output:
            output.write(build_customer_page(document))
    session.screen.show_facts((kind, str(len(found))) for kind, found in document["data"].items())
