"""The settings of one server: a single frozen object, from `STOREKEEP_*` variables and one file.

Owns every limit and its default. Refuses a name that it does not know, since a misspelt setting would
otherwise be a setting that is silently not made. The environment comes before the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from storekeep.server.runtime.ports import is_host_and_port, is_loopback
from storekeep.server.runtime.secret_strength import BYTES_MIN, is_weak
from storekeep.server.runtime.settings_files import SettingsFile, UnreadableSettings, read_settings_file
from storekeep.server.store.limits import Limits, ReplicaSet
from storekeep.server.store.urls import problem_of, problem_of_replica, shown, sqlite_path, sqlite_url

PREFIX = "STOREKEEP_"
FILE_VARIABLE = "STOREKEEP_CONFIG_FILE"
"""Names the settings file: TOML when it ends in `.toml`, otherwise lines of `STOREKEEP_NAME=value`."""
VARIABLES_OF_OTHERS = frozenset(
    {
        FILE_VARIABLE,
        "STOREKEEP_ADDRESS",
        "STOREKEEP_API_KEY",
        "STOREKEEP_CLI_CA_FILE",
        "STOREKEEP_CLI_CERT_FILE",
        "STOREKEEP_CLI_KEY_FILE",
        "STOREKEEP_DEBUG",
        "STOREKEEP_HTTP_LISTEN",
        "STOREKEEP_LOGIN_FILE",
        "STOREKEEP_REAL_DATA",
    }
)
"""What the client, the command line, the gateway and the tests read from the same environment."""
SECRETS = frozenset(
    {"STOREKEEP_SECRET", "STOREKEEP_SECRET_PREVIOUS", "STOREKEEP_DATABASE_URL", "STOREKEEP_DATABASE_REPLICA_URLS"}
)
"""What no message repeats: a URL may have a password."""
UNIX = ("unix:", "unix-abstract:")
"""How the address of a Unix socket begins."""
ELSEWHERE = frozenset({"command line", "environment", "default"})
"""Where a setting can come from but a settings file."""
WORKERS_MAX = 256

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Seconds = Annotated[float, Field(ge=0, le=86_400 * 365)]
Interval = Annotated[float, Field(gt=0, le=86_400)]
Bytes = Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)]


def _cores_if_auto(given: Any) -> Any:
    return len(os.sched_getaffinity(0)) if given == "auto" else given


def _words(value: Any) -> Any:
    """A list as one variable of the environment has it: its parts with spaces between."""
    return tuple(value.split()) if isinstance(value, str) else value


RATES = r"^( *(public|read|write|bulk|admin)=[0-9]{1,7}(\.[0-9]{1,3})?)*$"
ORDER_NUMBERS = r"^[A-Za-z0-9_./-]{0,20}\{sequence(:0[1-9][0-9]?d)?\}[A-Za-z0-9_./-]{0,20}$"
PATTERN_WORDS = {
    RATES: "must be rates by class (public, read, write, bulk, admin), such as `read=2000 write=500`",
    ORDER_NUMBERS: "must have {sequence}, or {sequence:08d} for eight digits, and up to 20 letters, digits and _./- "
    "before and after it",
}
"""What a setting that does not match its pattern is told."""
Rates = Annotated[str, Field(pattern=RATES)]
"""Calls a second by class of methods, such as `public=100 write=50`."""
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]


class InvalidSettings(Exception):
    """The settings cannot be used.

    Attributes:
        problems: one line each.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Settings(BaseSettings):
    """All settings; each is `STOREKEEP_` and its name in capitals in the environment, its name in a TOML file."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        env_ignore_empty=True,
    )

    # -- where things are

    data_dir: Path = Path("var")
    """Folder of the database, the server's secret and the first admin's key. Below the working directory, so that a
    first try leaves nothing elsewhere."""
    database_url: str = Field(default="", repr=False)
    """The database: `sqlite:///` and a path, or `postgresql://user:password@host/database` with libpq's parameters,
    such as `?sslmode=verify-full&sslrootcert=ca.pem`. Empty: `storekeep.db`, of SQLite, in the data directory."""
    secret: SecretStr = SecretStr("")
    """The server's secret, at least 32 bytes: keys page tokens and the stored form of API keys. Empty: `secret.key` in
    the data directory, made on the first start. To change it, see `storekeep-server
    rotate-secret`: without that, no server starts with another one."""

    # -- where it listens

    listen: str = "127.0.0.1:50051"
    """Address of the gRPC port: `host:port` or `unix:/path`; port 0 takes a free one. Loopback, as it is plaintext
    without TLS files; 50051 is gRPC's customary port."""
    insecure_listen: Literal["", "yes-plaintext"] = ""
    """`yes-plaintext` allows plaintext on an address that others can reach, as behind a proxy that ends TLS."""
    tls_certificate_file: Path | None = None
    """PEM certificate chain of the server; with it the port speaks TLS. Read again when it changes."""
    tls_private_key_file: Path | None = None
    """PEM private key of that certificate. Read again when it changes."""
    tls_client_ca_file: Path | None = None
    """PEM certificates of who may issue client certificates; with it a client must show one (mTLS)."""
    tls_client_crl_file: Path | None = None
    """PEM lists of revoked client certificates (CRL, RFC 5280) by those who issue them; calls with one of those are
    refused. Read again when it changes. Empty: none are looked for."""

    # -- how much it does at once

    read_threads: Count = 4
    """Threads that answer reads. Measured: on one core 4 threads answer 8,200 calls/s, 32 only 6,000. Mutations need
    none: they run in the store's writer."""
    read_queue_max: Count = 1_000
    """Reads that may wait for a thread; further ones are rejected with OVERLOADED."""
    write_queue_max: Count = 1_000
    """Writes that may wait for the writer; further ones are rejected with OVERLOADED."""
    public_threads: Count = 2
    """Threads that answer the methods which need no token, such as IssueToken; each waits for its commit. Two answer
    some 400 a second."""
    public_queue_max: Count = 100
    """Calls of these methods that may wait for such a thread. Addresses take turns; beyond it the newest call of the
    address with the most is rejected with OVERLOADED. Few, so that a caller without a token cannot make others wait."""
    queue_wait_max_s: Interval = 0.1
    """How long calls may wait for their turn. When all wait longer for a while, the server is overloaded: it admits
    only calls that are served soon and rejects the others with OVERLOADED. On one core 0.1 s is the turn of some 250
    orders or 700 reads; a lower value rejects bursts sooner."""
    calls_max: Count = 2_000
    """Unary calls under way at once; beyond it further ones are shed with OVERLOADED. Health checks are not shed, calls
    whose request or reply is on its way have budgets of their own, and so have streams."""
    grpc_fast_path: Literal["auto", "off"] = "auto"
    """`auto`: calls take a path below grpcio's Python layer, where it was tested with the installed grpcio. It halves
    the cost of a read, notices overload sooner, and bounds what callers without a token can hold. `off`: gRPC serves
    all calls itself, slower and without those budgets."""
    streams_per_connection_max: Count = 1_000
    """Calls under way at once on one connection; further ones wait in the client. Streams that are reset count until
    they are gone, so fewer refuse honest bursts: with 100, of 500 calls at once on a new connection two in five failed
    as UNAVAILABLE. What one connection can hold is bounded by the budgets of calls that are incomplete or unread."""
    message_size_max_bytes: Bytes = 1024 * 1024
    """Of one request. 4 MiB of empty sub-messages cost 240 MiB of memory, so it is 1 MiB."""
    metadata_size_max_bytes: Bytes = 16 * 1024
    """Of the metadata of one request: a token has about 1 KiB."""
    ping_interval_min_s: Interval = 10.0
    """A client that sends keepalive pings more often than this is disconnected; gRPC's own default is 300 s, too long
    for the load balancers that drop idle connections after 60 s."""
    workers: Annotated[int, Field(ge=1, le=WORKERS_MAX), BeforeValidator(_cores_if_auto)] = 1
    """Processes that answer calls, all on one port, each on a core of its own; or `auto`: one for each core that
    the server may use. With more than one, another process starts and replaces them. One, as on SQLite only one
    writes."""
    pin_cpu: Annotated[int, Field(ge=0)] | None = None
    """The core that the process stays on. Measured: a pinned process answers twice as many calls as one that roams two
    cores. Empty: it roams. Only with one worker: several are each on their own core anyhow."""

    # -- how much it takes from whoever has not shown a token; each worker has limits of its own

    request_timeout_s: Interval = 10.0
    """How long the request of a call may take to arrive; later the call ends with DEADLINE_EXCEEDED. 10 s carry 1 MiB
    at 1 Mbit/s."""
    unfinished_requests_max_bytes: Annotated[int, Field(ge=1024 * 1024, le=2**40)] = 256 * 1024 * 1024
    """Of all requests that have begun to arrive and are incomplete. Each counts as twice `message_size_max_bytes`, so
    there may be 128; beyond it those of the address that has most end with OVERLOADED, the oldest first. A request that
    came with its call is complete at once and never meets this limit."""
    unread_replies_max_bytes: Annotated[int, Field(ge=4 * 1024 * 1024, le=2**40)] = 256 * 1024 * 1024
    """Of all replies that their callers have not read yet. Each counts as at least 256 KiB, as its call costs memory
    too; beyond it the address that has most loses its oldest. As much as of incomplete requests: 85 of the largest
    pages."""
    connections_max: Count = 2_000
    """Connections at once; further ones are closed as they come. Each costs some 40 KiB, and a file descriptor, of
    which a process commonly has 1,024 to 1,048,576 (`ulimit -n`)."""
    connections_per_address_max: Annotated[int, Field(ge=0, le=1_000_000)] = 500
    """Connections at once from one IPv4 address or IPv6 /64; the newest beyond it are closed within a second. A quarter
    of all, as behind a proxy or NAT many callers have one address. 0: no limit, as behind a proxy that has its own."""
    handshake_timeout_s: Interval = 10.0
    """How long a new connection may take for TLS and for HTTP/2's preface, and to acknowledge the server's settings.
    Until it has, gRPC holds it to no limit of metadata but 16 MiB; calls with more than `metadata_size_max_bytes` are
    refused all the same."""
    connection_idle_max_s: Seconds = 900.0
    """How long a connection may have no call; then it is closed in good order (GOAWAY). A quarter of an hour, more than
    the balancers keep one that is idle. 0: for ever."""
    connection_age_max_s: Seconds = 1_800.0
    """How long a connection may last; then it is closed in good order (GOAWAY) and clients make another, which may
    reach another worker or server: otherwise they would never move. Half an hour, give or take a tenth, costs nothing.
    0: for ever."""
    connection_age_grace_s: Interval = 60.0
    """How long calls under way on such a connection may take to finish: twice what a client waits by default."""
    watch_streams_max: Count = 1_000
    """Streams of `grpc.health.v1.Health/Watch`, some 13 KiB each; beyond it those of the address with most end with
    OVERLOADED. One address may have a quarter of them: a balancer has one for each of its processes."""
    reflection_streams_max: Count = 32
    """Streams of reflection, of each version; beyond it those idle longest end. Tools need one for a moment."""
    reflection_idle_max_s: Interval = 30.0
    """How long such a stream may ask nothing."""

    # -- how it talks to PostgreSQL; SQLite has nothing of this

    database_pool_size: Count = 14
    """Connections for reads, of each process, opened at the start; one more writes. All but six, of which two are for
    large replies and two for logins, are for calls that read at the same time: eight keep a core busy where an answer
    of the database takes eight times what it costs us."""
    database_pool_timeout_s: Interval = 2.0
    """How long a read waits for one of them when all are in use."""
    database_connect_timeout_s: Interval = 5.0
    """How long a new connection may take; a call waits no longer than its own deadline."""
    database_statement_timeout_s: Interval = 15.0
    """How long one statement may take, where the call's deadline is not sooner: three times what a page of the largest
    lists takes, and within the 30 s that a client waits by default."""
    database_lock_timeout_s: Interval = 5.0
    """How long writes wait for those of other processes, which take turns of some milliseconds each."""
    database_pooler: bool = False
    """Whether a pooler in transaction mode, such as PgBouncer, stands before PostgreSQL. Then connections ask for no
    startup options and prepare no statements by name, as both belong to a connection that others get next."""
    database_replica_urls: Words = Field(default=(), repr=False)
    """Replicas of the database that may answer reads which allow an old answer (`max_staleness`): URLs of PostgreSQL
    with spaces between, in TOML a list; each names one server. Empty: the primary answers all."""
    database_replica_pool_size: Count = 8
    """Connections for reads to each replica, of each process, opened when needed; one more watches it. A read for which
    none is free goes to the primary. As many as to the primary."""
    database_replica_interval_s: Interval = 0.25
    """How often primary and replicas are asked how much of the ledger they have. A replica is taken for as old as the
    answers about it are, so reads that allow less than twice this mostly go to the primary."""

    # -- how it ends

    drain_notice_s: Seconds = 0.0
    """How long health says NOT_SERVING before new calls are refused: two checks of the load balancer, where there is
    one."""
    drain_s: Seconds = 20.0
    """How long calls under way may take to finish once it stops; within the 30 s that Kubernetes gives."""

    # -- who may call

    token_issuer: str = Field(default="storekeep", min_length=1)
    """`iss` of the tokens that it issues and takes."""
    token_audience: str = Field(default="storekeep", min_length=1)
    """`aud` of the tokens that it issues and takes."""
    access_token_lifetime_s: Annotated[int, Field(ge=10, le=86_400)] = 600
    """Of an access token: ten minutes, as what a revocation misses by then ends by itself."""
    refresh_token_lifetime_s: Annotated[int, Field(ge=60, le=86_400 * 400)] = 86_400
    """Of a refresh token: a day without a call. A client with its API key begins a new session by itself."""
    session_lifetime_max_s: Annotated[int, Field(ge=60, le=86_400 * 400)] = 86_400 * 30
    """Of a session, however often its tokens are refreshed: a month, so that a stolen refresh token ends by itself. A
    client with its API key begins a new session by itself."""
    token_cache_max: Count = 10_000
    """Verified tokens that are remembered; verifying one costs 96 µs, finding it 1 µs."""
    revocation_poll_s: Interval = 2.0
    """How often revocations by other processes are looked for; seen by all within 5 s."""

    # -- orders

    order_number_format: str = Field(
        default="SK-{sequence:08d}",
        pattern=ORDER_NUMBERS,
    )
    """The number of a new order, in which `{sequence}` is its place in the ledger, and `{sequence:08d}` that with
    zeros before it, so that eight digits are as long. Change it only to what cannot give a number again."""
    unpaid_order_ttl_s: Annotated[int, Field(ge=0, le=86_400 * 365)] = 86_400
    """How long an order may stay PLACED before it expires and its stock can be sold again. A day, as a customer who
    pays by bank transfer needs it. 0: orders never expire."""

    # -- rate limits

    rate_limits_per_address: Rates = "public=100"
    """Calls a second from one IPv4 address or IPv6 /64 network, by class of methods, such as `public=100 write=50`:
    `public` (no token needed), `read`, `write`, `bulk` (imports, batches, reconciliation, verification) and `admin`
    (accounts, keys, roles, audit). A class that is not named, or has 0, has no limit. Only public ones have: a hundred
    logins a second are more than a fleet behind one address needs. Behind a proxy all callers share its address: limit
    there instead."""
    rate_limits_per_key: Rates = ""
    """The same for all sessions of one API key together. None: keys belong to services that may use all there is."""
    rate_limits_per_account: Rates = ""
    """The same for all keys of one service account together."""
    rate_limit_burst_s: Interval = 2.0
    """How many seconds' worth of calls may come at once after a pause, as when a whole fleet logs in."""
    rate_limit_buckets_max: Count = 100_000
    """Addresses, keys or accounts that each limit knows at a time, and keys and tokens that are known to be right; one
    takes some 200 bytes. Beyond it the one that called least recently begins anew."""
    failed_credentials_burst: Count = 50
    """Wrong API keys that one address may try at once, and as many refresh tokens and access tokens: more than a
    mistake in a roll-out makes."""
    failed_credentials_per_s: Annotated[float, Field(gt=0, le=1_000_000)] = 1.0
    """How many of them a second from then on; further ones are refused unread. Other addresses are not affected, nor
    keys and tokens that the process knows to be right, nor calls that show no credential of that kind."""

    # -- what it keeps

    reply_retention_days: Annotated[float, Field(ge=0, le=3650)] = 7.0
    """How long a retry with the same `request_id` is answered as before."""
    secret_reply_retention_s: Annotated[float, Field(ge=0, le=86_400)] = 600.0
    """How long a retry that made an API key is answered with its secret: ten minutes, many times as long as a client
    tries again by itself. Until then the secret is kept, encrypted; a later retry is refused with REPLY_EXPIRED."""
    maintenance_interval_s: Interval = 60.0
    """How often expired replies and tokens are removed."""
    expiry_interval_s: Interval = 1.0
    """How often reservations past their time are written down as expired; their stock counts as available before."""

    # -- the audit log, and the server's secret

    secret_previous: SecretStr = SecretStr("")
    """The secret before `STOREKEEP_SECRET`, while one replaces the other. Empty: `secret.previous.key` in the data
    directory, where that is there."""
    secret_overlap_days: Annotated[float, Field(ge=0, le=3650)] = 30.0
    """How long API keys work that were not used since the server's secret was rotated; used ones move to the new
    secret. A month, as some jobs run monthly."""
    audit_checkpoint_entries: Count = 1_000
    """New audit entries after which the head of the log is signed, looked at every 10 s. A thousand take an attacker's
    forgery back no further than a busy minute."""
    audit_checkpoint_interval_s: Interval = 3_600.0
    """How often the head of the audit log is signed at least, where there are new entries. An hour bounds what can be
    cut off unseen by who compares with a checkpoint kept elsewhere."""

    # -- what it tells

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least level that is logged. INFO has one line per call."""
    log_file: Path | None = None
    """File that log lines are added to. Empty: standard error."""
    log_queue_max: Count = 10_000
    """Log lines that wait to be written; beyond it they are dropped and counted, as a call never waits for the log."""
    metrics_listen: str = ""
    """Address of the pages `/metrics` (Prometheus), `/healthz` and `/readyz`: `host:port`; port 0 takes a free one.
    Empty: there are none, as they ask nobody who he is and show how much is sold."""
    metrics_insecure_listen: Literal["", "yes-public"] = ""
    """`yes-public` allows those pages on an address that others can reach: they are plain HTTP and unauthenticated."""
    health_interval_s: Interval = 2.0
    """How often the database is asked whether it answers."""
    health_timeout_s: Interval = 1.0
    """How long it may take to answer before the server is NOT_SERVING."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load_settings` gathered, so that it can say where each value came from."""
        return (init_settings,)

    @cached_property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or sqlite_url(self.data_dir / "storekeep.db")

    @property
    def given_secrets(self) -> tuple[bytes, ...]:
        """Return the server's secret and the one before it, as the settings give them; empty when a file has them."""
        given = (self.secret.get_secret_value().encode(), self.secret_previous.get_secret_value().encode())
        return tuple(filter(None, given)) if given[0] else ()

    @property
    def database_limits(self) -> Limits:
        """Return the limits of a database that is reached over a network."""
        return Limits(
            pool_size=self.database_pool_size,
            pool_timeout_s=self.database_pool_timeout_s,
            connect_timeout_s=self.database_connect_timeout_s,
            statement_timeout_s=self.database_statement_timeout_s,
            lock_timeout_s=self.database_lock_timeout_s,
            pooler=self.database_pooler,
        )

    @property
    def database_replicas(self) -> ReplicaSet:
        """Return the replicas of the database."""
        return ReplicaSet(
            urls=self.database_replica_urls,
            pool_size=self.database_replica_pool_size,
            interval_s=self.database_replica_interval_s,
        )

    @property
    def workers_dir(self) -> Path:
        """Folder of the workers' own sockets, where there are several."""
        return self.data_dir / "workers"

    @property
    def uses_tls(self) -> bool:
        """Whether the port speaks TLS."""
        return self.tls_certificate_file is not None


