"""The settings of events: how long they are kept, and what their watchers may use."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from storekeep.server.runtime.setting_types import Count, Interval


class EventSettings(BaseSettings):
    """The part of the settings that events use."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    event_retention_days: Annotated[float, Field(ge=0, le=3650)] = 0.0
    """Number of days that events can be listed and watched; calls for older ones fail with EVENTS_EXPIRED. The audit
    log keeps their entries. 0: without a limit, because the ledger keeps them anyway."""
    event_heartbeat_s: Annotated[float, Field(ge=1, le=300)] = 15.0
    """Send a response without events to a watcher after this many seconds without one, unless the watcher requests
    another interval. Proxies close connections that are silent for a minute."""
    event_poll_s: Interval = 0.05
    """Interval in seconds between looks for events that other processes committed, while there are watchers. It is the
    delay of such an event. Events of this process need no look."""
    event_watchers_max: Count = 10_000
    """Maximum number of watchers in a process, some 20 KiB each; one with a large filter counts as several. Further
    ones are rejected with TOO_MANY_WATCHERS."""
    event_watchers_per_address_max: Count = 2_500
    """Maximum number of watchers in a process from one IPv4 address or IPv6 /64 network. The default is a quarter of
    all because many callers share the address of a proxy or NAT."""
    event_watchers_per_key_max: Count = 1_000
    """Maximum number of watchers in a process with one API key, so that one program that forgets its streams leaves
    the others their share."""
    event_read_timeout_s: Interval = 30.0
    """End a watcher that does not read its events for this many seconds, with WATCHER_TOO_SLOW."""
    event_unread_max_bytes: Annotated[int, Field(ge=1024 * 1024, le=2**40)] = 64 * 1024 * 1024
    """Budget in bytes for events that watchers have not read. Each watcher has at most one unread response, of some
    64 KiB. Beyond the budget those who read slowest end with WATCHER_TOO_SLOW."""
    event_cache_max_bytes: Annotated[int, Field(ge=1024 * 1024, le=2**40)] = 32 * 1024 * 1024
    """Budget in bytes for prepared events, which all watchers share. The newest 10,000 or so fit into the default."""
