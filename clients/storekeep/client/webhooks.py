"""Webhook endpoints and deliveries."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Unpack

import grpc

from storekeep.client.calls import Calls, GetOptions, WriteOptions
from storekeep.client.masks import build_field_mask
from storekeep.client.pages import DeletableQuery, Listing, Query, build_query
from storekeep.v1.webhooks_pb2 import (
    CreateWebhookEndpointRequest,
    CreateWebhookEndpointResponse,
    DeleteWebhookEndpointRequest,
    GetWebhookDeliveryRequest,
    GetWebhookEndpointRequest,
    ListWebhookDeliveriesRequest,
    ListWebhookEndpointsRequest,
    PauseWebhookEndpointRequest,
    RedeliverEventsRequest,
    RedeliverEventsResponse,
    ResumeWebhookEndpointRequest,
    RotateWebhookSecretRequest,
    RotateWebhookSecretResponse,
    TestWebhookEndpointRequest,
    UndeleteWebhookEndpointRequest,
    UpdateWebhookEndpointRequest,
    WebhookDelivery,
    WebhookEndpoint,
)
from storekeep.v1.webhooks_pb2_grpc import WebhookServiceStub


class Webhooks:
    """Reads and changes webhook endpoints, and reads deliveries."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = WebhookServiceStub(channel)

    def get(self, name: str, **options: Unpack[GetOptions]) -> WebhookEndpoint:
        """Get one endpoint, deleted or not.

        Raises: WebhookEndpointNotFound.
        """
        return self._calls.get(self._stub.GetWebhookEndpoint, GetWebhookEndpointRequest(name=name), **options)

    def list(
        self, *, timeout_s: float | None = None, max_staleness_s: float | None = None, **query: Unpack[DeletableQuery]
    ) -> Listing[WebhookEndpoint]:
        """List endpoints; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        return self._calls.list_pages(
            self._stub.ListWebhookEndpoints,
            ListWebhookEndpointsRequest(**build_query(query)),
            items=lambda page: page.webhook_endpoints,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def create(
        self, webhook_endpoint: WebhookEndpoint, *, webhook_endpoint_id: str = "", **options: Unpack[WriteOptions]
    ) -> CreateWebhookEndpointResponse:
        """Create an endpoint. Only this response contains its signing secret. Output-only fields are ignored.

        `webhook_endpoint_id` becomes the last segment of its name; the server generates one if it is empty.

        Raises: PrivilegeEscalation, AlreadyExists, ReplyExpired.
        """
        request = CreateWebhookEndpointRequest(
            webhook_endpoint=webhook_endpoint, webhook_endpoint_id=webhook_endpoint_id
        )
        return self._calls.write(self._stub.CreateWebhookEndpoint, request, **options)

    def update(
        self, webhook_endpoint: WebhookEndpoint, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]
    ) -> WebhookEndpoint:
        """Update an endpoint: the fields in `update_mask`, or all fields set in the message if it is empty.

        If the message has an `etag`, the update succeeds only if it is still the current one.

        Raises: InvalidUpdateMask, WebhookEndpointNotFound, PrivilegeEscalation, ResourceDeleted, EtagMismatch.
        """
        request = UpdateWebhookEndpointRequest(
            webhook_endpoint=webhook_endpoint, update_mask=build_field_mask(update_mask)
        )
        return self._calls.write(self._stub.UpdateWebhookEndpoint, request, **options)

    def delete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> WebhookEndpoint:
        """Soft-delete an endpoint: nothing is sent to it, and it can be undeleted.

        Raises: WebhookEndpointNotFound, PrivilegeEscalation, EtagMismatch.
        """
        request = DeleteWebhookEndpointRequest(name=name, etag=etag)
        return self._calls.write(self._stub.DeleteWebhookEndpoint, request, **options)

    def undelete(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> WebhookEndpoint:
        """Restore a deleted endpoint, which continues with the first event that it has not got.

        Raises: WebhookEndpointNotFound, PrivilegeEscalation, ResourceNotDeleted, EtagMismatch.
        """
        request = UndeleteWebhookEndpointRequest(name=name, etag=etag)
        return self._calls.write(self._stub.UndeleteWebhookEndpoint, request, **options)

    def pause(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> WebhookEndpoint:
        """Pause an endpoint: events wait until it is resumed.

        Raises: WebhookEndpointNotFound, PrivilegeEscalation, ResourceDeleted, EtagMismatch, IllegalState.
        """
        request = PauseWebhookEndpointRequest(name=name, etag=etag)
        return self._calls.write(self._stub.PauseWebhookEndpoint, request, **options)

    def resume(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> WebhookEndpoint:
        """Resume a paused or disabled endpoint. It gets all events that waited.

        Raises: WebhookEndpointNotFound, PrivilegeEscalation, ResourceDeleted, EtagMismatch, IllegalState.
        """
        request = ResumeWebhookEndpointRequest(name=name, etag=etag)
        return self._calls.write(self._stub.ResumeWebhookEndpoint, request, **options)

    def rotate_secret(
        self, name: str, *, overlap: timedelta | None = None, etag: str = "", **options: Unpack[WriteOptions]
    ) -> RotateWebhookSecretResponse:
        """Create a new signing secret. Only this response contains it.

        Messages carry a signature of the old secret too for `overlap`, 0 to 30 days (default: 24 hours).

        Raises: WebhookEndpointNotFound, PrivilegeEscalation, ResourceDeleted, EtagMismatch, ReplyExpired.
        """
        request = RotateWebhookSecretRequest(name=name, etag=etag)
        if overlap is not None:
            request.overlap.FromTimedelta(overlap)
        return self._calls.write(self._stub.RotateWebhookSecret, request, **options)

    def test(self, name: str, **options: Unpack[WriteOptions]) -> WebhookDelivery:
        """Send a test event. Get the returned delivery again to see its outcome.

        Raises: WebhookEndpointNotFound, PrivilegeEscalation, ResourceDeleted.
        """
        return self._calls.write(self._stub.TestWebhookEndpoint, TestWebhookEndpointRequest(name=name), **options)

    def get_delivery(self, name: str, **options: Unpack[GetOptions]) -> WebhookDelivery:
        """Get one delivery.

        Raises: WebhookDeliveryNotFound.
        """
        return self._calls.get(self._stub.GetWebhookDelivery, GetWebhookDeliveryRequest(name=name), **options)

    def list_deliveries(
        self,
        parent: str = "webhookEndpoints/-",
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        **query: Unpack[Query],
    ) -> Listing[WebhookDelivery]:
        """List the deliveries of an endpoint, or of all; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        return self._calls.list_pages(
            self._stub.ListWebhookDeliveries,
            ListWebhookDeliveriesRequest(parent=parent, **build_query(query)),
            items=lambda page: page.webhook_deliveries,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def redeliver(
        self,
        name: str,
        *,
        start: datetime,
        end: datetime | None = None,
        event_types: Iterable[str] = (),
        failed_only: bool = False,
        after_event: int = 0,
        max_events: int = 0,
        **options: Unpack[WriteOptions],
    ) -> RedeliverEventsResponse:
        """Send the events from `start` until before `end` (default: now) again, oldest first.

        It sends at most `max_events`; 1000 when 0. If the response has more, call again with its `last_event` as
        `after_event`.

        Raises: WebhookEndpointNotFound, PrivilegeEscalation, ResourceDeleted.
        """
        request = RedeliverEventsRequest(
            name=name,
            event_types=event_types,
            failed_only=failed_only,
            after_event=after_event,
            max_events=max_events,
        )
        request.start_time.FromDatetime(start)
        if end is not None:
            request.end_time.FromDatetime(end)
        return self._calls.write(self._stub.RedeliverEvents, request, **options)