class LoadedSettings:
    """Settings and where each came from.

    Attributes:
        settings: what is in force.
        origins: setting -> `command line`, `environment`, the settings file's path, or `default`.
        arguments: those that the command line gave.
    """

    def __init__(self, settings: Settings, origins: dict[str, str], arguments: Mapping[str, str]) -> None:
        self.settings = settings
        self.origins = origins
        self.arguments = arguments

    def with_settings(self, values: Mapping[str, Any]) -> LoadedSettings:
        """The same but for some settings, by their names."""
        return LoadedSettings(self.settings.model_copy(update=values), self.origins, self.arguments)

    def lines(self) -> Iterator[str]:
        """One line per setting, secrets masked, as an environment file would have it, with the origin behind."""
        for name in Settings.model_fields:
            value = getattr(self.settings, name)
            if name == "database_url" and value:
                value = value if sqlite_path(value) else shown(value)
            if name == "database_replica_urls":
                value = " ".join(shown(url) for url in value)
            yield f"{PREFIX}{name.upper()}={'' if value is None else value}  # {self.origins[name]}"


def load_settings(
    environment: Mapping[str, str] | None = None, *, arguments: Mapping[str, str] | None = None
) -> LoadedSettings:
    """The settings in force.

    Args:
        environment: the variables; those of the process when not given.
        arguments: what the command line says, by the settings' names; it comes before all else.

    Raises: InvalidSettings, with every problem there is.
    """
    variables = os.environ if environment is None else environment
    file = variables.get(FILE_VARIABLE, "")
    read = _read_file(Path(file)) if file else SettingsFile({}, {})
    from_file = read.values
    from_environment = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in variables.items()
        if name.startswith(PREFIX) and name not in VARIABLES_OF_OTHERS and value
    }
    unknown = [
        *(f"{PREFIX}{name.upper()}: no such setting" for name in from_environment if name not in Settings.model_fields),
        *(
            f"{place}: no such setting: {name}"
            for name, place in read.places.items()
            if name not in Settings.model_fields
        ),
    ]
    if unknown:
        raise InvalidSettings(unknown)
    given = dict(arguments or {})
    settings = _validated({**from_file, **from_environment, **given})
    origins = dict.fromkeys(Settings.model_fields, "default")
    origins |= dict.fromkeys(from_file, file) | dict.fromkeys(from_environment, "environment")
    return LoadedSettings(settings, origins | dict.fromkeys(given, "command line"), given)


