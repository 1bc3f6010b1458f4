"""The settings of a server: one frozen object, read from `STOREKEEP_*` variables and an optional file.

Owns every limit and its default. Variables take precedence over the file. Unknown names are rejected, because a
misspelt setting would otherwise be ignored silently.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Mapping
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from storekeep.server.runtime.database_settings import DatabaseSettings
from storekeep.server.runtime.event_settings import EventSettings
from storekeep.server.runtime.identity_settings import IdentitySettings, find_identity_problems
from storekeep.server.runtime.order_settings import OrderSettings
from storekeep.server.runtime.otel_settings import OtelSettings
from storekeep.server.runtime.personal_data_settings import PersonalDataSettings, find_key_problems
from storekeep.server.runtime.ports import is_host_and_port, is_loopback
from storekeep.server.runtime.price_settings import PriceSettings
from storekeep.server.runtime.secret_strength import BYTES_MIN, is_weak
from storekeep.server.runtime.setting_names import FILE_VARIABLE, OTHER_PREFIX, OTHER_VARIABLES, PREFIX
from storekeep.server.runtime.setting_types import Bytes, Count, DayTime, Interval, Rates, Seconds, Tag, Workers
from storekeep.server.runtime.settings_files import SettingsFile, UnreadableSettings, read_settings_file
from storekeep.server.runtime.settings_problems import describe_problem, describe_unknown
from storekeep.server.runtime.user_settings import UserSettings
from storekeep.server.runtime.webhook_settings import WebhookSettings, find_webhook_problems
from storekeep.server.store.limits import Limits, ReplicaSet
from storekeep.server.store.urls import (
    find_replica_url_problem,
    find_url_problem,
    hide_password,
    make_sqlite_url,
    parse_sqlite_path,
)

SECRETS = frozenset(
    {
        *("STOREKEEP_SECRET", "STOREKEEP_SECRET_PREVIOUS", "STOREKEEP_KEK", "STOREKEEP_KEK_PREVIOUS"),
        *("STOREKEEP_DATABASE_URL", "STOREKEEP_DATABASE_REPLICA_URLS"),
    }
)
"""Variables whose values no message repeats. A URL may contain a password."""
UNIX = ("unix:", "unix-abstract:")
"""Prefixes of the address of a Unix socket."""
BACKUP_INTERVAL_MIN_S = 60
NON_FILE_ORIGINS = frozenset({"command line", "environment", "default"})
"""Origins of a setting other than a settings file."""


class InvalidSettings(Exception):
    """The settings cannot be used.

    Attributes:
        problems: one line for each.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Settings(
    DatabaseSettings,
    OrderSettings,
    PriceSettings,
    WebhookSettings,
    EventSettings,
    PersonalDataSettings,
    OtelSettings,
    UserSettings,
    IdentitySettings,
):
    """All settings. `read_threads` is `STOREKEEP_READ_THREADS` in the environment and `read_threads` in a TOML file."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        env_ignore_empty=True,
    )

    # -- data

    data_dir: Path = Path("var")
    """Store the SQLite database, the server's secret and the first administrator's key in this directory. The default
    is below the working directory, so that a first try leaves nothing elsewhere."""
    database_url: str = Field(default="", repr=False)
    """Connect to this database: `sqlite:///PATH`, or `postgresql://user:password@host/database` with libpq parameters
    such as `?sslmode=verify-full&sslrootcert=ca.pem`. Empty: `storekeep.db` in the data directory."""
    secret: SecretStr = SecretStr("")
    """Use this server secret, at least 32 bytes. It keys page tokens and the stored form of API keys. Empty:
    `secret.key` in the data directory, created at the first start. Change it with `storekeep-server rotate-secret`: a
    server does not start with a secret that the database does not know."""

    default_language: Tag = "en"
    """Language of names and descriptions outside `translations`, as a language tag (BCP 47)."""

    # -- listening

    listen: str = "127.0.0.1:50051"
    """Listen for gRPC on this address: `host:port` or `unix:/path`; port 0 picks a free port. The default is loopback
    because the port is plaintext without TLS files; 50051 is gRPC's customary port."""
    insecure_listen: Literal["", "yes-plaintext"] = ""
    """Set to `yes-plaintext` to allow plaintext beyond loopback, such as behind a proxy that terminates TLS."""
    tls_certificate_file: Path | None = None
    """Serve TLS with this PEM certificate chain. Reloaded when the file changes."""
    tls_private_key_file: Path | None = None
    """PEM private key of `tls_certificate_file`. Reloaded when the file changes."""
    tls_client_ca_file: Path | None = None
    """Require a client certificate from one of these PEM certificate authorities (mTLS)."""
    tls_client_crl_file: Path | None = None
    """Reject calls whose client certificate is in one of these PEM revocation lists (CRL, RFC 5280), issued by the
    authorities of `tls_client_ca_file`. Reloaded when the file changes. Empty: do not check for revocation."""

    # -- concurrency

    read_threads: Count = 4
    """Number of threads that answer reads. On one core, 4 threads answer 8,200 calls/s and 32 answer 6,000. Mutations
    need none: they run in the store's writer. Lists and searches leave one of them to other reads."""
    read_queue_max: Count = 1_000
    """Maximum number of reads that wait for a thread. Further reads are rejected with OVERLOADED."""
    write_queue_max: Count = 1_000
    """Maximum number of writes that wait for the writer. Further writes are rejected with OVERLOADED."""
    public_threads: Count = 2
    """Number of threads that answer methods without a token, such as IssueToken. Each waits for its commit; two threads
    answer some 400 calls a second."""
    public_queue_max: Count = 100
    """Maximum number of calls without a token that wait for a thread. Addresses take turns; beyond the maximum, the
    newest call of the address with the most calls is rejected with OVERLOADED. The default is low so that a caller
    without a token cannot make others wait."""
    bulk_queue_max: Count = 100
    """Maximum number of batches and other bulk changes that wait for one of the two threads that prepare them.
    Addresses take turns; beyond the maximum, the newest call of the address with the most calls is rejected with
    OVERLOADED. Each holds its request meanwhile, of up to `message_size_max_bytes`."""
    queue_wait_max_s: Interval = 0.1
    """Longest wait in a queue, in seconds, that is no sign of overload. When every call waits longer for a while, the
    server is overloaded: it admits only calls that it can serve soon and rejects the others with OVERLOADED. One core
    serves some 250 orders or 700 reads in 0.1 s. A lower value rejects bursts sooner."""
    calls_max: Count = 2_000
    """Maximum number of concurrent unary calls. Further calls are rejected with OVERLOADED. Health checks are always
    admitted. Streams, incomplete requests and unread replies have budgets of their own."""
    grpc_fast_path: Literal["auto", "off"] = "auto"
    """`auto`: serve calls below grpcio's Python layer if this was tested with the installed grpcio. It halves the cost
    of a read, detects overload sooner, and bounds what callers without a token can hold. `off`: let gRPC serve all
    calls, slower and without these budgets."""
    streams_per_connection_max: Count = 1_000
    """Maximum number of concurrent calls on one connection. Further calls wait in the client. Reset streams count until
    they are gone, so a low value fails honest bursts: with 100, two in five of 500 calls at once on a new connection
    failed with UNAVAILABLE. The budgets of incomplete requests and unread replies bound the memory of a connection."""
    message_size_max_bytes: Bytes = 1024 * 1024
    """Maximum size of a request in bytes. 1 MiB by default, because 4 MiB of empty sub-messages cost 240 MiB of memory.
    """
    metadata_size_max_bytes: Bytes = 16 * 1024
    """Maximum size of the metadata of a call in bytes. A token has about 1 KiB."""
    ping_interval_min_s: Interval = 10.0
    """Disconnect clients that send keepalive pings at a shorter interval than this, in seconds. gRPC's default of 300 s
    is too long for load balancers that close connections after 60 idle seconds."""
    workers: Workers = 1
    """Number of worker processes, which share one port and are each pinned to a core; `auto`: one for each core that
    the server may use. With more than one, a supervisor process starts and replaces them. The default is 1 because only
    one worker writes to SQLite."""
    pin_cpu: Annotated[int, Field(ge=0)] | None = None
    """Pin the process to this core. A pinned process answers twice as many calls as one that moves between two cores.
    Empty: not pinned. Only with one worker; several workers are always pinned."""

    # -- limits before a token; each worker has its own

    request_timeout_s: Interval = 10.0
    """Maximum time in seconds for the request of a call to arrive; later the call ends with DEADLINE_EXCEEDED. 10 s
    carry 1 MiB at 1 Mbit/s."""
    unfinished_requests_max_bytes: Annotated[int, Field(ge=1024 * 1024, le=2**40)] = 256 * 1024 * 1024
    """Budget in bytes for all incomplete requests. Each counts as twice `message_size_max_bytes`, so the default allows
    128 of them. Beyond the budget the oldest requests of the address with the most end with OVERLOADED. A request that
    arrives together with its call never counts."""
    unread_replies_max_bytes: Annotated[int, Field(ge=4 * 1024 * 1024, le=2**40)] = 256 * 1024 * 1024
    """Budget in bytes for all replies that callers have not read. Each counts as at least 256 KiB, because its call
    costs memory too. Beyond the budget the address with the most loses its oldest. The default equals the budget of
    incomplete requests and holds 85 of the largest pages."""
    connections_max: Count = 2_000
    """Maximum number of open connections. Further connections are closed at once. Each costs some 40 KiB and a file
    descriptor, of which a process usually has 1,024 to 1,048,576 (`ulimit -n`)."""
    connections_per_address_max: Annotated[int, Field(ge=0, le=1_000_000)] = 500
    """Maximum number of open connections from one IPv4 address or IPv6 /64 network. The newest beyond it are closed
    within a second. The default is a quarter of all connections because many callers share the address of a proxy or
    NAT. 0: no limit, for a proxy that has its own."""
    handshake_timeout_s: Interval = 10.0
    """Maximum time in seconds for a new connection to finish TLS, send the HTTP/2 preface and acknowledge SETTINGS.
    Until then gRPC limits metadata to 16 MiB only; the server still rejects calls beyond `metadata_size_max_bytes`."""
    connection_idle_max_s: Seconds = 900.0
    """Close a connection with GOAWAY after this many seconds without a call. The default of 15 minutes is longer than
    load balancers keep idle connections. 0: never."""
    connection_age_max_s: Seconds = 1_800.0
    """Close a connection with GOAWAY at this age in seconds, with 10 % jitter. Clients reconnect and may reach another
    worker or server, so load spreads again. Reconnecting every 30 minutes costs next to nothing. 0: never."""
    connection_age_grace_s: Interval = 60.0
    """Time in seconds for calls to finish on a connection that is being closed for its age. The default is six times
    the client's default timeout of 10 s."""
    watch_streams_max: Count = 1_000
    """Maximum number of `grpc.health.v1.Health/Watch` streams, some 13 KiB each. Beyond it streams of the address with
    the most end with OVERLOADED. One address may have a quarter of them: a load balancer opens one per process."""
    reflection_streams_max: Count = 32
    """Maximum number of reflection streams per protocol version. Beyond it those idle longest end."""
    reflection_idle_max_s: Interval = 30.0
    """End a reflection stream after this many seconds without a request."""

    # -- shutdown

    drain_notice_s: Seconds = 3.0
    """Time in seconds that health reports NOT_SERVING before new calls are refused: more than two check intervals of
    the load balancer. A single process whose health was not checked for a minute does not wait."""
    drain_s: Seconds = 20.0
    """Maximum time in seconds for running calls to finish during shutdown. Kubernetes gives 30 s by default."""

    # -- authentication

    token_issuer: str = Field(default="storekeep", min_length=1)
    """Claim `iss` of access tokens, issued and required."""
    token_audience: str = Field(default="storekeep", min_length=1)
    """Claim `aud` of access tokens, issued and required."""
    access_token_lifetime_s: Annotated[int, Field(ge=10, le=86_400)] = 600
    """Lifetime of an access token in seconds. Ten minutes bound how long a missed revocation matters."""
    refresh_token_lifetime_s: Annotated[int, Field(ge=60, le=86_400 * 400)] = 86_400
    """Lifetime of a refresh token in seconds: the longest pause between calls of a session. A client that has its API
    key starts a new session automatically."""
    session_lifetime_max_s: Annotated[int, Field(ge=60, le=86_400 * 400)] = 86_400 * 30
    """Maximum lifetime of a session in seconds, however often its tokens are refreshed. The default of 30 days bounds
    the use of a stolen refresh token. A client that has its API key starts a new session automatically."""
    token_cache_max: Count = 10_000
    """Maximum number of verified tokens in the cache. Verifying a token costs 96 µs, a cache hit 1 µs."""
    revocation_poll_s: Interval = 2.0
    """Interval in seconds between checks for revocations by other processes. All processes see one within 5 s."""

    # -- rate limits

    rate_limits_per_address: Rates = "public=100"
    """Maximum calls per second from one IPv4 address or IPv6 /64 network, by class of methods, such as
    `public=100 write=50`. Classes: `public` (no token needed), `read`, `write`, `bulk` (imports, batches,
    reconciliation, verification) and `admin` (accounts, keys, roles, audit). A class that is absent or 0 is unlimited.
    By default only `public` is limited: 100 logins per second exceed what a fleet behind one address needs. Behind a
    proxy all callers share its address: limit there instead."""
    rate_limits_per_key: Rates = ""
    """Maximum calls per second of all sessions of one API key, by class of methods. Empty: no limit, because keys
    belong to internal services."""
    rate_limits_per_account: Rates = ""
    """Maximum calls per second of all keys of one service account, by class of methods. Empty: no limit."""
    rate_limit_burst_s: Interval = 2.0
    """Size of a burst in seconds' worth of calls, allowed after a pause, such as when a whole fleet logs in."""
    rate_limit_buckets_max: Count = 100_000
    """Maximum number of addresses, keys or accounts that each limit tracks, and of keys and tokens that are remembered
    as valid; some 200 bytes each. Beyond it the least recent caller starts again with a full bucket."""
    failed_credentials_burst: Count = 50
    """Number of wrong API keys that one address may try at once; refresh tokens and access tokens are counted
    separately. A mistake in a rollout causes fewer."""
    failed_credentials_per_s: Annotated[float, Field(gt=0, le=1_000_000)] = 1.0
    """Wrong credentials of one kind that an address may try per second after the burst. Further ones are refused
    unread. Other addresses, known valid credentials and calls without that kind of credential are not affected."""

    # -- retention and periodic jobs

    reply_retention_days: Annotated[float, Field(ge=0, le=3650)] = 7.0
    """Number of days that a retry with the same `request_id` gets the stored reply."""
    secret_reply_retention_s: Annotated[float, Field(ge=0, le=86_400)] = 600.0
    """Time in seconds that a retry of a call that created an API key gets its secret, which is stored encrypted until
    then. Later retries are refused with REPLY_EXPIRED. Ten minutes are many times as long as the client retries."""
    maintenance_interval_s: Interval = 60.0
    """Interval in seconds between deletions of expired replies and tokens."""
    expiry_interval_s: Interval = 1.0
    """Interval in seconds between writes of due expiries. Expired stock is available at once, even before the write."""

    # -- audit log and server secret

    secret_previous: SecretStr = SecretStr("")
    """The secret that `STOREKEEP_SECRET` replaces, during a rotation. Empty: `secret.previous.key` in the data
    directory, if it exists."""
    secret_overlap_days: Annotated[float, Field(ge=0, le=3650)] = 30.0
    """Number of days after a rotation of the secret that unused API keys keep working. A key moves to the new secret
    when it is used. The default of 30 days covers monthly jobs."""
    audit_checkpoint_entries: Count = 1_000
    """Sign the head of the audit log after this many new entries, checked every 10 s. With 1,000, a forgery reaches
    back no further than a busy minute."""
    audit_checkpoint_interval_s: Interval = 3_600.0
    """Maximum time in seconds between signatures of the head of the audit log while there are new entries. With
    checkpoints kept elsewhere, at most this much of the log can be truncated undetected."""
    audit_personal_reads: Count = 1_000
    """The audit log records an account that got this many resources with personal data from one process since its last
    record, one by one or in lists, with all its keys and sessions. With 1,000, people who browse leave few entries, and
    copying a shop leaves many."""

    # -- backups of SQLite

    backup_interval_s: Seconds = 0.0
    """Back up the SQLite database this many seconds after the last backup, at least 60. 0: not by interval."""
    backup_time: DayTime = ""
    """Back up the SQLite database every day at this time in UTC, such as `03:30`. Empty: not by time of day. A backup
    that was missed because no server ran is made up for at the next start."""
    backup_dir: Path | None = None
    """Write scheduled backups into this directory, best on another disk. Empty: `backups` in the data directory."""
    backup_keep: Count = 14
    """Number of scheduled backups to keep; older ones are deleted after a new one was verified. The default is two
    weeks of daily backups."""
    backup_keep_days: Annotated[float, Field(ge=0, le=3650)] = 0.0
    """Also delete scheduled backups older than this many days, but never the newest one. 0: only by number."""

    # -- logs, metrics and health

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Log messages of this level and above. INFO logs one line per call."""
    log_file: Path | None = None
    """Append log lines to this file. Empty: standard error."""
    log_queue_max: Count = 10_000
    """Maximum number of log lines that wait to be written. Further lines are dropped and counted, because a call never
    waits for the log."""
    metrics_listen: str = ""
    """Serve `/metrics` (Prometheus), `/healthz` and `/readyz` over HTTP on this address: `host:port`; port 0 picks a
    free port. Empty: disabled by default, because the pages are unauthenticated and reveal sales volume."""
    metrics_insecure_listen: Literal["", "yes-public"] = ""
    """Set to `yes-public` to allow these unauthenticated plain HTTP pages beyond loopback."""
    health_interval_s: Interval = 2.0
    """Interval in seconds between health probes of the database."""
    health_timeout_s: Interval = 1.0
    """Maximum time in seconds for a health probe of the database; after it the server is NOT_SERVING."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the values from `load_settings`, which knows the origin of each."""
        return (init_settings,)

    @cached_property
    def database(self) -> str:
        """Return the URL of the database."""
        return self.database_url or make_sqlite_url(self.data_dir / "storekeep.db")

    @property
    def configured_secrets(self) -> tuple[bytes, ...]:
        """Return the current and the previous server secret from the settings; empty if a file holds them."""
        secrets = (self.secret.get_secret_value().encode(), self.secret_previous.get_secret_value().encode())
        return tuple(filter(None, secrets)) if secrets[0] else ()

    @property
    def database_limits(self) -> Limits:
        """Return the connection limits and timeouts of the database."""
        return Limits(*(getattr(self, f"database_{field.name}") for field in fields(Limits)))

    @property
    def database_replicas(self) -> ReplicaSet:
        """Return the replicas of the database."""
        return ReplicaSet(*(getattr(self, f"database_replica_{field.name}") for field in fields(ReplicaSet)))

    @property
    def backups_dir(self) -> Path:
        """Return the directory of scheduled backups."""
        return self.backup_dir or self.data_dir / "backups"

    @property
    def personal_reads_dir(self) -> Path:
        """Return the directory in which workers leave counts of bulk reads to the leader."""
        return self.data_dir / "personal-reads"

    @property
    def workers_dir(self) -> Path:
        """Return the directory of the Unix sockets of several workers."""
        return self.data_dir / "workers"

    @property
    def uses_tls(self) -> bool:
        """Return whether the gRPC port uses TLS."""
        return self.tls_certificate_file is not None


