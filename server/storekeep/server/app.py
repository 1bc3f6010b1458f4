"""The composition root: makes one server of settings, database, domain and wire, and ends it in order.

The only module that knows all others. Invariant: whatever was acknowledged is durable before the store closes.
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
from storekeep.server.domain.access.api_keys import lookup_id_of
from storekeep.server.domain.access.tokens import purge_expired
from storekeep.server.domain.orders import cancellations
from storekeep.server.domain.orders.numbers import OrderNumbers
from storekeep.server.domain.orders.placing import PlacingRules
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.stock import reservations
from storekeep.server.domain.stock.expiry import set_expirers
from storekeep.server.interceptors.auth import authenticate_calls
from storekeep.server.interceptors.certificates import refuse_revoked
from storekeep.server.interceptors.chain import Chain, Layer, arrange
from storekeep.server.interceptors.credentials import FailedCredentials, watch_credentials
from storekeep.server.interceptors.early_limits import EarlyLimits
from storekeep.server.interceptors.early_refusals import EarlyRefusals
from storekeep.server.interceptors.errors import map_errors
from storekeep.server.interceptors.forwarding import Forwarding
from storekeep.server.interceptors.freshness import keep_fresh
from storekeep.server.interceptors.rate_limits import Rate, RateLimits, rates_of
from storekeep.server.interceptors.request_log import request_log
from storekeep.server.interceptors.validation import validate_requests
from storekeep.server.jobs.periodic import CheckpointJob, Maintenance, Rounds, Sweeper, purge_new_secrets, purge_replies
from storekeep.server.runtime.admission import LARGE_READS, READS, WRITES, AdmissionController, ControlledDelay
from storekeep.server.runtime.ports import AddressTaken, free_addresses
from storekeep.server.servicers.audit import AuditServicer
from storekeep.server.servicers.auth import AuthServicer
from storekeep.server.servicers.customers import CustomerServicer
from storekeep.server.servicers.inventory import InventoryServicer
from storekeep.server.servicers.orders import OrderServicer
from storekeep.server.servicers.products import ProductServicer
from storekeep.server.store.errors import Overloaded
from storekeep.server.store.opening import one_writer_file, open_store
from storekeep.server.store.sql.transactions import Transaction
from storekeep.server.store.urls import sqlite_path
from storekeep.server.telemetry.counts import CallCounts, Counts, add_counts
from storekeep.server.telemetry.logs import Logs
from storekeep.server.telemetry.status import Report
from storekeep.server.transport.channels import channel_options, receive_limits
from storekeep.server.transport.connections import ConnectionGuard, ConnectionLimits
from storekeep.server.transport.contract import add_servicers, read_contract
from storekeep.server.transport.executors import CallExecutor, CallLoop, CallPool, CheckPool, ReadLanes
from storekeep.server.transport.fair_pools import FairPool
from storekeep.server.transport.health import SERVICE as HEALTH_SERVICE
from storekeep.server.transport.health import WATCH, HealthServicer, Readiness, Watches, health_routes
from storekeep.server.transport.leadership import Worker, Writership, own_address
from storekeep.server.transport.polling import Polling
from storekeep.server.transport.reflection import PATHS as REFLECTION_PATHS
from storekeep.server.transport.reflection import Reflection, add_reflection
from storekeep.server.transport.rpc import call_terms, note_committed
from storekeep.server.transport.streams import StreamRoute
from storekeep.server.transport.tls import RevokedCertificates, tls_credentials
from storekeep.server.transport.unary import Route
from storekeep.server.wiring.access import install, make_access, make_keyring

HEALTH_PATHS = frozenset({f"/{HEALTH_SERVICE}/Check", f"/{HEALTH_SERVICE}/List"})
WATCHES_PER_ADDRESS = 4
"""One address may have one in so many of all Watch streams."""
HEAVY_READ_THREADS = 2
"""For reads whose replies are large: one works while the other waits for the database; more only hold up all others."""
HEAVY_WAIT_MAX_S = 1.0
"""How long they may wait for their turn: each takes some 0.1 s, as long as all small reads together may wait."""
READERS_ELSEWHERE = 4 + HEAVY_READ_THREADS
"""Connections left to those who do not read in the loop, which must not wait for one: the checks of changes, the two
threads of public methods, the writer or the probe, which seldom read, and reads whose replies are large."""
PUBLIC_FORWARDING_THREADS = 4
"""Calls of public methods that one worker forwards at once; they have threads apart from those of other changes."""
SECONDS_PER_DAY = 86_400
EXPIRERS = (reservations.EXPIRER, cancellations.EXPIRER)
"""All that expires by itself: reservations, and orders that nobody has paid for in time."""
OWNER_ONLY = 0o177
"""What a socket of this user only must not allow to others (umask(2))."""

log = logging.getLogger("storekeep.server")


def placing_rules_of(settings: Settings) -> PlacingRules:
    """What each new order gets."""
    return PlacingRules(OrderNumbers(settings.order_number_format), settings.unpaid_order_ttl_s)


class App:
    """One server, from open database to closed.

    Args:
        settings: what is in force.
        logs: where calls are logged.
        worker: which of several this one is; None where it is alone.

    Raises: SchemaError, UnusableCertificate, WeakSecret, UnsafeSqlite.
    """

    def __init__(self, settings: Settings, *, logs: Logs, worker: Worker | None = None) -> None:
        self._settings = settings
        self._worker = worker
        writer_file = one_writer_file(settings.database)
        self._writership = Writership(writer_file, worker=worker) if worker and writer_file else None
        self._counts = CallCounts()
        self._polling = Polling(receive_limits(settings), fast_path=settings.grpc_fast_path == "auto")
        self._write_admission = self._admission(WRITES, length_max=settings.write_queue_max)
        self._credentials = tls_credentials(settings)
        keyring = make_keyring(settings)
        self.contract = read_contract()
        self.store = open_store(
            settings.database,
            admission=self._write_admission,
            limits=settings.database_limits,
            replicas=settings.database_replicas,
            call_terms=call_terms,
            committed=note_committed,
        )
        set_expirers(self.store, EXPIRERS)
        self._failures = FailedCredentials(
            Rate(settings.failed_credentials_per_s, settings.failed_credentials_burst),
            buckets_max=settings.rate_limit_buckets_max,
            counts=self._counts,
        )
        self.access = make_access(settings, self.store, self.contract, keyring=keyring, failures=self._failures)
        self._page_tokens = PageTokens(keyring)
        self._forwarding = None if self._writership is None else self._make_forwarding(self._writership)
        self._reads = self._make_read_executor()
        self._checks = CheckPool(
            self.store.run_soon, queued=lambda: self.store.queued, name="check", admission=self._write_admission
        )
        self._public = FairPool(settings.public_threads, name="public", length_max=settings.public_queue_max)
        self._health = HealthServicer(self.contract.services)
        self._reflection = Reflection([*self.contract.services, HEALTH_SERVICE])
        self._early_refusals = EarlyRefusals(logs.requests.write, self._counts)
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
        self._jobs = self._make_jobs()
        self._server = self._make_server(logs)

    def _make_jobs(self) -> tuple[Rounds, ...]:
        """What runs by itself in the process that writes, in the order in which it is started."""
        settings = self._settings
        purges = [
            purge_new_secrets(retention_s=settings.secret_reply_retention_s),
            purge_replies(retention_s=settings.reply_retention_days * SECONDS_PER_DAY),
            purge_expired,
        ]
        return (
            Maintenance(self.store, purges=purges, interval_s=settings.maintenance_interval_s),
            Sweeper(self.store, interval_s=settings.expiry_interval_s),
            CheckpointJob(
                self.store,
                self.store.chain,
                entries=settings.audit_checkpoint_entries,
                interval_s=settings.audit_checkpoint_interval_s,
            ),
        )

    def _admission(self, law: ControlledDelay, *, length_max: int) -> AdmissionController:
        """Return an admission controller of calls of which the polling thread hears."""
        wait_max_s, lag_s = self._settings.queue_wait_max_s, self._polling.lag_s
        return AdmissionController(law, length_max=length_max, wait_max_s=wait_max_s, lag_s=lag_s)

    def _make_limits(self) -> RateLimits:
        settings, burst_s = self._settings, self._settings.rate_limit_burst_s
        return RateLimits(
            per_address=rates_of(settings.rate_limits_per_address, burst_s=burst_s),
            per_key=rates_of(settings.rate_limits_per_key, burst_s=burst_s),
            per_account=rates_of(settings.rate_limits_per_account, burst_s=burst_s),
            changes=self.contract.changes,
            buckets_max=settings.rate_limit_buckets_max,
            counts=self._counts,
        )

    def _make_server(self, logs: Logs) -> grpc.Server:
        steps = arrange(self._make_steps())
        self._chain = Chain(
            outermost=request_log(logs.requests.write_line, self._counts, trusts_sockets=self._worker is not None),
            layers=steps.layers,
            inner=steps.inner,
            methods=self.contract.methods,
            mutations=self.contract.changes,
            read_pool=self._reads,
            write_pool=self._make_write_executor(),
            public_pool=self._make_public_executor(),
            refuse=self._early_refusals.overloaded,
            limits=steps.early,
        )
        server = grpc.server(
            self._reads,
            interceptors=[self._chain],
            options=channel_options(self._settings, shares_port=self._worker is not None),
            maximum_concurrent_rpcs=self._settings.calls_max,
        )
        add_servicers(server, self._servicers())
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        add_reflection(server, self._reflection)
        return server

    def _make_steps(self) -> dict[str, Layer | EarlyLimits | None]:
        """Make the steps of CHAIN, by their names; None for those that this server does not have."""
        settings, limits = self._settings, self._make_limits()
        revoked = settings.tls_client_crl_file
        return {
            "errors": map_errors,
            "early_limits": EarlyLimits(
                limits,
                self._failures,
                self._early_refusals,
                key_id_of=lookup_id_of,
                trusts_sockets=self._worker is not None,
            ),
            "credentials": watch_credentials(
                self._failures,
                key_id_of=lookup_id_of,
                forwarded=frozenset() if self._forwarding is None else self.contract.changes,
            ),
            "certificates": None if revoked is None else refuse_revoked(RevokedCertificates(revoked)),
            "forwarding": None if self._forwarding is None else self._forwarding.layer,
            "auth": authenticate_calls(self.access.authenticator),
            "caller_limits": limits.limit_callers,
            "validation": validate_requests(message_size_max_bytes=settings.message_size_max_bytes),
            "freshness": None if sqlite_path(settings.database) else keep_fresh,
        }

    def _routes(self, handlers: Mapping[str, Any]) -> dict[str, Route]:
        """How calls of unary methods are served."""
        return self._chain.routes(handlers) | health_routes(self._health)

    def _stream_routes(self) -> dict[str, StreamRoute]:
        """How streams are served, by the paths of their methods."""
        settings = self._settings
        watches_max = settings.watch_streams_max
        watch = StreamRoute(WATCH, Watches(self._health), watches_max, max(1, watches_max // WATCHES_PER_ADDRESS), 0)
        routes = {f"/{WATCH}": watch}
        for path in REFLECTION_PATHS:
            routes[path] = StreamRoute(
                path.removeprefix("/"),
                self._reflection,
                settings.reflection_streams_max,
                0,
                settings.reflection_idle_max_s,
            )
        return routes

    def _make_read_executor(self) -> CallExecutor:
        """Where reads run: in threads where the database is a file, by turns in one where it answers over a socket."""
        settings = self._settings
        admission = self._admission(READS, length_max=settings.read_queue_max)
        heavy_admission = AdmissionController(
            LARGE_READS, length_max=settings.read_queue_max, wait_max_s=HEAVY_WAIT_MAX_S
        )
        heavy = CallPool(HEAVY_READ_THREADS, name="heavy-read", admission=heavy_admission)
        if self.store.driver.over_sockets:
            calls_max = max(1, settings.database_pool_size - READERS_ELSEWHERE)
            return ReadLanes(CallLoop(calls_max, name="read", admission=admission), heavy)
        return ReadLanes(CallPool(settings.read_threads, name="read", admission=admission), heavy)

    def _make_forwarding(self, writership: Writership) -> Forwarding:
        def make_admission() -> AdmissionController:
            return self._admission(WRITES, length_max=self._settings.write_queue_max)

        return Forwarding(writership, changes=self.contract.changes, make_admission=make_admission)

    def _make_write_executor(self) -> CallExecutor:
        """Where changes run: checked apart, then in the store's writer; or forwarded to the worker that writes."""
        return self._checks if self._forwarding is None else self._forwarding.executor(self._checks)

    def _make_public_executor(self) -> CallExecutor:
        """Where public methods run: apart, so that who has no token holds up neither reads nor changes of others."""
        if self._forwarding is None:
            return self._public
        pool = FairPool(PUBLIC_FORWARDING_THREADS, name="public-forwarding", length_max=self._settings.public_queue_max)
        return self._forwarding.executor(self._public, pool=pool)

    def _servicers(self) -> dict[str, Any]:
        """The servicer of each service of the contract."""
        store, pages = self.store, self._page_tokens
        return {
            "ProductService": ProductServicer(store, pages),
            "InventoryService": InventoryServicer(store, pages),
            "CustomerService": CustomerServicer(store, pages),
            "OrderService": OrderServicer(store, pages, rules=placing_rules_of(self._settings)),
            "AuthService": self._auth_servicer(),
            "AuditService": AuditServicer(store, pages),
        }

    def _auth_servicer(self) -> AuthServicer:
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
        """Read, and write nothing: both answer, or this raises. A writer that has much to do is not a dead one.

        Where another worker writes, that one is asked about it.
        """
        self.store.check()
        self.store.read(_probe_read)
        if not self.writes:
            return
        try:
            self.store.write(_probe_write, trial=True)
        except Overloaded:
            return

    def install(self, *, keep: Callable[[str], None]) -> bool:
        """Make what has to be there before anyone can call: roles, a signing key, the first administrator.

        Args:
            keep: see `bootstrap_admin`.

        Returns: whether a key was made for the administrator, as at the first start.
        """
        return install(self.access, self.store, keep=keep)

    def start(self) -> str:
        """Listen and serve.

        Returns: the address, with the port that it got.

        Raises: AddressTaken.
        """
        address = self._bind(self._settings.listen)
        self._bind_own(own_address(self._settings, listen=address) if self._worker is None else self._worker.address)
        self._polling.start(
            self._server,
            routes=self._routes,
            streams=self._stream_routes(),
            always=HEALTH_PATHS,
            refusals=self._early_refusals,
        )
        self._guard.start(address)
        self._readiness.start()
        if self._writership is None:
            self._start_rounds()
        else:
            self._writership.start(self._start_rounds)
        log.info("listening", extra={"address": address, "tls": self._credentials is not None})
        return address

    def _start_rounds(self) -> None:
        """Begin what runs by itself, in the process that writes."""
        for job in self._jobs:
            job.start()

    def _stop_rounds(self) -> None:
        for job in reversed(self._jobs):
            job.stop()

    def _bind(self, address: str) -> str:
        """Listen on every address that a name stands for; one that several workers share is reserved already."""
        if address.startswith("unix") or self._worker is not None:
            self._bind_one(address)
            return address
        for one in free_addresses(address):
            port = self._bind_one(one)
        return f"{address.rpartition(':')[0]}:{port}"

    def _bind_one(self, address: str) -> int:
        try:
            if self._credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, self._credentials)
        except RuntimeError:
            raise AddressTaken(address) from None

    def _bind_own(self, address: str) -> None:
        """Listen where only this user's processes can call: other workers, and the health check."""
        others = os.umask(OWNER_ONLY)
        try:
            self._server.add_insecure_port(address)
        except RuntimeError:
            raise AddressTaken(address) from None
        finally:
            os.umask(others)

    @property
    def writes(self) -> bool:
        """Whether this process changes the database itself."""
        return self._writership is None or self._writership.writes

    def report(self) -> Report:
        """How it is, and what it has counted."""
        stored = Counts(commits=self.store.commits, writes=self.store.writes)
        counts = add_counts([self._counts.counts(), stored])
        return Report(state=self._health.state, writes=self.writes, queued=self.store.queued, counts=counts)

    def stop(self, *, replaced: bool = False) -> None:
        """Drain and stop: health says so, calls under way finish, what they wrote is durable.

        Args:
            replaced: another process serves in its place already, so there is nobody to be told.
        """
        log.info("draining", extra={"drain_s": self._settings.drain_s})
        self._readiness.stop()
        if not replaced:
            self._health.drain()
            time.sleep(self._settings.drain_notice_s)
        if self._writership is not None:
            self._stop_rounds()
            self._writership.release(timeout_s=self._settings.drain_s)
        stopped = self._server.stop(self._settings.drain_s)
        self._health.end_watches()
        self._polling.drain()
        stopped.wait()
        self.close()
        log.info("stopped")

    def close(self) -> None:
        """Close what is open, without having served or after it."""
        self._stop_rounds()
        self._guard.stop()
        for pool in (self._reads, self._checks, self._public):
            pool.shutdown(wait=False, cancel_futures=True)
        if self._forwarding is not None:
            self._forwarding.close()
        self.store.close()


def _probe_read(tx: Transaction) -> None:
    tx.connection.execute("SELECT 1 FROM locations LIMIT 1").fetchone()


def _probe_write(tx: Transaction) -> None:
    """Write nothing into the table that every change writes to: that needs the same lock of it."""
    tx.connection.execute("INSERT INTO audit_entries SELECT * FROM audit_entries WHERE FALSE")
    tx.rollback_only = True