def changed_settings(old: Settings, new: Settings) -> list[str]:
    """The names of the settings that differ, as variables."""
    return [f"{PREFIX}{name.upper()}" for name in Settings.model_fields if getattr(old, name) != getattr(new, name)]


def _validated(values: dict[str, Any]) -> Settings:
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise InvalidSettings([_line(problem) for problem in error.errors(include_url=False)]) from None
    problems = list(_contradictions(settings))
    if problems:
        raise InvalidSettings(problems)
    return settings


def _line(problem: Any) -> str:
    name = f"{PREFIX}{str(problem['loc'][0]).upper()}"
    given = "" if name in SECRETS else f" (it is {problem['input']!r})"
    if problem["type"] == "string_pattern_mismatch":
        return f"{name}: {PATTERN_WORDS[problem['ctx']['pattern']]}{given}"
    return f"{name}: {problem['msg'][0].lower()}{problem['msg'][1:]}{given}"


def _read_file(path: Path) -> SettingsFile:
    """What a settings file says.

    Raises: InvalidSettings.
    """
    if not (path.is_file() or path.is_fifo()):
        raise InvalidSettings([f"{FILE_VARIABLE}: there is no file {path}"])
    try:
        return read_settings_file(path, prefix=PREFIX)
    except UnreadableSettings as error:
        raise InvalidSettings(error.problems) from None


