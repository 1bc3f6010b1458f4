"""The settings of a gateway: one frozen object, read from the environment. Owns every limit and its default.

Names start with `STOREKEEP_GATEWAY_`; the address is `STOREKEEP_HTTP_LISTEN`. Unknown names are rejected, because a
misspelt setting would otherwise be ignored silently.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Collection
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from storekeep.gateway.hosts import is_origin

PREFIX = "STOREKEEP_GATEWAY_"
LISTEN_VARIABLE = "STOREKEEP_HTTP_LISTEN"
DEFAULT_LISTEN = "127.0.0.1:8080"
ADDRESS_VARIABLE = f"{PREFIX}SERVER_ADDRESS"
SIMILARITY_MIN = 0.85
"""Minimum similarity for a setting to be suggested, where 1 is equality. The prefix makes all of them similar."""


def _split_words(value: Any) -> Any:
    """Split a list that one variable holds, separated by spaces."""
    return tuple(value.split()) if isinstance(value, str) else value


def _refuse_commas(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values if none has a comma, which looks as if it separated them. Raises: ValueError."""
    if any("," in value for value in values):
        raise ValueError("separate the values by spaces, without commas")
    return values


Count = Annotated[int, Field(ge=1, le=1_000_000)]
Bytes = Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)]
Interval = Annotated[float, Field(gt=0, le=86_400)]
Delay = Annotated[float, Field(ge=0, le=3_600)]
Rate = Annotated[float, Field(gt=0, le=1_000_000)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_words), AfterValidator(_refuse_commas)]


