"""WebhookService: endpoints and deliveries."""

from __future__ import annotations

import grpc

from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.standard.resources import MICROS, make_etag, new_id
from storekeep.server.domain.webhooks import deliveries, endpoints
from storekeep.server.domain.webhooks.deliveries import WebhookDelivery
from storekeep.server.domain.webhooks.endpoints import (
    ENDPOINTS,
    FULL,
    THIN,
    CheckUrl,
    EndpointSecrets,
    WebhookEndpoint,
)
from storekeep.server.domain.webhooks.redelivery import EVENTS_MAX, RedeliveryRequest, redeliver_events
from storekeep.server.servicers.calls import build_call, build_list_request, build_page_fields
from storekeep.server.servicers.converters import (
    build_optional_timestamp,
    build_timestamp,
    fill_labels,
    parse_id,
    parse_key,
    parse_time_us,
    parse_update_mask,
)
from storekeep.server.store.engine import Store
from storekeep.v1 import webhooks_pb2 as pb
from storekeep.v1 import webhooks_pb2_grpc

ENDPOINT_FIELDS = {
    name: name
    for name in ("display_name", "url", "event_types", "payload", "ordered", "labels", "exclude_personal_data")
}
OVERLAP_DEFAULT_US = 24 * 3600 * MICROS
"""How long a replaced secret signs too by default, as the contract states."""


def build_endpoint(endpoint: WebhookEndpoint) -> pb.WebhookEndpoint:
    """Build the message of an endpoint, without its secrets."""
    message = pb.WebhookEndpoint(
        name=endpoint.name,
        display_name=endpoint.display_name,
        url=endpoint.url,
        event_types=endpoint.event_types,
        payload=pb.WebhookPayload.Value(f"WEBHOOK_PAYLOAD_{endpoint.payload}"),
        ordered=endpoint.ordered,
        exclude_personal_data=endpoint.exclude_personal_data,
        state=pb.WebhookEndpointState.Value(f"WEBHOOK_ENDPOINT_STATE_{endpoint.state}"),
        state_reason=endpoint.state_reason,
        create_time=build_timestamp(endpoint.create_time_us),
        update_time=build_timestamp(endpoint.update_time_us),
        delete_time=build_optional_timestamp(endpoint.delete_time_us),
        etag=make_etag(endpoint.version),
        previous_secret_expire_time=build_optional_timestamp(endpoint.find_overlap_end_us(endpoint.update_time_us)),
    )
    fill_labels(message.labels, endpoint.labels)
    return message


def parse_endpoint(message: pb.WebhookEndpoint, endpoint_id: str) -> WebhookEndpoint:
    """Parse an endpoint from a request."""
    return WebhookEndpoint(
        endpoint_id,
        display_name=message.display_name,
        url=message.url,
        event_types=tuple(message.event_types),
        payload=FULL if message.payload == pb.WEBHOOK_PAYLOAD_FULL else THIN,
        ordered=message.ordered,
        labels=dict(message.labels),
        exclude_personal_data=message.exclude_personal_data,
    )


def build_delivery(delivery: WebhookDelivery) -> pb.WebhookDelivery:
    """Build the message of a delivery."""
    message = pb.WebhookDelivery(
        name=delivery.name,
        webhook_id=delivery.webhook_id,
        event_type=delivery.event_type,
        resource=delivery.resource,
        state=pb.WebhookDeliveryState.Value(f"WEBHOOK_DELIVERY_STATE_{delivery.state}"),
        attempts=delivery.attempts,
        last_status=delivery.last_status,
        last_problem=delivery.last_problem,
        last_reply=delivery.last_reply,
        last_attempt_time=build_optional_timestamp(delivery.last_attempt_time_us),
        next_attempt_time=build_optional_timestamp(delivery.next_attempt_time_us),
        create_time=build_timestamp(delivery.create_time_us),
    )
    message.last_duration.FromMicroseconds(delivery.last_duration_us)
    return message


