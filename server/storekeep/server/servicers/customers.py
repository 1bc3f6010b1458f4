"""CustomerService: customers with their addresses."""

from __future__ import annotations

import grpc

from storekeep.server.domain import customers
from storekeep.server.domain.customers import CUSTOMERS, Customer, LabelledAddress
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.standard.resources import etag_of, new_id
from storekeep.server.servicers.calls import call_of, list_request_of
from storekeep.server.servicers.converters import (
    address_from,
    address_message,
    fill_labels,
    id_of,
    key_of,
    masked_fields,
    optional_timestamp,
    timestamp_of,
)
from storekeep.server.store.engine import Store
from storekeep.v1 import customers_pb2 as pb
from storekeep.v1 import customers_pb2_grpc

CUSTOMER_FIELDS = {name: name for name in ("display_name", "email", "phone", "addresses", "labels")}


def customer_message(customer: Customer) -> pb.Customer:
    """A customer as the contract writes it."""
    message = pb.Customer(
        name=customer.name,
        display_name=customer.display_name,
        email=customer.email,
        phone=customer.phone,
        addresses=[
            pb.CustomerAddress(label=labelled.label, address=address_message(labelled.address))
            for labelled in customer.addresses
        ],
        create_time=timestamp_of(customer.create_time_us),
        update_time=timestamp_of(customer.update_time_us),
        delete_time=optional_timestamp(customer.delete_time_us),
        etag=etag_of(customer.version),
    )
    fill_labels(message.labels, customer.labels)
    return message


def customer_from(message: pb.Customer, customer_id: str) -> Customer:
    """What a request says of a customer."""
    return Customer(
        customer_id,
        display_name=message.display_name,
        email=message.email,
        phone=message.phone,
        addresses=tuple(LabelledAddress(a.label, address_from(a.address)) for a in message.addresses),
        labels=dict(message.labels),
    )


class CustomerServicer(customers_pb2_grpc.CustomerServiceServicer):
    """The RPCs of CustomerService; what each does stands in the contract."""

    def __init__(self, store: Store, tokens: PageTokens) -> None:
        self._store = store
        self._tokens = tokens

    def GetCustomer(self, request: pb.GetCustomerRequest, context: grpc.ServicerContext) -> pb.Customer:
        return customer_message(CUSTOMERS.get(self._store, key_of(request.name)))

    def ListCustomers(
        self, request: pb.ListCustomersRequest, context: grpc.ServicerContext
    ) -> pb.ListCustomersResponse:
        page = CUSTOMERS.page(self._store, list_request_of(request), listing=customers.LISTING, tokens=self._tokens)
        return pb.ListCustomersResponse(
            customers=[customer_message(item) for item in page.items], next_page_token=page.next_page_token
        )

    def BatchGetCustomers(
        self, request: pb.BatchGetCustomersRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetCustomersResponse:
        found = CUSTOMERS.batch_get(self._store, [key_of(name) for name in request.names])
        return pb.BatchGetCustomersResponse(customers=[customer_message(item) for item in found])

    def CreateCustomer(self, request: pb.CreateCustomerRequest, context: grpc.ServicerContext) -> pb.Customer:
        draft = customer_from(request.customer, request.customer_id or new_id())
        return customer_message(CUSTOMERS.create(self._store, call_of(request), draft))

    def UpdateCustomer(self, request: pb.UpdateCustomerRequest, context: grpc.ServicerContext) -> pb.Customer:
        fields = masked_fields(request.update_mask, request.customer, CUSTOMER_FIELDS)
        draft = customer_from(request.customer, id_of(request.customer.name))
        changed = CUSTOMERS.update(self._store, call_of(request), draft, fields=fields, etag=request.customer.etag)
        return customer_message(changed)

    def DeleteCustomer(self, request: pb.DeleteCustomerRequest, context: grpc.ServicerContext) -> pb.Customer:
        changed = CUSTOMERS.delete(self._store, call_of(request), key_of(request.name), etag=request.etag)
        return customer_message(changed)

    def UndeleteCustomer(self, request: pb.UndeleteCustomerRequest, context: grpc.ServicerContext) -> pb.Customer:
        changed = CUSTOMERS.undelete(self._store, call_of(request), key_of(request.name), etag=request.etag)
        return customer_message(changed)