class LoadedSettings:
    """Settings with the origin of each.

    Attributes:
        settings: the effective settings.
        origins: name of the setting -> `command line`, `environment`, `default`, or the path of the settings file.
        arguments: settings from the command line, by name.
    """

    def __init__(self, settings: Settings, origins: dict[str, str], arguments: Mapping[str, str]) -> None:
        self.settings = settings
        self.origins = origins
        self.arguments = arguments

    def replace_settings(self, values: Mapping[str, Any]) -> LoadedSettings:
        """Return a copy with these settings replaced, by name."""
        return LoadedSettings(self.settings.model_copy(update=values), self.origins, self.arguments)

    def lines(self) -> Iterator[str]:
        """Yield one `NAME=value` line per setting, secrets masked, with its origin as a comment."""
        for name in Settings.model_fields:
            value = getattr(self.settings, name)
            if name == "database_url" and value:
                value = value if parse_sqlite_path(value) else hide_password(value)
            if name == "database_replica_urls":
                value = " ".join(hide_password(url) for url in value)
            yield f"{PREFIX}{name.upper()}={'' if value is None else value}  # {self.origins[name]}"


def load_settings(
    environment: Mapping[str, str] | None = None, *, arguments: Mapping[str, str] | None = None
) -> LoadedSettings:
    """Load the settings from the command line, the environment, the settings file and the defaults, in this order.

    Args:
        environment: the variables (default: those of the process).
        arguments: settings from the command line, by name.

    Raises: InvalidSettings with every problem.
    """
    variables = os.environ if environment is None else environment
    file = variables.get(FILE_VARIABLE, "")
    settings_file = _read_file(Path(file)) if file else SettingsFile({}, {})
    from_file = settings_file.values
    from_environment = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in variables.items()
        if name.startswith(PREFIX) and not name.startswith(OTHER_PREFIX) and name not in OTHER_VARIABLES and value
    }
    known = Settings.model_fields
    unknown = [
        *(describe_unknown(f"{PREFIX}{name.upper()}", name, known) for name in from_environment if name not in known),
        *(describe_unknown(place, name, known) for name, place in settings_file.places.items() if name not in known),
    ]
    if unknown:
        raise InvalidSettings(unknown)
    from_arguments = dict(arguments or {})
    settings = _validate({**from_file, **from_environment, **from_arguments}, arguments=from_arguments)
    origins = dict.fromkeys(Settings.model_fields, "default")
    origins |= dict.fromkeys(from_file, file) | dict.fromkeys(from_environment, "environment")
    return LoadedSettings(settings, origins | dict.fromkeys(from_arguments, "command line"), from_arguments)


