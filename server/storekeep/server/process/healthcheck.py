"""The client side of `storekeep-server healthcheck`.

A server on this host is probed on its Unix socket, so that neither certificates nor proxies can make a healthy server
look dead. Of its port only the connection and the expiry of the certificate are checked.
"""

from __future__ import annotations

import socket
import ssl
import time
from datetime import UTC, datetime

import grpc
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from grpc_health.v1 import health_pb2_grpc  # type: ignore[import-untyped, unused-ignore]
from grpc_health.v1.health_pb2 import (  # type: ignore[import-untyped, unused-ignore]
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
)

from storekeep.server.config import UNIX, Settings
from storekeep.server.runtime.input_files import read_regular_file
from storekeep.server.runtime.ports import split_address
from storekeep.server.transport.health import LIVENESS
from storekeep.server.transport.leadership import WorkerFolder, own_addresses
from storekeep.server.transport.tls import allows_usage

PROBE_TIMEOUT_S = 5.0
"""Maximum time in seconds for a server to answer, including its startup."""
PROBE_INTERVAL_S = 0.1
SERVING = "SERVING"
NO_ANSWER = "no answer: "
STATUS_PROBLEMS = {
    grpc.StatusCode.DEADLINE_EXCEEDED: f"it accepts connections, but answers no call within {PROBE_TIMEOUT_S:g} s",
    grpc.StatusCode.UNAVAILABLE: "it closes the connection, or nothing listens there",
    grpc.StatusCode.UNIMPLEMENTED: "it is a gRPC server without a health service",
}
NO_PROXY = ("grpc.enable_http_proxy", 0)
"""Probe the server itself: `http_proxy` in the environment is meant for other calls."""


def probe_server(settings: Settings, *, service: str) -> str:
    """Return the state of the server with these settings: `SERVING`, or the reason in one line.

    Waits up to `PROBE_TIMEOUT_S` for a server that is starting, unless nothing listens at its port.
    """
    give_up_s = time.monotonic() + PROBE_TIMEOUT_S
    while True:
        states = [probe_socket(address, service=service) for address in own_addresses(settings)]
        if SERVING in states:
            return SERVING if service == LIVENESS else _find_port_problem(settings) or SERVING
        answers = [state for state in states if not state.startswith(NO_ANSWER)]
        if answers:
            return answers[0]
        is_over = time.monotonic() >= give_up_s
        if not states and (is_over or settings.tls_client_ca_file is None):
            return probe_address(settings.listen, service=service, settings=settings)
        closed = find_connection_problem(settings.listen)
        if is_over or closed:
            return f"{NO_ANSWER}{closed}" if closed else states[0]
        time.sleep(PROBE_INTERVAL_S)


def probe_socket(address: str, *, service: str) -> str:
    """Return the state of a server process on this host from its plaintext Unix socket."""
    with grpc.insecure_channel(address, options=[NO_PROXY]) as channel:
        return _check(channel, service, wait_for_ready=False)


def probe_workers(settings: Settings, *, service: str) -> dict[str, str]:
    """Return the state of each worker on this host, by worker number."""
    folder = WorkerFolder(settings.workers_dir)
    return {name: probe_socket(folder.address(name), service=service) for name in folder.workers()}


def probe_address(address: str, *, service: str, settings: Settings) -> str:
    """Return the state of the server at an address; see `probe_server`.

    Args:
        settings: of that server, for its TLS files. With mTLS its certificate is also sent as the client certificate
            if its extended key usage allows that.
    """
    closed = find_connection_problem(address)
    if closed:
        return f"{NO_ANSWER}{closed}"
    if settings.tls_certificate_file is None or settings.tls_private_key_file is None:
        with grpc.insecure_channel(address, options=[NO_PROXY]) as channel:
            return _check(channel, service, wait_for_ready=True)
    chain, key = read_regular_file(settings.tls_certificate_file), read_regular_file(settings.tls_private_key_file)
    with _open_tls_channel(address, chain=chain, key=key) as channel:
        state = _check(channel, service, wait_for_ready=True)
    if not state.startswith(NO_ANSWER):
        return state
    problem = _find_tls_problem(address, chain=chain, requires_client=settings.tls_client_ca_file is not None)
    return f"{NO_ANSWER}{problem or state.removeprefix(NO_ANSWER)}"


