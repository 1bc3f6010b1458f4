"""Deliveries of webhooks: plans the events of the ledger, sends them in threads, and records the outcomes.

Nothing waits for it: a send holds no transaction, and a slow endpoint holds only its own few threads. Several processes
share the work by claims, which end by themselves if a process dies.
"""

from __future__ import annotations

import contextlib
import email.utils
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from typing import Any, Protocol

from storekeep.server.domain.errors import DomainError
from storekeep.server.domain.keys.encryption import DecryptionFailed
from storekeep.server.domain.standard.resources import MICROS
from storekeep.server.domain.webhooks.deliveries import (
    Attempt,
    Claimed,
    Due,
    Message,
    RetryRules,
    claim,
    finish,
    list_due,
    load_message,
    measure_oldest_s,
    plan_events,
    purge_deliveries,
    release_claims,
)
from storekeep.server.domain.webhooks.endpoints import EndpointSecrets
from storekeep.server.integrations.requests import Reply
from storekeep.server.integrations.signatures import sign_message
from storekeep.server.jobs.periodic import ROWS_PER_TRANSACTION_MAX, PeriodicJob, Purge
from storekeep.server.runtime.cpu_budgets import CpuBudget
from storekeep.server.runtime.durations import DAY_US
from storekeep.server.runtime.webhook_settings import WebhookSettings
from storekeep.server.store.engine import Store
from storekeep.server.store.errors import StoreError
from storekeep.server.telemetry.counts import Counts, Total
from storekeep.server.telemetry.status import Gauge

LEASE_MARGIN_S = 30.0
"""Added to the time limit of an attempt: how long its outcome may wait for the database before others may repeat it."""
BUSY = frozenset({429, 503})
"""The statuses whose `Retry-After` counts."""
FAILING_SHARE = 2
"""Endpoints that fail use at most 1 / FAILING_SHARE of the attempts at once."""

CPU_SHARE_MAX = 0.05
"""The share of the CPU time that attempts take in a process that is busy with calls."""
GATHER = 3.0
"""Pause after a run, as a multiple of the time that it took: attempts that end meanwhile share the next transaction.
If many messages wait, each takes 0.75 ms of CPU, without its post, in place of 1.1 (2026-11-30, three turns each)."""
GATHER_MAX_S = 0.02
"""The longest such pause, so that a slow run does not delay messages by more."""

log = logging.getLogger("storekeep.jobs")


class MessageSender(Protocol):
    """Sends requests; see `integrations.requests.Sender`."""

    def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Reply:
        """Return the reply, or what prevented it."""

    def close_stale(self) -> None:
        """Close the idle connections that have waited too long."""

    def close(self) -> None:
        """Close all idle connections."""


Render = Callable[[Message], bytes]
"""Returns the body of a message."""