def changed_settings(old: Settings, new: Settings) -> list[str]:
    """Return the variable names of the settings that differ."""
    return [f"{PREFIX}{name.upper()}" for name in Settings.model_fields if getattr(old, name) != getattr(new, name)]


def _validate(values: dict[str, Any], *, arguments: Container[str]) -> Settings:
    try:
        settings = Settings(**values)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise InvalidSettings([_describe_problem(problem, arguments) for problem in problems]) from None
    contradictions = list(_find_contradictions(settings))
    if contradictions:
        raise InvalidSettings(contradictions)
    return settings


def _describe_problem(problem: Any, arguments: Container[str]) -> str:
    setting = str(problem["loc"][0])
    name = f"--{setting}" if setting in arguments else f"{PREFIX}{setting.upper()}"
    value = "" if name in SECRETS else f", not {problem['input']!r}"
    return f"{name}: {describe_problem(problem, setting)}{value}"


def _read_file(path: Path) -> SettingsFile:
    """Read a settings file.

    Raises: InvalidSettings.
    """
    try:
        return read_settings_file(path, prefix=PREFIX)
    except FileNotFoundError:
        raise InvalidSettings([f"{FILE_VARIABLE}: there is no file {path}"]) from None
    except UnreadableSettings as error:
        raise InvalidSettings(error.problems) from None


