"""The composition root: builds a server from settings, store, domain and transport, and shuts it down in order.

It may import every room below it. Invariant: acknowledged writes are durable before the store closes.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc  # type: ignore[import-untyped, unused-ignore]

from storekeep.server.config import Settings
from storekeep.server.domain.access.api_keys import parse_lookup_id
from storekeep.server.domain.personal_data.erasures import repeat_erasures
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.interceptors.auth import authenticate_calls
from storekeep.server.interceptors.certificates import reject_revoked
from storekeep.server.interceptors.chain import Chain, Layer, arrange
from storekeep.server.interceptors.credentials import watch_credentials
from storekeep.server.interceptors.early_limits import EarlyLimits
from storekeep.server.interceptors.early_rejections import EarlyRejections
from storekeep.server.interceptors.errors import map_errors
from storekeep.server.interceptors.forwarding import Forwarding
from storekeep.server.interceptors.freshness import enforce_freshness
from storekeep.server.interceptors.languages import localize_replies
from storekeep.server.interceptors.personal_data import mask_personal_data
from storekeep.server.interceptors.read_masks import apply_read_masks
from storekeep.server.interceptors.request_log import request_log
from storekeep.server.interceptors.validation import validate_requests
from storekeep.server.jobs.backups import measure_backups
from storekeep.server.jobs.leader import make_backup_job, make_jobs
from storekeep.server.jobs.personal_reads import PersonalReadsJob
from storekeep.server.jobs.provider_keys import ProviderKeysJob
from storekeep.server.jobs.webhooks import WebhookJob
from storekeep.server.runtime.admission import LARGE_READS, READS, WRITES, AdmissionController, ControlledDelay
from storekeep.server.runtime.ports import AddressTaken, find_free_addresses
from storekeep.server.servicers.audit import AuditServicer
from storekeep.server.servicers.auth import AuthServicer
from storekeep.server.servicers.customers import CustomerServicer
from storekeep.server.servicers.events import EventServicer, make_event_encoder
from storekeep.server.servicers.inventory import InventoryServicer
from storekeep.server.servicers.orders import OrderServicer
from storekeep.server.servicers.pricing import PricingServicer
from storekeep.server.servicers.products import ProductServicer
from storekeep.server.servicers.quotes import QuoteServicer
from storekeep.server.servicers.users import UserServicer
from storekeep.server.servicers.webhook_payloads import render_message
from storekeep.server.servicers.webhooks import WebhookServicer
from storekeep.server.store.errors import Overloaded
from storekeep.server.store.opening import get_leader_file, open_store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.urls import parse_sqlite_path
from storekeep.server.telemetry.counts import CallCounts, add_counts
from storekeep.server.telemetry.logs import Logs
from storekeep.server.telemetry.personal_reads import PersonalReads
from storekeep.server.telemetry.status import Report
from storekeep.server.transport.channels import make_channel_options, make_receive_limits
from storekeep.server.transport.connections import ConnectionGuard, ConnectionLimits
from storekeep.server.transport.contract import add_servicers, read_contract
from storekeep.server.transport.event_feed import Events
from storekeep.server.transport.executors import CallExecutor, CallPool, CheckPool, CooperativeExecutor, ReadLanes
from storekeep.server.transport.fair_pools import FairPool
from storekeep.server.transport.health import SERVICE as HEALTH_SERVICE
from storekeep.server.transport.health import WATCH, HealthServicer, Readiness, Watches, make_health_routes
from storekeep.server.transport.leadership import LeaderElection, Worker, own_address
from storekeep.server.transport.polling import Polling
from storekeep.server.transport.reflection import PATHS as REFLECTION_PATHS
from storekeep.server.transport.reflection import Reflection, add_reflection
from storekeep.server.transport.rpc import get_read_bounds, record_commit
from storekeep.server.transport.stopping import stop_calls
from storekeep.server.transport.streams import StreamRoute
from storekeep.server.transport.subscriptions import Subscriptions
from storekeep.server.transport.tls import RevokedCertificates, load_tls_credentials
from storekeep.server.transport.unary import Route
from storekeep.server.wiring.access import install, make_access
from storekeep.server.wiring.data_keys import list_retention_days
from storekeep.server.wiring.events import count_events, make_events, measure_events
from storekeep.server.wiring.expirers import wire_expirers
from storekeep.server.wiring.keyrings import make_keyring
from storekeep.server.wiring.measures import count_store, measure_store
from storekeep.server.wiring.orders import make_placing_rules
from storekeep.server.wiring.otel import make_otel
from storekeep.server.wiring.rate_limits import make_failed_credentials, make_rate_limits
from storekeep.server.wiring.webhooks import make_webhooks

HEALTH_PATHS = frozenset({f"/{HEALTH_SERVICE}/Check", f"/{HEALTH_SERVICE}/List"})
NOT_BOUND = "gRPC cannot bind it; check its directory and permissions"
WATCH_ADDRESS_DIVISOR = 4
"""One address may use at most 1 / WATCH_ADDRESS_DIVISOR of all Watch streams."""
LARGE_READ_THREADS = 2
"""Threads for reads with large replies. One works while the other waits for the database; more would delay others."""
LARGE_READ_WAIT_MAX_S = 1.0
"""Maximum time in seconds that a read with a large reply waits for a thread. One takes some 0.1 s."""
BULK_THREADS = 2
"""Threads that convert batches and prepare their writes. One works while the other waits for its commit."""
RESERVED_READ_CONNECTIONS = 5 + LARGE_READ_THREADS + BULK_THREADS
"""Read connections that scheduled reads must leave free: one for checks, two for public methods, one for the writer or
the probe, one for the feed of events and webhooks, and those for reads with large replies and for batches."""
OWN_FORWARDING_THREADS = 4
"""Maximum number of public calls, sign-ins and batches, each, that a worker forwards at once, in threads separate from
those of other changes."""
OPENING_STREAMS_MAX = 500
"""Streams of the contract that may be opening beside those that are open."""
OWNER_ONLY_UMASK = 0o177
"""The umask(2) for a socket that only the server's user may open."""