def _contradictions(settings: Settings) -> Iterator[str]:
    """What is wrong with settings that are each right by themselves."""
    problem = problem_of(settings.database)
    if problem:
        yield f"STOREKEEP_DATABASE_URL: {problem}"
    yield from _replica_problems(settings)
    secret = settings.secret.get_secret_value().encode()
    previous = settings.secret_previous.get_secret_value().encode()
    if previous and is_weak(previous):
        yield "STOREKEEP_SECRET_PREVIOUS: too weak; it is no secret that a server has taken"
    if previous and not secret:
        yield "STOREKEEP_SECRET_PREVIOUS needs STOREKEEP_SECRET, the secret that replaces it"
    if secret and is_weak(secret):
        yield f"STOREKEEP_SECRET: too weak; it takes {BYTES_MIN} random bytes, as from: openssl rand -hex 32"
    if (settings.tls_certificate_file is None) != (settings.tls_private_key_file is None):
        yield "STOREKEEP_TLS_CERTIFICATE_FILE and STOREKEEP_TLS_PRIVATE_KEY_FILE go together; one is missing"
    if settings.tls_client_ca_file and not settings.uses_tls:
        yield "STOREKEEP_TLS_CLIENT_CA_FILE needs STOREKEEP_TLS_CERTIFICATE_FILE"
    if settings.tls_client_crl_file and not settings.tls_client_ca_file:
        yield "STOREKEEP_TLS_CLIENT_CRL_FILE needs STOREKEEP_TLS_CLIENT_CA_FILE"
    yield from _listen_problems(settings)
    yield from _worker_problems(settings)
    yield from _metrics_problems(settings)