def _find_contradictions(settings: Settings) -> Iterator[str]:
    """Yield a line for each combination of valid settings that cannot work together."""
    problem = find_url_problem(settings.database)
    if problem:
        yield f"STOREKEEP_DATABASE_URL: {problem}"
    yield from _check_replicas(settings)
    secret = settings.secret.get_secret_value().encode()
    previous = settings.secret_previous.get_secret_value().encode()
    if previous and is_weak(previous):
        yield "STOREKEEP_SECRET_PREVIOUS: too weak; no server has accepted this secret"
    if previous and not secret:
        yield "STOREKEEP_SECRET_PREVIOUS needs STOREKEEP_SECRET, the secret that replaces it"
    if secret and is_weak(secret):
        yield f"STOREKEEP_SECRET: too weak; use {BYTES_MIN} random bytes, such as from: openssl rand -hex 32"
    if (settings.tls_certificate_file is None) != (settings.tls_private_key_file is None):
        yield "STOREKEEP_TLS_CERTIFICATE_FILE and STOREKEEP_TLS_PRIVATE_KEY_FILE go together; one is missing"
    if settings.tls_client_ca_file and not settings.uses_tls:
        yield "STOREKEEP_TLS_CLIENT_CA_FILE needs STOREKEEP_TLS_CERTIFICATE_FILE"
    if settings.tls_client_crl_file and not settings.tls_client_ca_file:
        yield "STOREKEEP_TLS_CLIENT_CRL_FILE needs STOREKEEP_TLS_CLIENT_CA_FILE"
    yield from _check_listen(settings)
    yield from _check_workers(settings)
    yield from _check_metrics(settings)
    yield from _check_backups(settings)
    yield from find_webhook_problems(settings)
    yield from find_key_problems(settings)
    yield from find_identity_problems(settings)
    if settings.oidc_issuer and settings.oidc_issuer == settings.token_issuer:
        yield "STOREKEEP_OIDC_ISSUER: must not be STOREKEEP_TOKEN_ISSUER, whose tokens are this server's own"