log = logging.getLogger("storekeep.server")


class App:
    """One server process, from opening the database to closing it.

    Args:
        settings: the effective settings.
        logs: the log of calls.
        worker: the identity of this worker; None for a single process.

    Raises: SchemaError, UnusableCertificate, WeakSecret, UnsafeSqlite, UnusableTelemetry.
    """

    def __init__(self, settings: Settings, *, logs: Logs, worker: Worker | None = None) -> None:
        self._settings = settings
        self._worker = worker
        leader_file = get_leader_file(settings.database)
        self._election = LeaderElection(leader_file, worker=worker) if worker and leader_file else None
        self._counts = CallCounts()
        self._otel = make_otel(settings, worker=0 if worker is None else worker.number)
        self._personal_reads = PersonalReads(resources_min=settings.audit_personal_reads)
        self._polling = Polling(make_receive_limits(settings), fast_path=settings.grpc_fast_path == "auto")
        self._write_admission = self._make_admission(WRITES, length_max=settings.write_queue_max)
        self._queues: dict[str, AdmissionController] = {"write": self._write_admission}
        self._credentials = load_tls_credentials(settings)
        keyring = make_keyring(settings)
        self.contract = read_contract()
        self.store = open_store(
            settings.database,
            admission=self._write_admission,
            limits=settings.database_limits,
            replicas=settings.database_replicas,
            get_read_bounds=get_read_bounds,
            on_commit=record_commit,
            tracer=None if self._otel is None else self._otel.commits,
        )
        wire_expirers(self.store)
        self._failures = make_failed_credentials(settings, self._counts)
        self.access = make_access(settings, self.store, self.contract, keyring=keyring, failures=self._failures)
        self._page_tokens = PageTokens(keyring)
        self._webhooks = make_webhooks(settings, keyring=keyring)
        self._webhook_job = self._make_webhook_job()
        self._encoder = make_event_encoder(self._page_tokens)
        self._events = self._make_events()
        self._forwarding = None if self._election is None else self._make_forwarding(self._election)
        self._reads = self._make_read_executor()
        self._checks = CheckPool(
            self.store.submit_task, queued=lambda: self.store.queued, name="check", admission=self._write_admission
        )
        self._public = FairPool(settings.public_threads, name="public", length_max=settings.public_queue_max)
        self._passwords = FairPool(settings.password_threads, name="password", length_max=settings.password_queue_max)
        self._bulk = FairPool(BULK_THREADS, name="bulk", length_max=settings.bulk_queue_max)
        self._health = HealthServicer(self.contract.services)
        self._reflection = Reflection([*self.contract.services, HEALTH_SERVICE])
        self._early_rejections = EarlyRejections(logs.requests.write, self._counts, changes=self.contract.changes)
        self._guard = ConnectionGuard(
            ConnectionLimits(
                connections_max=settings.connections_max, per_address_max=settings.connections_per_address_max
            )
        )
        self._readiness = Readiness(
            self._probe,
            self._health.set_ready,
            interval_s=settings.health_interval_s,
            timeout_s=settings.health_timeout_s,
        )
        self._backups = make_backup_job(settings, keyring)
        folder = settings.personal_reads_dir
        self._reads_job = PersonalReadsJob(self.store, self._personal_reads, folder=folder, election=self._election)
        self._keys_job = self._make_keys_job()
        jobs = make_jobs(settings, self.store, retention_days=list_retention_days(settings))
        self._jobs = (*jobs, self._webhook_job, *filter(None, (self._backups,)))
        self._server = self._make_server(logs)

    def _make_events(self) -> Events:
        return make_events(
            self._settings,
            self.store,
            access=self.access,
            tokens=self._page_tokens,
            encode=self._encoder.encode,
            reads=self._personal_reads,
        )

    def _make_webhook_job(self) -> WebhookJob:
        sender, secrets = self._webhooks.sender, self._webhooks.secrets
        return WebhookJob(self.store, self._settings, sender=sender, render=render_message, secrets=secrets)

    def _make_admission(self, law: ControlledDelay, *, length_max: int) -> AdmissionController:
        """Return an admission controller that accounts for the lag of the polling thread."""
        wait_max_s, lag_s = self._settings.queue_wait_max_s, self._polling.lag_s
        return AdmissionController(law, length_max=length_max, wait_max_s=wait_max_s, lag_s=lag_s)

    def _make_server(self, logs: Logs) -> grpc.Server:
        steps = arrange(self._make_steps())
        self._chain = Chain(
            outermost=request_log(
                logs.requests.write_line,
                self._counts,
                trusts_sockets=self._worker is not None,
                tracer=None if self._otel is None else self._otel.tracer,
            ),
            layers=steps.layers,
            inner=steps.inner,
            methods=self.contract.methods,
            mutations=self.contract.changes,
            read_pool=self._reads,
            write_pool=self._make_write_executor(),
            public_pool=self._make_own_executor(self._public),
            password_pool=self._make_own_executor(self._passwords),
            bulk_pool=self._make_own_executor(self._bulk),
            reject=self._early_rejections.reject_overload,
            limits=steps.early,
        )
        server = grpc.server(
            self._reads,
            interceptors=[self._chain],
            options=make_channel_options(self._settings, shares_port=self._worker is not None),
            maximum_concurrent_rpcs=self._settings.calls_max,
        )
        add_servicers(server, self._make_servicers())
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        add_reflection(server, self._reflection)
        return server

    def _make_steps(self) -> dict[str, Layer | EarlyLimits | None]:
        """Return the steps of CHAIN by name; None for a step that these settings disable."""
        settings = self._settings
        limits = make_rate_limits(settings, changes=self.contract.changes, counts=self._counts)
        revoked = settings.tls_client_crl_file
        return {
            "errors": map_errors,
            "early_limits": EarlyLimits(
                limits,
                self._failures,
                self._early_rejections,
                parse_key_id=parse_lookup_id,
                trusts_sockets=self._worker is not None,
            ),
            "credentials": watch_credentials(
                self._failures,
                parse_key_id=parse_lookup_id,
                forwarded=frozenset() if self._forwarding is None else self.contract.changes,
            ),
            "certificates": None if revoked is None else reject_revoked(RevokedCertificates(revoked)),
            "forwarding": None if self._forwarding is None else self._forwarding.layer,
            "auth": authenticate_calls(self.access.authenticator),
            "caller_limits": limits.limit_callers,
            "validation": validate_requests(message_size_max_bytes=settings.message_size_max_bytes),
            "freshness": None if parse_sqlite_path(settings.database) else enforce_freshness,
            "read_masks": apply_read_masks,
            "personal_data": mask_personal_data(self._personal_reads),
            "languages": localize_replies(settings.default_language),
        }

    def _make_routes(self, handlers: Mapping[str, Any]) -> dict[str, Route]:
        """Return the routes of unary methods by path."""
        return self._chain.build_routes(handlers) | make_health_routes(self._health)

    def _make_stream_routes(self, handlers: Mapping[str, Any]) -> dict[str, StreamRoute]:
        """Return the routes of streaming methods by path."""
        settings = self._settings
        watches_max = settings.watch_streams_max
        watch = StreamRoute(WATCH, Watches(self._health), watches_max, max(1, watches_max // WATCH_ADDRESS_DIVISOR), 0)
        routes = {f"/{WATCH}": watch}
        for path in REFLECTION_PATHS:
            routes[path] = StreamRoute(
                path.removeprefix("/"),
                self._reflection,
                settings.reflection_streams_max,
                0,
                settings.reflection_idle_max_s,
            )
        for path, route in self._chain.build_stream_routes(handlers).items():
            streams_max = settings.event_watchers_max + OPENING_STREAMS_MAX
            routes[path] = StreamRoute(
                path.removeprefix("/"), Subscriptions(route), streams_max, 0, 0, rejects_newest=True
            )
        return routes

    def _make_read_executor(self) -> CallExecutor:
        """Return the executor of reads: threads for SQLite, one thread with a cooperative scheduler for PostgreSQL."""
        settings = self._settings
        admission = self._queues["read"] = self._make_admission(READS, length_max=settings.read_queue_max)
        large_admission = self._queues["large read"] = AdmissionController(
            LARGE_READS, length_max=settings.read_queue_max, wait_max_s=LARGE_READ_WAIT_MAX_S
        )
        large = CallPool(LARGE_READ_THREADS, name="large-read", admission=large_admission)
        if self.store.driver.uses_sockets:
            calls_max = max(1, settings.database_pool_size - RESERVED_READ_CONNECTIONS)
            quick: CallExecutor = CooperativeExecutor(calls_max, name="read", admission=admission)
        else:
            calls_max = settings.read_threads
            quick = CallPool(calls_max, name="read", admission=admission)
        return ReadLanes(quick, large, lists_max=calls_max - 1)

    def _make_forwarding(self, election: LeaderElection) -> Forwarding:
        def make_admission() -> AdmissionController:
            return self._make_admission(WRITES, length_max=self._settings.write_queue_max)

        return Forwarding(election, changes=self.contract.changes, make_admission=make_admission)

    def _make_write_executor(self) -> CallExecutor:
        """Return the executor of changes: check threads, then the store's writer; or forwarding to the leader."""
        return self._checks if self._forwarding is None else self._forwarding.executor(self._checks)

    def _make_own_executor(self, own: FairPool) -> CallExecutor:
        """Return the executor of public methods, of sign-ins or of batches: own threads, which delay no other calls."""
        if self._forwarding is None:
            return own
        pool = FairPool(OWN_FORWARDING_THREADS, name="own-forwarding", length_max=self._settings.public_queue_max)
        return self._forwarding.executor(own, pool=pool)

    def _make_servicers(self) -> dict[str, Any]:
        """Return the servicer of each service of the contract."""
        store, pages, access = self.store, self._page_tokens, self.access
        return {
            "ProductService": ProductServicer(store, pages),
            "InventoryService": InventoryServicer(store, pages),
            "CustomerService": CustomerServicer(store, pages),
            "OrderService": OrderServicer(store, pages, rules=make_placing_rules(self._settings)),
            "QuoteService": QuoteServicer(store, pages, rules=make_placing_rules(self._settings)),
            "AuthService": self._make_auth_servicer(),
            "UserService": UserServicer(
                store, pages, access.sign_ins, access.password_links, access.identities, access.version
            ),
            "AuditService": AuditServicer(store, pages),
            "EventService": EventServicer(store, pages, self._events, encoder=self._encoder),
            "PricingService": PricingServicer(store, pages),
            "WebhookService": WebhookServicer(
                store, pages, secrets=self._webhooks.secrets, check_url=self._webhooks.check_url
            ),
        }

    def _make_keys_job(self) -> ProviderKeysJob | None:
        """Return the job of the identity provider's keys; None without a provider."""
        provider, settings = self.access.provider, self._settings
        if not settings.oidc_issuer:
            return None
        return ProviderKeysJob(provider.keys, provider.make_fetch(), interval_s=settings.oidc_refresh_interval_s)

    def _make_auth_servicer(self) -> AuthServicer:
        access = self.access
        return AuthServicer(
            self.store,
            self._page_tokens,
            tokens=access.tokens,
            signing_keys=access.signing_keys,
            key_secrets=access.key_secrets,
            access_version=access.version,
            permissions=access.known,
        )

    def _probe(self) -> None:
        """Probe the database: raise unless a read and an empty write succeed. An overloaded writer is healthy.

        Only the leader probes the write.
        """
        self.store.check()
        self.store.read(_probe_read)
        if not self.serves_writes:
            return
        try:
            self.store.write(_probe_write, dry_run=True)
        except Overloaded:
            return

    def install(self, *, keep: Callable[[str], None]) -> bool:
        """Create roles, a signing key and the administrator if they are missing, and erase customers again if needed.

        Args:
            keep: see `bootstrap_admin`.

        Returns: whether a key was created for the administrator, as at the first start.
        """
        is_new = install(self.access, self.store, keep=keep)
        if customers := repeat_erasures(self.store):
            log.warning("customers erased again: their data keys are destroyed", extra={"customers": customers})
        return is_new

    def start(self) -> str:
        """Listen and serve.

        Returns: the address with its port.

        Raises: AddressTaken.
        """
        address = self._bind(self._settings.listen)
        own = own_address(self._settings, listen=address) if self._worker is None else self._worker.address
        self._bind_own_socket(own)
        self._polling.start(
            self._server,
            routes=self._make_routes,
            streams=self._make_stream_routes,
            exempt_paths=HEALTH_PATHS,
            rejections=self._early_rejections,
            close_connection=self._guard.close_connection,
        )
        self._events.feed.start()
        self._guard.start(address)
        if self._otel is not None:
            self._otel.start(self.report)
        self._readiness.start()
        self._reads_job.start()
        if self._keys_job is not None:
            self._keys_job.start()
        if self._election is None:
            self._start_jobs()
        else:
            self._election.start(self._start_jobs)
        log.info("listening", extra={"address": address, "tls": self._credentials is not None})
        return address

    def _start_jobs(self) -> None:
        """Start the periodic jobs. Called in the leader only."""
        for job in self._jobs:
            job.start()

    def _stop_jobs(self) -> None:
        for job in reversed(self._jobs):
            job.stop()

    def _bind(self, address: str) -> str:
        """Listen on every address of a host name. The supervisor has already reserved the port of several workers."""
        if address.startswith("unix") or self._worker is not None:
            self._bind_port(address)
            return address
        for resolved in find_free_addresses(address):
            port = self._bind_port(resolved)
        return f"{address.rpartition(':')[0]}:{port}"

    def _bind_port(self, address: str) -> int:
        try:
            if self._credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, self._credentials)
        except RuntimeError:
            raise AddressTaken(address, reason=NOT_BOUND) from None

    def _bind_own_socket(self, address: str) -> None:
        """Listen on the Unix socket for other workers and the health check. Only the server's user can open it."""
        previous_umask = os.umask(OWNER_ONLY_UMASK)
        try:
            self._server.add_insecure_port(address)
        except RuntimeError:
            raise AddressTaken(address, reason=NOT_BOUND, setting="") from None
        finally:
            os.umask(previous_umask)

    @property
    def serves_writes(self) -> bool:
        """Whether this process serves writes itself: the leader does, and every worker on PostgreSQL."""
        return self._election is None or self._election.is_leader

    def report(self) -> Report:
        """Return the state and the counts of this process."""
        backups = None if self._backups is None else self._backups.count_backups()
        stored = count_store(self.store, self._queues, backup_failures=0 if backups is None else backups.failures)
        feed = self._events.feed
        gauges = [*measure_store(self.store, self._queues), *measure_events(feed)]
        if self.serves_writes:
            gauges += self._webhook_job.measure()
        if backups is not None and self.serves_writes:
            gauges += measure_backups(backups)
        counts = [self._counts.counts(), stored, self._webhook_job.count(), self._guard.count()]
        counts.append(count_events(feed, omitted=self._encoder.omitted))
        if self._otel is not None:
            counts.append(self._otel.count())
        return Report(
            self._health.state,
            serves_writes=self.serves_writes,
            queued=self.store.queued,
            counts=add_counts(counts),
            gauges=tuple(gauges),
            log_bytes=self.store.driver.measure_log(),
        )

    def stop(self, *, replaced: bool = False) -> None:
        """Drain and stop: report NOT_SERVING, let running calls finish, and make their writes durable.

        Args:
            replaced: a successor already serves, so skip NOT_SERVING and its delay.
        """
        log.info("draining", extra={"drain_s": self._settings.drain_s})
        self._readiness.stop()
        if not replaced:
            self._health.drain()
            self._wait_for_balancers()
        if self._election is not None:
            self._stop_jobs()
            self._election.release(timeout_s=self._settings.drain_s)
        self._events.feed.drain()
        self._health.end_watches()
        stop_calls(self._server, self._polling, self._guard, drain_s=self._settings.drain_s)
        self.close()
        log.info("stopped")

    def _wait_for_balancers(self) -> None:
        """Accept calls until load balancers have seen NOT_SERVING; return at once if this process can have none.

        A check of several workers reaches only one of them, and checks of the HTTP pages none.
        """
        if self._settings.workers > 1 or self._settings.metrics_listen or self._health.is_observed:
            time.sleep(self._settings.drain_notice_s)

    def close(self) -> None:
        """Release all resources, whether or not the server has started."""
        self._stop_jobs()
        self._reads_job.stop()
        if self._keys_job is not None:
            self._keys_job.stop()
        self._guard.stop()
        self._events.feed.close()
        for pool in (self._reads, self._checks, self._public, self._passwords, self._bulk):
            pool.shutdown(wait=False, cancel_futures=True)
        if self._forwarding is not None:
            self._forwarding.close()
        self.store.close()
        if self._otel is not None:
            self._otel.close()


def _probe_read(tx: Transaction) -> None:
    tx.connection.execute("SELECT 1 FROM locations LIMIT 1").fetchone()


def _probe_write(tx: Transaction) -> None:
    """Insert no rows into the audit log: this takes the same lock as every change."""
    tx.connection.execute("INSERT INTO audit_entries SELECT * FROM audit_entries WHERE FALSE")
    tx.rollback_only = True