def _check(channel: grpc.Channel, service: str, *, wait_for_ready: bool) -> str:
    stub = health_pb2_grpc.HealthStub(channel)
    try:
        reply = stub.Check(HealthCheckRequest(service=service), timeout=PROBE_TIMEOUT_S, wait_for_ready=wait_for_ready)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return _describe_unknown_service(stub, service)
        return f"{NO_ANSWER}{STATUS_PROBLEMS.get(error.code(), error.code().name)}"
    return str(HealthCheckResponse.ServingStatus.Name(reply.status))


def _describe_unknown_service(stub: health_pb2_grpc.HealthStub, service: str) -> str:
    """Return that the server has no such service, and which services it has."""
    try:
        names = sorted(filter(None, stub.List(HealthListRequest(), timeout=PROBE_TIMEOUT_S).statuses))
    except grpc.RpcError:
        names = []
    return f"unknown service {service!r}" + (f"; the server has: {', '.join(names)}" if names else "")


def find_connection_problem(address: str) -> str:
    """Return why a connection to an address fails; empty if it succeeds."""
    try:
        _connect(address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return "nothing listens there"
    except TimeoutError:
        return f"it does not answer within {PROBE_TIMEOUT_S:g} s"
    except socket.gaierror:
        return "the host name is unknown"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


# -- certificates


def _open_tls_channel(address: str, *, chain: bytes, key: bytes) -> grpc.Channel:
    leaf = x509.load_pem_x509_certificates(chain)[0]
    client_pair = (key, chain) if allows_usage(leaf, ExtendedKeyUsageOID.CLIENT_AUTH) else (None, None)
    credentials = grpc.ssl_channel_credentials(chain, *client_pair)
    options = [NO_PROXY, ("grpc.ssl_target_name_override", _get_name(leaf))]
    return grpc.secure_channel(address, credentials, options=options)


def _find_tls_problem(address: str, *, chain: bytes, requires_client: bool) -> str:
    """Return why a TLS server does not answer, as far as its certificate shows; empty if unknown."""
    served = _fetch_certificate(address)
    if served is None:
        return "it does not use TLS"
    if _has_expired(served):
        return _describe_expiry(served)
    if served != x509.load_pem_x509_certificates(chain)[0]:
        return "the server presents another certificate than that of STOREKEEP_TLS_CERTIFICATE_FILE"
    if requires_client:
        return (
            "the server requires a client certificate and does not accept its own as one; "
            "run healthcheck without --address on the server's host to use its Unix socket"
        )
    return ""


def _find_port_problem(settings: Settings) -> str:
    """Return what keeps clients from the TLS port of a running server; empty if nothing does."""
    if settings.tls_certificate_file is None or settings.listen.endswith(":0"):
        return ""
    served = _fetch_certificate(settings.listen)
    if served is None:
        return "it does not use TLS"
    return _describe_expiry(served) if _has_expired(served) else ""


def _fetch_certificate(address: str) -> x509.Certificate | None:
    """Return the certificate that a port presents, without verifying its issuer; None if it does not use TLS."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with _connect(address) as plain, context.wrap_socket(plain) as secured:
            certificate = secured.getpeercert(binary_form=True)
    except OSError:
        return None
    return None if certificate is None else x509.load_der_x509_certificate(certificate)


def _connect(address: str) -> socket.socket:
    if not address.startswith(UNIX):
        return socket.create_connection(split_address(address), timeout=PROBE_TIMEOUT_S)
    unix_socket = socket.socket(socket.AF_UNIX)
    unix_socket.settimeout(PROBE_TIMEOUT_S)
    scheme, _, path = address.partition(":")
    try:
        unix_socket.connect(f"\0{path}" if scheme == "unix-abstract" else path.removeprefix("//"))
    except OSError:
        unix_socket.close()
        raise
    return unix_socket


def _has_expired(certificate: x509.Certificate) -> bool:
    return certificate.not_valid_after_utc < datetime.now(UTC)


def _describe_expiry(certificate: x509.Certificate) -> str:
    return f"its certificate expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%SZ}"


def _get_name(certificate: x509.Certificate) -> str:
    """Return a name from the certificate, to verify the server by its certificate and not by its address."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return str(next(iter(names)).value).replace("*", "any", 1)
    except (x509.ExtensionNotFound, StopIteration):
        return certificate.subject.rfc4514_string().removeprefix("CN=")