def _check_backups(settings: Settings) -> Iterator[str]:
    if settings.backup_interval_s and settings.backup_time:
        yield "STOREKEEP_BACKUP_INTERVAL_S and STOREKEEP_BACKUP_TIME exclude each other; set one"
    if 0 < settings.backup_interval_s < BACKUP_INTERVAL_MIN_S:
        yield f"STOREKEEP_BACKUP_INTERVAL_S: must be at least {BACKUP_INTERVAL_MIN_S} seconds, or 0"
    if (settings.backup_interval_s or settings.backup_time) and parse_sqlite_path(settings.database) is None:
        yield "STOREKEEP_BACKUP_INTERVAL_S, STOREKEEP_BACKUP_TIME: only for SQLite; schedule pg_dump or pg_basebackup"


def _check_workers(settings: Settings) -> Iterator[str]:
    if settings.workers != 1 and settings.pin_cpu is not None:
        yield "STOREKEEP_PIN_CPU: only with one worker; several workers are always pinned to cores"
    if settings.workers != 1 and settings.listen.startswith("unix"):
        yield f"STOREKEEP_LISTEN: several workers cannot share {settings.listen}; use host:port or one worker"


def _check_metrics(settings: Settings) -> Iterator[str]:
    address = settings.metrics_listen
    if not address:
        return
    if not is_host_and_port(address):
        yield f"STOREKEEP_METRICS_LISTEN: {address!r} is not host:port"
    elif not (settings.metrics_insecure_listen or is_loopback(address)):
        yield (
            f"STOREKEEP_METRICS_LISTEN: {address} is not loopback, and the pages are unauthenticated; "
            "set STOREKEEP_METRICS_INSECURE_LISTEN=yes-public to allow this"
        )


