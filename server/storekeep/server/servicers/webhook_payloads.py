"""The bodies of webhooks: the type and name of an event, and in full payloads the resource in the contract's JSON."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.server.domain.webhooks.deliveries import Message
from storekeep.server.domain.webhooks.endpoints import FULL, WebhookEndpoint
from storekeep.server.servicers.events import CONTENTS
from storekeep.server.servicers.webhooks import build_endpoint
from storekeep.server.transport.personal_data import mask_message

RESOURCES = CONTENTS | {"webhook_endpoint": (WebhookEndpoint, build_endpoint)}
"""The noun of an event type -> the resource in the ledger, and the function that builds its message."""


def render_message(message: Message) -> bytes:
    """Return the body of a webhook as JSON."""
    time = Timestamp()
    time.FromMicroseconds(message.time_us)
    data: dict[str, Any] = {"name": message.resource}
    if message.endpoint.payload == FULL and message.after is not None:
        resource, build = RESOURCES[message.event_type.partition(".")[0]]
        try:
            built = build(msgspec.json.decode(message.after, type=resource))
            if message.endpoint.exclude_personal_data:
                mask_message(built)
            data["resource"] = MessageToDict(built)
        except msgspec.ValidationError:
            data["resource"] = None  # an entry of a release whose resources had other fields
    body = {"type": message.event_type, "timestamp": time.ToJsonString(), "data": data}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