class WebhookServicer(webhooks_pb2_grpc.WebhookServiceServicer):
    """The RPCs of WebhookService; the contract documents each one.

    Args:
        store: The database.
        page_tokens: Encodes the page tokens of lists.
        secrets: Creates the signing secrets.
        check_url: Returns why a URL is not allowed; empty if it is.
    """

    def __init__(self, store: Store, page_tokens: PageTokens, *, secrets: EndpointSecrets, check_url: CheckUrl) -> None:
        self._store = store
        self._page_tokens = page_tokens
        self._secrets = secrets
        self._check_url = check_url

    def GetWebhookEndpoint(
        self, request: pb.GetWebhookEndpointRequest, context: grpc.ServicerContext
    ) -> pb.WebhookEndpoint:
        return build_endpoint(ENDPOINTS.get(self._store, parse_key(request.name)))

    def ListWebhookEndpoints(
        self, request: pb.ListWebhookEndpointsRequest, context: grpc.ServicerContext
    ) -> pb.ListWebhookEndpointsResponse:
        page = ENDPOINTS.page(
            self._store, build_list_request(request), listing=endpoints.LISTING, tokens=self._page_tokens
        )
        return pb.ListWebhookEndpointsResponse(
            webhook_endpoints=[build_endpoint(item) for item in page.items], **build_page_fields(page)
        )

    def CreateWebhookEndpoint(
        self, request: pb.CreateWebhookEndpointRequest, context: grpc.ServicerContext
    ) -> pb.CreateWebhookEndpointResponse:
        new = parse_endpoint(request.webhook_endpoint, request.webhook_endpoint_id or new_id())
        issued = endpoints.create_endpoint(
            self._store, build_call(request), new, secrets=self._secrets, check_url=self._check_url
        )
        return pb.CreateWebhookEndpointResponse(webhook_endpoint=build_endpoint(issued.endpoint), secret=issued.secret)

    def UpdateWebhookEndpoint(
        self, request: pb.UpdateWebhookEndpointRequest, context: grpc.ServicerContext
    ) -> pb.WebhookEndpoint:
        message = request.webhook_endpoint
        result = endpoints.update_endpoint(
            self._store,
            build_call(request),
            parse_endpoint(message, parse_id(message.name)),
            fields=parse_update_mask(request.update_mask, message, ENDPOINT_FIELDS),
            etag=message.etag,
            check_url=self._check_url,
        )
        return build_endpoint(result)

    def DeleteWebhookEndpoint(
        self, request: pb.DeleteWebhookEndpointRequest, context: grpc.ServicerContext
    ) -> pb.WebhookEndpoint:
        endpoint_id = parse_id(request.name)
        return build_endpoint(
            endpoints.delete_endpoint(self._store, build_call(request), endpoint_id, etag=request.etag)
        )

    def UndeleteWebhookEndpoint(
        self, request: pb.UndeleteWebhookEndpointRequest, context: grpc.ServicerContext
    ) -> pb.WebhookEndpoint:
        endpoint_id = parse_id(request.name)
        return build_endpoint(
            endpoints.undelete_endpoint(self._store, build_call(request), endpoint_id, etag=request.etag)
        )

    def PauseWebhookEndpoint(
        self, request: pb.PauseWebhookEndpointRequest, context: grpc.ServicerContext
    ) -> pb.WebhookEndpoint:
        endpoint_id = parse_id(request.name)
        return build_endpoint(
            endpoints.pause_endpoint(self._store, build_call(request), endpoint_id, etag=request.etag)
        )

    def ResumeWebhookEndpoint(
        self, request: pb.ResumeWebhookEndpointRequest, context: grpc.ServicerContext
    ) -> pb.WebhookEndpoint:
        endpoint_id = parse_id(request.name)
        return build_endpoint(
            endpoints.resume_endpoint(self._store, build_call(request), endpoint_id, etag=request.etag)
        )

    def RotateWebhookSecret(
        self, request: pb.RotateWebhookSecretRequest, context: grpc.ServicerContext
    ) -> pb.RotateWebhookSecretResponse:
        issued = endpoints.rotate_secret(
            self._store,
            build_call(request),
            parse_id(request.name),
            overlap_us=request.overlap.ToMicroseconds() if request.HasField("overlap") else OVERLAP_DEFAULT_US,
            etag=request.etag,
            secrets=self._secrets,
        )
        return pb.RotateWebhookSecretResponse(webhook_endpoint=build_endpoint(issued.endpoint), secret=issued.secret)

    def TestWebhookEndpoint(
        self, request: pb.TestWebhookEndpointRequest, context: grpc.ServicerContext
    ) -> pb.WebhookDelivery:
        return build_delivery(deliveries.plan_test(self._store, build_call(request), parse_id(request.name)))

    def GetWebhookDelivery(
        self, request: pb.GetWebhookDeliveryRequest, context: grpc.ServicerContext
    ) -> pb.WebhookDelivery:
        endpoint_id, sequence = parse_key(request.name)
        return build_delivery(deliveries.get_delivery(self._store, endpoint_id, int(sequence)))

    def ListWebhookDeliveries(
        self, request: pb.ListWebhookDeliveriesRequest, context: grpc.ServicerContext
    ) -> pb.ListWebhookDeliveriesResponse:
        listed = build_list_request(request, parent=parse_id(request.parent))
        page = deliveries.list_deliveries(self._store, listed, tokens=self._page_tokens)
        return pb.ListWebhookDeliveriesResponse(
            webhook_deliveries=[build_delivery(item) for item in page.items], **build_page_fields(page)
        )

    def RedeliverEvents(
        self, request: pb.RedeliverEventsRequest, context: grpc.ServicerContext
    ) -> pb.RedeliverEventsResponse:
        redelivery = RedeliveryRequest(
            parse_id(request.name),
            start_us=parse_time_us(request.start_time),
            end_us=parse_time_us(request.end_time) if request.HasField("end_time") else None,
            event_types=tuple(request.event_types),
            failed_only=request.failed_only,
            after_event=request.after_event,
            events_max=request.max_events or EVENTS_MAX,
        )
        result = redeliver_events(self._store, build_call(request), redelivery)
        return pb.RedeliverEventsResponse(
            name=result.name, events=result.events, last_event=result.last_event, has_more=result.has_more
        )
