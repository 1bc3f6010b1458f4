"""The events that webhooks send: which types a filter selects, and which permissions their contents require.

Changes of accounts, keys, sessions and the audit log are never sent.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from storekeep.server.domain.events import reading, types
from storekeep.server.store.tables.webhooks import TEST_EVENT

EVERY = "*"
PERMISSIONS = reading.PERMISSIONS | {"webhook_endpoint": "webhooks.read"}
"""The noun of an event type -> the permission to read the resource that the event contains."""
OWN_VERBS = (*types.STANDARD, "paused", "resumed", "disabled", "secret_rotated", "redelivered")
TYPES = (*types.TYPES, *(f"webhook_endpoint.{verb}" for verb in OWN_VERBS))
"""The types that an endpoint can get."""


def matches(event_type: str, filters: Collection[str]) -> bool:
    """Return whether an endpoint with these filters gets events of a type."""
    noun = event_type.partition(".")[0]
    if noun not in PERMISSIONS or event_type == TEST_EVENT:
        return False
    return EVERY in filters or event_type in filters or f"{noun}.*" in filters


def list_required_permissions(filters: Sequence[str]) -> list[str]:
    """Return the permissions to read everything that endpoints with these filters get, sorted."""
    nouns = PERMISSIONS if EVERY in filters else {text.partition(".")[0] for text in filters} & PERMISSIONS.keys()
    return sorted({PERMISSIONS[noun] for noun in nouns})


def find_unknown(filters: Sequence[str]) -> tuple[int, str]:
    """Return the index of the first filter that selects no event, and why; (-1, "") if there is none."""
    problems = ((index, types.describe_unknown(text, TYPES)) for index, text in enumerate(filters))
    return next((one for one in problems if one[1]), (-1, ""))
