"""Messages about customers: the customer itself, and the records of an export of its data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from storekeep.server.domain.audit.log import AuditEntry
from storekeep.server.domain.customers import Customer
from storekeep.server.domain.exemptions import Exemption
from storekeep.server.domain.orders.fulfillments import Fulfillment
from storekeep.server.domain.orders.notes import OrderNote
from storekeep.server.domain.orders.orders import Order
from storekeep.server.domain.orders.quotes import Quote
from storekeep.server.domain.standard.resources import make_etag
from storekeep.server.domain.stock.reservations import Reservation
from storekeep.server.servicers.audit import build_audit_entry
from storekeep.server.servicers.converters import build_address, build_optional_timestamp, build_timestamp, fill_labels
from storekeep.server.servicers.inventory import build_reservation
from storekeep.server.servicers.order_messages import build_fulfillment, build_note, build_order
from storekeep.server.servicers.quote_messages import build_quote
from storekeep.v1 import customers_pb2 as pb


def build_customer(customer: Customer) -> pb.Customer:
    """Build the message of a customer."""
    message = pb.Customer(
        name=customer.name,
        display_name=customer.display_name,
        email=customer.email,
        phone=customer.phone,
        addresses=[
            pb.CustomerAddress(label=labelled.label, address=build_address(labelled.address))
            for labelled in customer.addresses
        ],
        create_time=build_timestamp(customer.create_time_us),
        update_time=build_timestamp(customer.update_time_us),
        delete_time=build_optional_timestamp(customer.delete_time_us),
        etag=make_etag(customer.version),
        groups=customer.groups,
        company=customer.company,
        tax_id=customer.tax_id,
        erase_time=build_optional_timestamp(customer.erase_time_us),
        merged_into=customer.merged_into,
        tax_exemption=None if customer.exemption is None else _build_exemption(customer.exemption),
        language_code=customer.language_code,
    )
    fill_labels(message.labels, customer.labels)
    return message


def _build_exemption(exemption: Exemption) -> pb.CustomerTaxExemption:
    return pb.CustomerTaxExemption(
        reason=exemption.reason,
        certificate=exemption.certificate,
        start_time=build_optional_timestamp(exemption.from_time_us),
        end_time=build_optional_timestamp(exemption.until_time_us),
    )


RECORDS: dict[type[msgspec.Struct], tuple[str, Callable[[Any], Any]]] = {
    Customer: ("customer", build_customer),
    Order: ("order", build_order),
    OrderNote: ("order_note", build_note),
    Fulfillment: ("fulfillment", build_fulfillment),
    Reservation: ("reservation", build_reservation),
    Quote: ("quote", build_quote),
    AuditEntry: ("audit_entry", build_audit_entry),
}
"""The type of a record -> its field in `CustomerRecord`, and the function that builds its message."""


def build_customer_record(record: msgspec.Struct) -> pb.CustomerRecord:
    """Build the message of a record of an export.

    Raises: AuditEntryUnreadable if a stored entry is not what the server writes.
    """
    field, build = RECORDS[type(record)]
    return pb.CustomerRecord(**{field: build(record)})
