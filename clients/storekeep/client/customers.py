"""Customers and their addresses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Unpack

import grpc

from storekeep.client.batches import BatchResults, get_mode, read_results
from storekeep.client.calls import Calls, GetOptions, WriteOptions
from storekeep.client.masks import build_field_mask
from storekeep.client.pages import DeletableQuery, Listing, build_query
from storekeep.v1.customers_pb2 import (
    BatchCreateCustomersRequest,
    BatchGetCustomersRequest,
    BatchUpdateCustomersRequest,
    CreateCustomerRequest,
    Customer,
    CustomerExport,
    CustomerRecord,
    DeleteCustomerRequest,
    EraseCustomerRequest,
    ExportCustomerDataRequest,
    GetCustomerRequest,
    ListCustomersRequest,
    MergeCustomersRequest,
    ReadCustomerDataRequest,
    SearchCustomersRequest,
    UndeleteCustomerRequest,
    UpdateCustomerRequest,
)
from storekeep.v1.customers_pb2_grpc import CustomerServiceStub


class Customers:
    """Reads, searches and changes customers."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = CustomerServiceStub(channel)

    def get(self, name: str, **options: Unpack[GetOptions]) -> Customer:
        """Get one customer, deleted or not.

        Raises: CustomerNotFound.
        """
        return self._calls.get(self._stub.GetCustomer, GetCustomerRequest(name=name), **options)

    def list(
        self, *, timeout_s: float | None = None, max_staleness_s: float | None = None, **query: Unpack[DeletableQuery]
    ) -> Listing[Customer]:
        """List customers; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListCustomersRequest(**build_query(query))
        return self._calls.list_pages(
            self._stub.ListCustomers,
            request,
            items=lambda page: page.customers,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def batch_get(self, names: Iterable[str], **options: Unpack[GetOptions]) -> Sequence[Customer]:
        """Get up to 1000 customers from one snapshot, in the order of `names`; fail if one is missing.

        Raises: CustomerNotFound.
        """
        request = BatchGetCustomersRequest(names=names)
        return self._calls.get(self._stub.BatchGetCustomers, request, **options).customers

    def create(self, customer: Customer, *, customer_id: str = "", **options: Unpack[WriteOptions]) -> Customer:
        """Create a customer. Output-only fields are ignored.

        `customer_id` becomes the last segment of its name; the server generates one if it is empty.

        Raises: AlreadyExists.
        """
        request = CreateCustomerRequest(customer=customer, customer_id=customer_id)
        return self._calls.write(self._stub.CreateCustomer, request, **options)

    def update(
        self, customer: Customer, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]
    ) -> Customer:
        """Update a customer: the fields in `update_mask`, or all fields set in the message if it is empty.

        If the message has an `etag`, the update succeeds only if it is still the current one.

        Raises: InvalidUpdateMask, CustomerNotFound, ResourceDeleted, EtagMismatch.
        """
        request = UpdateCustomerRequest(customer=customer, update_mask=build_field_mask(update_mask))
        return self._calls.write(self._stub.UpdateCustomer, request, **options)

    def batch_create(
        self,
        items: Iterable[CreateCustomerRequest],
        *,
        per_item: bool = False,
        **options: Unpack[WriteOptions],
    ) -> BatchResults[Customer]:
        """Create up to 1000 customers: all or none, or with `per_item` each by itself.

        The items must have no `request_id` or `validate_only`: those of the batch apply to all.

        Raises: unless `per_item`, the error of the first item that fails: AlreadyExists.
        """
        request = BatchCreateCustomersRequest(requests=items, mode=get_mode(per_item=per_item))
        reply = self._calls.write(self._stub.BatchCreateCustomers, request, **options)
        return read_results(reply.results, resource=lambda result: result.customer)

    def batch_update(
        self,
        items: Iterable[UpdateCustomerRequest],
        *,
        per_item: bool = False,
        **options: Unpack[WriteOptions],
    ) -> BatchResults[Customer]:
        """Update up to 1000 customers: all or none, or with `per_item` each by itself.

        The items must have no `request_id` or `validate_only`: those of the batch apply to all.

        Raises: unless `per_item`, the error of the first item that fails: InvalidUpdateMask, CustomerNotFound,
        ResourceDeleted, EtagMismatch.
        """
        request = BatchUpdateCustomersRequest(requests=items, mode=get_mode(per_item=per_item))
        reply = self._calls.write(self._stub.BatchUpdateCustomers, request, **options)
        return read_results(reply.results, resource=lambda result: result.customer)

    def delete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Customer:
        """Soft-delete a customer: lists omit it, and it can be undeleted.

        Raises: CustomerNotFound, EtagMismatch.
        """
        return self._calls.write(self._stub.DeleteCustomer, DeleteCustomerRequest(name=name, etag=etag), **options)

    def undelete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> Customer:
        """Restore a deleted customer.

        Raises: CustomerNotFound, ResourceNotDeleted, EtagMismatch, IllegalState if it was erased or merged.
        """
        return self._calls.write(self._stub.UndeleteCustomer, UndeleteCustomerRequest(name=name, etag=etag), **options)

    def erase(self, name: str, *, etag: str = "", force: bool = False, **options: Unpack[WriteOptions]) -> Customer:
        """Erase the personal data of a customer for good, also in its orders, the audit log and backups.

        Args:
            force: erase although the customer has open orders.

        Raises: CustomerNotFound, IllegalState, EtagMismatch, ResourceInUse.
        """
        request = EraseCustomerRequest(name=name, etag=etag, force=force)
        return self._calls.write(self._stub.EraseCustomer, request, **options)

    def merge(self, name: str, *, source: str, etag: str = "", **options: Unpack[WriteOptions]) -> Customer:
        """Move the orders of `source` to the customer `name`, delete `source`, and return the customer that remains.

        Raises: CustomerNotFound, ResourceDeleted, EtagMismatch.
        """
        request = MergeCustomersRequest(name=name, source=source, etag=etag)
        return self._calls.write(self._stub.MergeCustomers, request, **options)

    def search(
        self,
        query: str,
        *,
        page_size: int = 0,
        show_deleted: bool = False,
        read_mask: Iterable[str] = (),
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
    ) -> Listing[Customer]:
        """Search customers by words in their names, ids, email addresses, phone numbers and addresses.

        A customer matches if it contains all words of `query`; the last may be a prefix. Best matches come first.
        `page_size` is at most 100; 20 when 0.

        Raises: InvalidPageToken.
        """
        request = SearchCustomersRequest(
            query=query, page_size=page_size, show_deleted=show_deleted, read_mask=build_field_mask(read_mask)
        )
        return self._calls.list_pages(
            self._stub.SearchCustomers,
            request,
            items=lambda page: page.customers,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def export(self, name: str, **options: Unpack[WriteOptions]) -> CustomerExport:
        """Start an export of everything that is stored about a customer. The audit log records it.

        Raises: CustomerNotFound.
        """
        return self._calls.write(self._stub.ExportCustomerData, ExportCustomerDataRequest(name=name), **options)

    def read_data(
        self,
        name: str,
        *,
        export_token: str,
        page_size: int = 0,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
    ) -> Listing[CustomerRecord]:
        """Read the data of an export; pages are fetched as you iterate.

        First comes the customer, then its orders, their notes, fulfilments and reservations, then the audit entries.

        Args:
            export_token: that of an export that is at most 24 hours old.

        Raises: InvalidPageToken, AuditEntryUnreadable.
        """
        request = ReadCustomerDataRequest(name=name, export_token=export_token, page_size=page_size)
        return self._calls.list_pages(
            self._stub.ReadCustomerData,
            request,
            items=lambda page: page.records,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )
