"""CustomerService: customers with their addresses."""

from __future__ import annotations

import grpc

from storekeep.server.domain import customers
from storekeep.server.domain.access_errors import PermissionDenied
from storekeep.server.domain.calls import READ_PERSONAL_DATA
from storekeep.server.domain.customers import CUSTOMERS, Customer, LabelledAddress
from storekeep.server.domain.exemptions import Exemption
from storekeep.server.domain.mutations import mutate
from storekeep.server.domain.personal_data import erasures, exports
from storekeep.server.domain.standard.batches import Effect
from storekeep.server.domain.standard.collections import Addition, Edit
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.standard.resources import new_id
from storekeep.server.servicers.batches import build_results, change_batch
from storekeep.server.servicers.calls import (
    build_call,
    build_list_request,
    build_page_fields,
    build_search_request,
    has_permission,
)
from storekeep.server.servicers.converters import (
    build_timestamp,
    parse_address,
    parse_id,
    parse_key,
    parse_time_us,
    parse_update_mask,
)
from storekeep.server.servicers.customer_messages import build_customer, build_customer_record
from storekeep.server.servicers.translations import parse_language
from storekeep.server.store.engine import Store
from storekeep.server.transport.rpc import CURRENT
from storekeep.v1 import customers_pb2 as pb
from storekeep.v1 import customers_pb2_grpc

CUSTOMER_FIELDS = {
    **{name: name for name in ("display_name", "email", "phone", "addresses", "labels", "groups", "company", "tax_id")},
    "language_code": "language_code",
    "tax_exemption": "exemption",
}


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
        exemption=_parse_exemption(message.tax_exemption) if message.HasField("tax_exemption") else None,
        language_code=parse_language(message.language_code),
    )


def _parse_exemption(message: pb.CustomerTaxExemption) -> Exemption:
    return Exemption(
        message.reason,
        message.certificate,
        until_time_us=parse_time_us(message.end_time) if message.HasField("end_time") else None,
        from_time_us=parse_time_us(message.start_time) if message.HasField("start_time") else None,
    )


def parse_customer_creation(request: pb.CreateCustomerRequest) -> Effect[Customer]:
    """Parse the creation of a customer. Return the effect that creates it."""
    customer = parse_customer(request.customer, request.customer_id or new_id())
    return Addition(CUSTOMERS, customer)


def parse_customer_update(request: pb.UpdateCustomerRequest) -> Effect[Customer]:
    """Parse the update of a customer. Return the effect that updates it.

    Raises: InvalidUpdateMask.
    """
    fields = parse_update_mask(request.update_mask, request.customer, CUSTOMER_FIELDS)
    customer = parse_customer(request.customer, parse_id(request.customer.name))
    return Edit(CUSTOMERS, customer, fields, request.customer.etag)


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
        result = customers.undelete_customer(
            self._store, build_call(request), parse_id(request.name), etag=request.etag
        )
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
            prepare=customers.prepare_customers,
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
            prepare=customers.prepare_customers,
        )
        messages = build_results(results, pb.CustomerResult, field="customer", build=build_customer)
        return pb.BatchUpdateCustomersResponse(results=messages)

    def EraseCustomer(self, request: pb.EraseCustomerRequest, context: grpc.ServicerContext) -> pb.Customer:
        result = erasures.erase_customer(
            self._store, build_call(request), parse_id(request.name), etag=request.etag, force=request.force
        )
        return build_customer(result)

    def MergeCustomers(self, request: pb.MergeCustomersRequest, context: grpc.ServicerContext) -> pb.Customer:
        result = erasures.merge_customers(
            self._store, build_call(request), parse_id(request.name), parse_id(request.source), etag=request.etag
        )
        return build_customer(result)

    def ExportCustomerData(
        self, request: pb.ExportCustomerDataRequest, context: grpc.ServicerContext
    ) -> pb.CustomerExport:
        call = build_call(request)
        export = exports.export_customer(self._store, call, parse_id(request.name))
        token = exports.write_export_token(export, subject=call.caller.subject, tokens=self._tokens)
        return pb.CustomerExport(
            customer=f"customers/{export.customer_id}",
            create_time=build_timestamp(export.create_time_us),
            export_token="" if request.validate_only else token,
        )

    def ReadCustomerData(
        self, request: pb.ReadCustomerDataRequest, context: grpc.ServicerContext
    ) -> pb.ReadCustomerDataResponse:
        page = exports.read_customer_data(
            self._store,
            parse_id(request.name),
            subject=CURRENT.get().caller.subject,
            export_token=request.export_token,
            page_size=request.page_size,
            page_token=request.page_token,
            tokens=self._tokens,
        )
        records = [build_customer_record(record) for record in page.items]
        return pb.ReadCustomerDataResponse(records=records, next_page_token=page.next_page_token)

    def SearchCustomers(
        self, request: pb.SearchCustomersRequest, context: grpc.ServicerContext
    ) -> pb.SearchCustomersResponse:
        if not has_permission(READ_PERSONAL_DATA):
            raise PermissionDenied(READ_PERSONAL_DATA)
        search = build_search_request(request, show_all=request.show_deleted)
        page = customers.search_customers(self._store, search, tokens=self._tokens)
        return pb.SearchCustomersResponse(
            customers=[build_customer(item) for item in page.items], next_page_token=page.next_page_token
        )