def _worker_problems(settings: Settings) -> Iterator[str]:
    if settings.workers != 1 and settings.pin_cpu is not None:
        yield "STOREKEEP_PIN_CPU: only with one worker; several are each on a core of their own anyhow"
    if settings.workers != 1 and settings.listen.startswith("unix"):
        yield f"STOREKEEP_LISTEN: several workers cannot share {settings.listen}; give host:port, or one worker"


def _metrics_problems(settings: Settings) -> Iterator[str]:
    address = settings.metrics_listen
    if not address:
        return
    if not is_host_and_port(address):
        yield f"STOREKEEP_METRICS_LISTEN: {address!r} is not host:port"
    elif not (settings.metrics_insecure_listen or is_loopback(address)):
        yield (
            f"STOREKEEP_METRICS_LISTEN: {address} can be reached from elsewhere, and the pages ask nobody who he is; "
            "STOREKEEP_METRICS_INSECURE_LISTEN=yes-public allows it"
        )


def _replica_problems(settings: Settings) -> Iterator[str]:
    name = "STOREKEEP_DATABASE_REPLICA_URLS"
    if settings.database_replica_urls and sqlite_path(settings.database):
        yield f"{name}: SQLite has no replicas; STOREKEEP_DATABASE_URL names no PostgreSQL"
    for number, url in enumerate(settings.database_replica_urls, start=1):
        problem = problem_of_replica(url)
        if problem:
            yield f"{name}: the {number}. one: {problem}"


def _listen_problems(settings: Settings) -> Iterator[str]:
    if not is_address(settings.listen):
        yield f"STOREKEEP_LISTEN: {settings.listen!r} is neither host:port nor unix:/path"
    elif settings.listen.startswith(UNIX):
        return
    elif not (settings.uses_tls or settings.insecure_listen or is_loopback(settings.listen)):
        yield (
            f"STOREKEEP_LISTEN: {settings.listen} can be reached from elsewhere, and keys would travel in plaintext; "
            "give TLS files, or STOREKEEP_INSECURE_LISTEN=yes-plaintext behind a proxy that ends TLS"
        )


def is_address(address: str) -> bool:
    """Return whether this is an address of a gRPC server: `host:port`, or that of a Unix socket."""
    return address.startswith(UNIX) or is_host_and_port(address)