def _check_replicas(settings: Settings) -> Iterator[str]:
    name = "STOREKEEP_DATABASE_REPLICA_URLS"
    if settings.database_replica_urls and parse_sqlite_path(settings.database):
        yield f"{name}: SQLite has no replicas; set STOREKEEP_DATABASE_URL to a PostgreSQL database"
    for number, url in enumerate(settings.database_replica_urls, start=1):
        problem = find_replica_url_problem(url)
        if problem:
            yield f"{name}: URL {number}: {problem}"


def _check_listen(settings: Settings) -> Iterator[str]:
    if not is_address(settings.listen):
        yield f"STOREKEEP_LISTEN: {settings.listen!r} is neither host:port nor unix:/path"
    elif settings.listen.startswith(UNIX):
        return
    elif not (settings.uses_tls or settings.insecure_listen or is_loopback(settings.listen)):
        yield (
            f"STOREKEEP_LISTEN: {settings.listen} is not loopback, and keys would travel in plaintext; "
            "set the TLS files, or STOREKEEP_INSECURE_LISTEN=yes-plaintext behind a proxy that terminates TLS"
        )


def is_address(address: str) -> bool:
    """Return whether `address` can be listened on: `host:port` or the address of a Unix socket."""
    return address.startswith(UNIX) or is_host_and_port(address)