def _check_networks(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values if all are addresses or networks. Raises: ValueError."""
    for value in values:
        ipaddress.ip_network(value)
    return values


def _check_origins(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values if all are origins. Raises: ValueError."""
    for value in values:
        if not is_origin(value):
            raise ValueError(f"{value!r} is not an origin such as https://shop.example or http://localhost:3000")
    return values


Networks = Annotated[Words, AfterValidator(_check_networks)]
Origins = Annotated[Words, AfterValidator(_check_origins)]


class InvalidSettings(Exception):
    """The settings cannot be used.

    Attributes:
        problems: one line for each.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Settings(BaseSettings):
    """All settings of a gateway."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, use_attribute_docstrings=True, env_ignore_empty=True
    )

    # -- addresses

    listen: str = Field(default=DEFAULT_LISTEN, validation_alias=AliasChoices(LISTEN_VARIABLE, "listen"))
    """Listen for HTTP on this address, `host:port`; port 0 picks a free port. The default is loopback because the port
    is plaintext without TLS files."""
    insecure_listen: Literal["", "yes-plaintext"] = ""
    """Set to `yes-plaintext` to allow plaintext beyond loopback, such as behind a proxy that terminates TLS."""
    server_address: str = "127.0.0.1:50051"
    """Forward calls to the server at this address: `host:port` or `unix:/path`. The default is the server's own."""
    server_ca_file: Path | None = None
    """Verify the server with these PEM certificate authorities. Empty: plaintext to loopback and Unix sockets, and
    the default authorities elsewhere."""
    server_certificate_file: Path | None = None
    """Identify the gateway to the server with this PEM certificate chain (mTLS)."""
    server_private_key_file: Path | None = None
    """PEM private key of `server_certificate_file`."""
    tls_certificate_file: Path | None = None
    """Serve HTTPS with this PEM certificate chain. Reloaded when the file changes."""
    tls_private_key_file: Path | None = None
    """PEM private key of `tls_certificate_file`. Reloaded when the file changes."""

    # -- limits

    body_size_max_bytes: Bytes = 1024 * 1024
    """Maximum size of a request body in bytes, decompressed. The default is the server's own limit of a request."""
    bodies_size_max_bytes: Annotated[int, Field(ge=1024 * 1024, le=2**40)] = 128 * 1024 * 1024
    """Budget in bytes for the bodies of all concurrent requests, from the first byte to the reply. One address can have
    half of it. Beyond it requests are rejected with OVERLOADED. gRPC copies each message, so memory use is about twice
    the budget. The default allows 128 of the largest bodies."""
    replies_size_max_bytes: Annotated[int, Field(ge=16 * 1024 * 1024, le=2**40)] = 256 * 1024 * 1024
    """Budget in bytes for the replies of more than 64 KiB that clients are reading. Beyond it, the address that has the
    most loses the connection of its oldest one. The default is that of the server."""
    json_depth_max: Annotated[int, Field(ge=8, le=200)] = 64
    """Maximum depth of nested objects and lists in a body. The contract's own messages are less than ten deep."""
    url_size_max_bytes: Bytes = 8 * 1024
    """Maximum size of the path and the query in bytes. 8 KiB is what common proxies allow."""
    header_size_max_bytes: Annotated[int, Field(ge=8192, le=1024 * 1024)] = 24 * 1024
    """Maximum size of the request line and the headers in bytes. A token has about 1 KiB. One connection buffers at
    most this much."""
    header_count_max: Annotated[int, Field(ge=10, le=100)] = 64
    """Maximum number of headers. The HTTP parser allows 100."""
    connections_max: Count = 4_000
    """Maximum number of open connections, idle ones included. Further ones wait until one closes. Each buffers at most
    the maximum size of the headers, so the default is bounded by 100 MB."""
    connections_per_address_max: Annotated[int, Field(ge=0, le=1_000_000)] = 1_000
    """Maximum number of open connections of one client address. An IPv6 /64 network is one address. The newest beyond
    it are closed. Connections of `trusted_proxies` do not count. The default is a quarter of all. 0: no limit."""
    requests_max: Count = 1_000
    """Maximum number of concurrent requests. Further requests are rejected with OVERLOADED. The default is half of the
    server's calls, so that a gateway alone does not overload it."""
    requests_per_address_max: Annotated[int, Field(ge=0, le=1_000_000)] = 500
    """Maximum number of concurrent requests of one client address, streams included. An IPv6 /64 network is one
    address. Further ones are rejected with RATE_LIMITED. The default is half of all. 0: no limit, for a proxy that has
    its own."""
    streams_max: Count = 200
    """Maximum number of concurrent streams, which also count as requests."""
    header_timeout_s: Interval = 30.0
    """Time limit for the headers of a request, in seconds, counted from the end of the previous one: it also closes
    idle keep-alive connections. Load balancers must close idle connections earlier."""
    body_timeout_s: Interval = 30.0
    """Time limit for the body of a request, in seconds. A slower client gets 408."""
    reply_timeout_s: Interval = 30.0
    """Close a connection whose client reads nothing of a reply for this long, in seconds."""
    whole_reply_timeout_s: Interval = 60.0
    """Time limit for a client to read a reply of more than 64 KiB, in seconds. The default is that of the server, and
    lets a client with 1.5 Mbit/s read the largest page."""
    request_timeout_s: Interval = 30.0
    """Time limit for the call to the server, in seconds. `X-Request-Timeout` can shorten it."""
    stream_timeout_s: Interval = 3_600.0
    """Longest duration of a stream, in seconds. A client then resumes with `Last-Event-ID`."""

    # -- limits per client address

    trusted_proxies: Networks = ()
    """Addresses and networks of the proxies in front, separated by spaces, such as `127.0.0.1 10.0.0.0/8`. The client
    is the last address in `X-Forwarded-For` that is none of them. Empty: ignore the header, which anyone can send."""
    anonymous_requests_burst: Count = 100
    """Number of requests without a credential, such as logins, that one client address may send at once."""
    anonymous_requests_per_s: Rate = 20.0
    """Requests without a credential per second from one client address after the burst. Further ones are rejected with
    RATE_LIMITED. The default is a fifth of the server's own limit for the gateway's address."""
    failed_credentials_burst: Count = 25
    """Number of wrong API keys and tokens that one client address may send at once. The default is half of what the
    server allows the gateway's address."""
    failed_credentials_per_s: Rate = 0.5
    """Wrong credentials per second from one client address after the burst. Further ones are rejected with RATE_LIMITED
    before the body is read. Other addresses and credentials that succeeded before are not affected."""

    # -- credentials

    cached_tokens_max: Count = 10_000
    """Maximum number of API keys whose tokens are cached. The least recently used is dropped."""
    wrong_key_cache_s: Delay = 10.0
    """How long a wrong API key is refused without asking the server, in seconds: a client in a loop must not
    exhaust the server's limit of failed authentications for the gateway's address."""

    # -- console

    console: Literal["on", "off"] = "on"
    """`on`: serve the web console at `/`."""
    console_key_file: Path | None = None
    """File with the API key that the sign-in link signs in with. If set, `serve` prints the link. Empty: no link."""
    console_link_lifetime_s: Interval = 3_600.0
    """How long the printed sign-in link can be used, in seconds. It works once."""
    console_idle_timeout_s: Interval = 1_800.0
    """A console session ends after this time without a request, in seconds."""
    console_session_lifetime_s: Interval = 43_200.0
    """A console session ends after this time in any case, in seconds: a working day."""
    console_sessions_max: Count = 500
    """Maximum number of console sessions. A further one ends the one that was used least recently. Each has a client of
    the server, of about 100 KB."""
    console_seller: str = ""
    """Name, address and tax number of the shop, with a semicolon between the lines, such as
    `Kettle & Crumb Ltd; 1 Wharf Road; London N1 7GS; VAT GB 123456789`. They stand on invoices. Empty: only the console
    says that they are missing, because no default could be right."""

    # -- sign-in by an identity provider

    console_url: str = ""
    """Public address of the console, such as `https://console.example.com`, to which the identity provider sends people
    back: to its path `/sign-in/callback`. Required with `oidc_issuer`."""
    oidc_issuer: str = ""
    """Issuer of an OpenID Connect provider by which people sign in to the console. The server must have the same one.
    Empty: none."""
    oidc_client_id: str = ""
    """Client id of the console at the provider. The server must have the same one."""
    oidc_client_secret_file: Path | None = None
    """File with the client secret of the console at the provider. Empty: a public client, which PKCE protects alone."""
    oidc_label: str = "your company account"
    """What the button says after "Sign in with"."""
    oidc_scopes: Words = ("openid", "profile", "email")
    """Scopes that are requested, separated by spaces. Some providers need one more for the groups."""
    oidc_ca_file: Path | None = None
    """Verify the provider also with these PEM certificate authorities. Empty: the usual ones only."""

    # -- browsers

    cors_origins: Origins = ()
    """Origins whose scripts may call the gateway, separated by spaces, such as `https://shop.example`: as browsers
    send them, in lower case and without a path. Empty: none."""
    hsts_max_age_s: Annotated[int, Field(ge=0, le=63_072_000)] = 31_536_000
    """`max-age` of `Strict-Transport-Security`, in seconds, sent only with TLS. 0: do not send it."""

    # -- logs and metrics

    access_log: Literal["on", "off"] = "on"
    """`on`: write one line of JSON for each request to standard error. `off`: write unexpected errors only."""

    metrics_public: bool = False
    """Answer `/metrics` to every address. By default only addresses of this host get it, because the counts reveal
    sales volume. A proxy on the same host must block it, or be in `trusted_proxies`."""

    # -- shutdown

    drain_notice_s: Delay = 0.0
    """Wait this long after SIGTERM before the port closes, in seconds, while `/readyz` answers 503. Set it to the
    interval of the load balancer's checks."""
    drain_timeout_s: Interval = 30.0
    """How long running requests may take after SIGTERM, in seconds."""


