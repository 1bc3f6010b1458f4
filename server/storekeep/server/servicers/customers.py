"""CustomerService: customers with their addresses."""

from __future__ import annotations

import grpc

from storekeep.server.domain import customers
from storekeep.server.domain.customers import CUSTOMERS, Customer, LabelledAddress
from storekeep.server.domain.mutations import mutate
from storekeep.server.domain.standard.batches import Effect
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.standard.resources import make_etag, new_id
from storekeep.server.servicers.batches import build_results, change_batch
from storekeep.server.servicers.calls import build_call, build_list_request, build_page_fields, build_search_request
from storekeep.server.servicers.converters import (
    build_address,
    build_optional_timestamp,
    build_timestamp,
    fill_labels,
    parse_address,
    parse_id,
    parse_key,
    parse_update_mask,
)
from storekeep.server.store.engine import Store
from storekeep.v1 import customers_pb2 as pb
from storekeep.v1 import customers_pb2_grpc

CUSTOMER_FIELDS = {
    name: name for name in ("display_name", "email", "phone", "addresses", "labels", "groups", "company", "tax_id")
}


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
    )
    fill_labels(message.labels, customer.labels)
    return message


def parse_customer(message: pb.Customer, customer_id: str) -> Customer:
    """Parse a customer from a request."""
    return Customer(
        customer_id,
        display_name=message.display_name,
        email=message.email,
        phone=message.phone,
        addresses=tuple(LabelledAddress(a.label, parse_address(a.address)) for a in message.addresses),
        labels=dict(message.labels),
        groups=tuple(sorted(message.groups)),
        company=message.company,
        tax_id=message.tax_id,
    )


def parse_customer_creation(request: pb.CreateCustomerRequest) -> Effect[Customer]:
    """Parse the creation of a customer. Return the effect that creates it."""
    customer = parse_customer(request.customer, request.customer_id or new_id())
    return lambda mutation: CUSTOMERS.add(mutation, customer)


def parse_customer_update(request: pb.UpdateCustomerRequest) -> Effect[Customer]:
    """Parse the update of a customer. Return the effect that updates it.

    Raises: InvalidUpdateMask.
    """
    fields = parse_update_mask(request.update_mask, request.customer, CUSTOMER_FIELDS)
    customer = parse_customer(request.customer, parse_id(request.customer.name))
    return lambda mutation: CUSTOMERS.edit(mutation, customer, fields=fields, etag=request.customer.etag)


class CustomerServicer(customers_pb2_grpc.CustomerServiceServicer):
    """The RPCs of CustomerService; the contract documents each one."""

    def __init__(self, store: Store, tokens: PageTokens) -> None:
        self._store = store
        self._tokens = tokens

    def GetCustomer(self, request: pb.GetCustomerRequest, context: grpc.ServicerContext) -> pb.Customer:
        return build_customer(CUSTOMERS.get(self._store, parse_key(request.name)))

    def ListCustomers(
        self, request: pb.ListCustomersRequest, context: grpc.ServicerContext
    ) -> pb.ListCustomersResponse:
        page = CUSTOMERS.page(self._store, build_list_request(request), listing=customers.LISTING, tokens=self._tokens)
        return pb.ListCustomersResponse(
            customers=[build_customer(item) for item in page.items], **build_page_fields(page)
        )

    def BatchGetCustomers(
        self, request: pb.BatchGetCustomersRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetCustomersResponse:
        items = CUSTOMERS.batch_get(self._store, [parse_key(name) for name in request.names])
        return pb.BatchGetCustomersResponse(customers=[build_customer(item) for item in items])

    def CreateCustomer(self, request: pb.CreateCustomerRequest, context: grpc.ServicerContext) -> pb.Customer:
        return build_customer(mutate(self._store, build_call(request), parse_customer_creation(request), Customer))

    def UpdateCustomer(self, request: pb.UpdateCustomerRequest, context: grpc.ServicerContext) -> pb.Customer:
        return build_customer(mutate(self._store, build_call(request), parse_customer_update(request), Customer))

    def DeleteCustomer(self, request: pb.DeleteCustomerRequest, context: grpc.ServicerContext) -> pb.Customer:
        result = CUSTOMERS.delete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_customer(result)

    def UndeleteCustomer(self, request: pb.UndeleteCustomerRequest, context: grpc.ServicerContext) -> pb.Customer:
        result = CUSTOMERS.undelete(self._store, build_call(request), parse_key(request.name), etag=request.etag)
        return build_customer(result)

    def BatchCreateCustomers(
        self, request: pb.BatchCreateCustomersRequest, context: grpc.ServicerContext
    ) -> pb.BatchCreateCustomersResponse:
        results = change_batch(
            self._store,
            request,
            parse_customer_creation,
            get_keys=lambda item: [("customer_id", item.customer_id)],
            resource=Customer,
        )
        messages = build_results(results, pb.CustomerResult, field="customer", build=build_customer)
        return pb.BatchCreateCustomersResponse(results=messages)

    def BatchUpdateCustomers(
        self, request: pb.BatchUpdateCustomersRequest, context: grpc.ServicerContext
    ) -> pb.BatchUpdateCustomersResponse:
        results = change_batch(
            self._store,
            request,
            parse_customer_update,
            get_keys=lambda item: [("customer.name", item.customer.name)],
            resource=Customer,
        )
        messages = build_results(results, pb.CustomerResult, field="customer", build=build_customer)
        return pb.BatchUpdateCustomersResponse(results=messages)

    def SearchCustomers(
        self, request: pb.SearchCustomersRequest, context: grpc.ServicerContext
    ) -> pb.SearchCustomersResponse:
        search = build_search_request(request, show_all=request.show_deleted)
        page = customers.search_customers(self._store, search, tokens=self._tokens)
        return pb.SearchCustomersResponse(
            customers=[build_customer(item) for item in page.items], next_page_token=page.next_page_token
        )
