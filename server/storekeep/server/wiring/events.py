"""Events, wired to the settings: the feed that all watchers of a process share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from storekeep.server.config import Settings
from storekeep.server.domain.events.cursors import write_cursor
from storekeep.server.domain.events.retention import Retention
from storekeep.server.domain.events.watching import Entries, read_end, read_entries
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.interceptors.errors import make_end_status
from storekeep.server.store.engine import Store
from storekeep.server.telemetry.counts import Counts, Total
from storekeep.server.telemetry.personal_reads import PersonalReads
from storekeep.server.telemetry.status import Gauge
from storekeep.server.transport.event_blocks import EncodeEvents, EventBlocks
from storekeep.server.transport.event_feed import EventFeed, Events, FeedSettings, FeedSource
from storekeep.server.transport.event_watchers import WatcherLimits
from storekeep.server.wiring.access import Access

PERMISSION = "events.read"
"""What a watcher must hold until its end."""


def make_events(
    settings: Settings,
    store: Store,
    *,
    access: Access,
    tokens: PageTokens,
    encode: EncodeEvents,
    reads: PersonalReads,
) -> Events:
    """Return the feed, which the store wakes after each commit, and what it works with.

    Args:
        encode: encodes events.
        reads: counts the resources with personal data that watchers get.
    """
    authenticator = access.authenticator
    retention = Retention(store, days=settings.event_retention_days, tokens=tokens)

    def read(after: int, until: int) -> Entries:
        return read_entries(store, after=after, until=until)

    source = FeedSource(
        read_end=partial(read_end, store),
        write_cursor=partial(write_cursor, tokens=tokens),
        make_history_error=retention.make_history_error,
        get_access_version=access.version.current,
        authenticate=lambda authorization, peer: authenticator.authenticate(authorization, PERMISSION, peer=peer),
        make_status=lambda error, request_id, cursor: make_end_status(error, request_id=request_id, cursor=cursor),
        count_personal=reads.add,
    )
    feed = EventFeed(
        source,
        EventBlocks(read, encode, size_max_bytes=settings.event_cache_max_bytes),
        settings=FeedSettings(
            poll_s=settings.event_poll_s,
            recheck_s=settings.revocation_poll_s,
            read_timeout_s=settings.event_read_timeout_s,
            unread_max_bytes=settings.event_unread_max_bytes,
        ),
        limits=WatcherLimits(
            settings.event_watchers_max, settings.event_watchers_per_address_max, settings.event_watchers_per_key_max
        ),
    )
    store.on_batch = feed.notify_commit
    return Events(feed, retention, settings.event_heartbeat_s)


def count_events(feed: EventFeed, *, omitted: Mapping[str, int]) -> Counts:
    """Return the counts of the feed since the process started, and of the contents that were left out, by noun."""
    ended = [Total("storekeep_event_watchers_ended", name, count) for name, count in feed.ended.items()]
    without = [Total("storekeep_events_without_content", noun, count) for noun, count in dict(omitted).items()]
    return Counts(totals=(Total("storekeep_events_sent", "", feed.sent), *ended, *without))


def measure_events(feed: EventFeed) -> tuple[Gauge, ...]:
    """Return the gauges of the feed."""
    watchers, lag = feed.measure()
    return Gauge("storekeep_event_watchers", "", watchers), Gauge("storekeep_event_watchers_lag_entries", "", lag)