def load_settings(**overrides: Any) -> Settings:
    """Return the settings of the environment.

    Args:
        overrides: settings of the command line, by name.

    Raises: InvalidSettings.
    """
    known = {get_variable(name) for name in Settings.model_fields}
    unknown = [_describe_unknown(name, known) for name in os.environ if name.startswith(PREFIX) and name not in known]
    if unknown:
        raise InvalidSettings(unknown)
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        raise InvalidSettings([_describe(problem) for problem in error.errors()]) from None
    if problems := _find_contradictions(settings):
        raise InvalidSettings(problems)
    return settings


def _describe_unknown(name: str, known: Collection[str]) -> str:
    """Return a line about a variable that is no setting, with the setting that it may mean.

    The address has the prefix of the server's settings, because `make run` prints it with them.
    """
    close = get_close_matches(name, known, n=1, cutoff=SIMILARITY_MIN)
    suggestion = LISTEN_VARIABLE if name == f"{PREFIX}LISTEN" else "".join(close)
    return f"{name}: no such setting" + (f"; did you mean {suggestion}?" if suggestion else "")


def get_variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return LISTEN_VARIABLE if name == "listen" else f"{PREFIX}{name.upper()}"


def is_loopback(address: str) -> bool:
    """Return whether `host:port` can be reached only from this machine."""
    host = address.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")


