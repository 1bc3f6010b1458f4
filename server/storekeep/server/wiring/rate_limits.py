"""Rate limits, wired to the settings."""

from __future__ import annotations

from storekeep.server.config import Settings
from storekeep.server.interceptors.credentials import FailedCredentials
from storekeep.server.interceptors.rate_limits import Rate, RateLimits, parse_rates
from storekeep.server.telemetry.counts import CallCounts


def make_rate_limits(settings: Settings, *, changes: frozenset[str], counts: CallCounts) -> RateLimits:
    """Return the rate limits of calls.

    Args:
        changes: paths of the methods that change data.
        counts: counts the rejected calls.
    """
    burst_s = settings.rate_limit_burst_s
    return RateLimits(
        per_address=parse_rates(settings.rate_limits_per_address, burst_s=burst_s),
        per_key=parse_rates(settings.rate_limits_per_key, burst_s=burst_s),
        per_account=parse_rates(settings.rate_limits_per_account, burst_s=burst_s),
        changes=changes,
        buckets_max=settings.rate_limit_buckets_max,
        counts=counts,
    )


def make_failed_credentials(settings: Settings, counts: CallCounts) -> FailedCredentials:
    """Return the limits of failed credentials."""
    rate = Rate(settings.failed_credentials_per_s, settings.failed_credentials_burst)
    return FailedCredentials(rate, buckets_max=settings.rate_limit_buckets_max, counts=counts)