class WebhookJob(PeriodicJob):
    """Sends events to webhook endpoints.

    Args:
        store: The database.
        settings: How many attempts run at once, and how long they go on.
        sender: Sends requests. The job closes its idle connections.
        render: Builds the bodies.
        secrets: Decrypts the signing secrets.
    """

    def __init__(
        self,
        store: Store,
        settings: WebhookSettings,
        *,
        sender: MessageSender,
        render: Render,
        secrets: EndpointSecrets,
    ) -> None:
        super().__init__(
            "webhooks",
            interval_s=settings.webhook_interval_s,
            success_message="planned webhooks",
            failure_message="no webhooks were sent",
        )
        self._store = store
        self._sender = sender
        self._render = render
        self._secrets = secrets
        self._rules = RetryRules(
            retry_us=round(settings.webhook_retry_days * DAY_US),
            disable_us=round(settings.webhook_disable_days * DAY_US),
        )
        self._lease_us = round((settings.webhook_timeout_s + LEASE_MARGIN_S) * MICROS)
        self._attempts_max = settings.webhook_attempts_max
        self._per_endpoint_max = settings.webhook_attempts_per_endpoint_max
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._failing: set[str] = set()
        self._ended: list[Attempt] = []
        self._outcomes: Counter[str] = Counter()
        self._oldest_s = 0.0
        self._gathers_until_s = 0.0
        self._released = store.driver.uses_sockets  # on PostgreSQL other processes may have claims
        self._budget = CpuBudget(CPU_SHARE_MAX, count_commits=lambda: (store.commits, store.writes))
        self._pool = ThreadPoolExecutor(self._attempts_max, thread_name_prefix="webhook")

    def stop(self) -> None:
        """Start no more attempts, record those that have ended, and close connections.

        Another process repeats the running attempts.
        """
        self._stop.set()
        self._wake.set()
        super().stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._sender.close()
        with contextlib.suppress(StoreError):
            self._record_ended()

    def count(self) -> Counts:
        """Return the attempts by outcome since the process started."""
        totals = (Total("storekeep_webhook_attempts", name, count) for name, count in sorted(self._outcomes.items()))
        return Counts(totals=tuple(totals))

    def measure(self) -> list[Gauge]:
        """Return the age of the oldest delivery that waits, as of the last run."""
        return [Gauge("storekeep_webhook_oldest_seconds", "", self._oldest_s)]

    def _wait(self) -> bool:
        """Wait for ended attempts or the interval. Return whether the job was stopped."""
        self._wake.wait(self._interval_s)
        if self._stop.wait(max(0.0, self._gathers_until_s - time.monotonic())):
            return True
        self._wake.clear()
        return False

    def _run(self) -> None:
        while not self._wait():
            began_s = time.monotonic()
            self._try_once()
            ended_s = time.monotonic()
            self._gathers_until_s = ended_s + min(GATHER_MAX_S, GATHER * (ended_s - began_s))

    def run_once(self) -> int:
        """Record ended attempts, plan new events, and start the attempts that are due.

        Returns: 0: there is a list of deliveries, so the log has no line for each.

        Raises: StoreError.
        """
        start_cpu_s = time.thread_time()
        self._sender.close_stale()
        if not self._released:
            release_claims(self._store)
            self._released = True
        self._record_ended()
        if self._budget.has_room():
            self._repeat(lambda: plan_events(self._store))
            self._start_due()
            self._oldest_s = measure_oldest_s(self._store)
        self._budget.spend(time.thread_time() - start_cpu_s)
        return 0

    def _record_ended(self) -> None:
        with self._lock:
            ended = list(self._ended)
        if ended:
            finish(self._store, ended, rules=self._rules)
            with self._lock:
                del self._ended[: len(ended)]
                self._running.subtract(attempt.claimed.endpoint for attempt in ended)
                self._running += Counter()  # drops zeros
            self._outcomes.update("delivered" if attempt.accepted else "failed" for attempt in ended)

    def _start_due(self) -> None:
        limits = self._share_attempts(list_due(self._store))
        if not limits:
            return
        claimed = claim(self._store, limits, lease_us=self._lease_us)
        with self._lock:
            self._running.update(one.endpoint for one in claimed)
        for one in claimed:
            self._pool.submit(self._attempt, one)

    def _share_attempts(self, due: list[Due]) -> dict[Due, int]:
        """Return how many attempts each endpoint may start now. Endpoints that fail get one, and half in all."""
        with self._lock:
            running = Counter(self._running)
        free = self._attempts_max - running.total()
        failing_free = self._attempts_max // FAILING_SHARE - sum(running[name] for name in self._failing)
        self._failing = {one.endpoint for one in due if one.failing} | {n for n in self._failing if running[n]}
        limits: dict[Due, int] = {}
        for one in due:
            own = (1 if one.failing else self._per_endpoint_max) - running[one.endpoint]
            count = min(own, free, failing_free if one.failing else free)
            if count > 0:
                limits[one] = count
                free -= count
                failing_free -= count if one.failing else 0
        return limits

    def _attempt(self, claimed: Claimed) -> None:
        """Send one claimed delivery, and keep its outcome for the job's thread."""
        start_cpu_s = time.thread_time()
        try:
            attempt = self._send(claimed)
        except (DecryptionFailed, DomainError, StoreError) as error:
            attempt = Attempt(claimed, 0, str(error), "", 0)
        except Exception as error:
            log.exception("a webhook could not be sent", extra={"delivery": claimed.sequence})
            attempt = Attempt(claimed, 0, f"internal error ({type(error).__name__})", "", 0)
        self._budget.spend(time.thread_time() - start_cpu_s)
        with self._lock:
            self._ended.append(attempt)
        self._wake.set()

    def _send(self, claimed: Claimed) -> Attempt:
        message = load_message(self._store, claimed, secrets=self._secrets)
        body = self._render(message)
        headers = sign_message(
            message.webhook_id,
            time_s=message.now_us // MICROS,
            body=body,
            secrets=message.secrets,
        )
        reply = self._sender.post(
            message.endpoint.url, headers={"content-type": "application/json", **headers}, body=body
        )
        return Attempt(
            claimed,
            reply.status,
            reply.problem,
            decode_reply(reply.body),
            round(reply.duration_s * MICROS),
            parse_retry_after(reply.retry_after, now_s=time.time()) if reply.status in BUSY else 0.0,
        )


def purge_old_deliveries(*, retention_days: float) -> Purge:
    """Return the purge of finished deliveries older than `retention_days`."""
    retention_us = round(retention_days * DAY_US)
    return lambda tx: purge_deliveries(tx, retention_us=retention_us, rows_max=ROWS_PER_TRANSACTION_MAX)


def decode_reply(body: bytes) -> str:
    """Return the start of a reply as text that both databases can store."""
    return body.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def parse_retry_after(value: str, *, now_s: float) -> float:
    """Return the seconds of a `Retry-After` header (RFC 9110, 10.2.3); 0 if it has none.

    Args:
        now_s: the current time, seconds since 1970.
    """
    if value.isascii() and value.isdecimal():
        return float(value)
    try:
        moment: Any = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError, TypeError):
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, float(moment.timestamp() - now_s))