def _describe(problem: Any) -> str:
    name = str(problem["loc"][0])
    variable = name if name.startswith("STOREKEEP_") else get_variable(name)
    return f"{variable}: {problem['msg'].lower()}"


def _find_provider_problems(settings: Settings) -> list[str]:
    """Return one line for each setting of the identity provider that cannot work."""
    if not settings.oidc_issuer:
        return []
    problems = []
    if not settings.oidc_issuer.startswith("https://"):
        problems.append(f"{PREFIX}OIDC_ISSUER: {settings.oidc_issuer!r} is not a URL such as https://login.example.com")
    url = settings.console_url
    is_local = url.startswith("http://") and is_loopback(f"{url.removeprefix('http://').partition(':')[0]}:80")
    if not (url.startswith("https://") or is_local) or url.rstrip("/").count("/") > 2:
        problems.append(f"{PREFIX}CONSOLE_URL: {url!r} is not an address such as https://console.example.com")
    if not settings.oidc_client_id:
        problems.append(f"{PREFIX}OIDC_ISSUER: set {PREFIX}OIDC_CLIENT_ID, too")
    for name in ("oidc_client_secret_file", "oidc_ca_file"):
        file = getattr(settings, name)
        if file is not None and not os.access(file, os.R_OK):
            problems.append(f"{PREFIX}{name.upper()}: cannot read {file}")
    if "openid" not in settings.oidc_scopes:
        problems.append(f"{PREFIX}OIDC_SCOPES: `openid` is missing")
    return problems


def _find_contradictions(settings: Settings) -> list[str]:
    """Return one line for each rule between settings that is broken."""
    problems = _find_provider_problems(settings)
    host, _, port = settings.listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        problems.append(f"{LISTEN_VARIABLE}: {settings.listen!r} is not host:port")
    if (settings.tls_certificate_file is None) != (settings.tls_private_key_file is None):
        problems.append(f"{PREFIX}TLS_CERTIFICATE_FILE and {PREFIX}TLS_PRIVATE_KEY_FILE: set both or none")
    if (settings.server_certificate_file is None) != (settings.server_private_key_file is None):
        problems.append(f"{PREFIX}SERVER_CERTIFICATE_FILE and {PREFIX}SERVER_PRIVATE_KEY_FILE: set both or none")
    if settings.bodies_size_max_bytes < settings.body_size_max_bytes:
        problems.append(f"{PREFIX}BODIES_SIZE_MAX_BYTES: set it to at least {PREFIX}BODY_SIZE_MAX_BYTES")
    is_plaintext = settings.tls_certificate_file is None and not settings.insecure_listen
    if is_plaintext and not problems and not is_loopback(settings.listen):
        problems.append(
            f"{LISTEN_VARIABLE}: plaintext beyond loopback exposes tokens; set {PREFIX}TLS_CERTIFICATE_FILE, or "
            f"{PREFIX}INSECURE_LISTEN=yes-plaintext behind a proxy that terminates TLS"
        )
    return problems
