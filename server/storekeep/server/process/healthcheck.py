"""Health checks: how `storekeep-server healthcheck` asks a server how it is.

A server on this machine is asked on its own socket, which needs no certificate and no proxy, so that neither can make
it look dead. Its port is only looked at: whether it answers, and with a certificate that is still valid.
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
)

from storekeep.server.config import UNIX, Settings
from storekeep.server.runtime.ports import split_address
from storekeep.server.transport.health import LIVENESS
from storekeep.server.transport.leadership import WorkerFolder, own_addresses
from storekeep.server.transport.tls import allows_usage

ASK_TIMEOUT_S = 5.0
"""How long a server has to answer, one that is just starting included."""
ASK_AGAIN_S = 0.1
SERVING = "SERVING"
NO_ANSWER = "no answer: "
WORDS = {
    grpc.StatusCode.DEADLINE_EXCEEDED: f"it takes the connection, but answers no call within {ASK_TIMEOUT_S:g} s",
    grpc.StatusCode.NOT_FOUND: "it has no such service",
    grpc.StatusCode.UNAVAILABLE: "it closes the connection, or nothing listens there",
    grpc.StatusCode.UNIMPLEMENTED: "it is a gRPC server, but tells nothing of its health",
}
NO_PROXY = ("grpc.enable_http_proxy", 0)
"""A server is asked, not whoever stands between: `http_proxy` in the environment is meant for other calls."""


def ask_server(settings: Settings, *, service: str) -> str:
    """Return what the server of these settings says of itself: `SERVING`, or why not.

    One that is just starting has the time of an answer, unless nothing listens at its port either.
    """
    give_up_s = time.monotonic() + ASK_TIMEOUT_S
    while True:
        states = [ask_socket(address, service=service) for address in own_addresses(settings)]
        if SERVING in states:
            return SERVING if service == LIVENESS else _find_port_problem(settings) or SERVING
        answers = [state for state in states if not state.startswith(NO_ANSWER)]
        if answers:
            return answers[0]
        is_over = time.monotonic() >= give_up_s
        if not states and (is_over or settings.tls_client_ca_file is None):
            return ask_address(settings.listen, service=service, settings=settings)
        closed = find_why_closed(settings.listen)
        if is_over or closed:
            return f"{NO_ANSWER}{closed}" if closed else states[0]
        time.sleep(ASK_AGAIN_S)


def ask_socket(address: str, *, service: str) -> str:
    """Return what a process of this machine says of itself on its own socket, which speaks plaintext."""
    with grpc.insecure_channel(address, options=[NO_PROXY]) as channel:
        return _ask(channel, service, wait_for_ready=False)


def ask_workers(settings: Settings, *, service: str) -> dict[str, str]:
    """Return what each of several workers says of itself, by its number."""
    folder = WorkerFolder(settings.workers_dir)
    return {name: ask_socket(folder.address(name), service=service) for name in folder.workers()}


def ask_address(address: str, *, service: str, settings: Settings) -> str:
    """Return what the server at an address says of itself, as `ask_server`.

    Args:
        settings: of that server, for its TLS files. With mTLS its own certificate is shown, where it is a client's too.
    """
    closed = find_why_closed(address)
    if closed:
        return f"{NO_ANSWER}{closed}"
    if settings.tls_certificate_file is None or settings.tls_private_key_file is None:
        with grpc.insecure_channel(address, options=[NO_PROXY]) as channel:
            return _ask(channel, service, wait_for_ready=True)
    chain, key = settings.tls_certificate_file.read_bytes(), settings.tls_private_key_file.read_bytes()
    with _open_tls_channel(address, chain=chain, key=key) as channel:
        state = _ask(channel, service, wait_for_ready=True)
    if not state.startswith(NO_ANSWER):
        return state
    why = _explain(address, chain=chain, asks_for_client=settings.tls_client_ca_file is not None)
    return f"{NO_ANSWER}{why or state.removeprefix(NO_ANSWER)}"


def _ask(channel: grpc.Channel, service: str, *, wait_for_ready: bool) -> str:
    ask = health_pb2_grpc.HealthStub(channel).Check
    try:
        answer = ask(HealthCheckRequest(service=service), timeout=ASK_TIMEOUT_S, wait_for_ready=wait_for_ready)
    except grpc.RpcError as error:
        return f"{NO_ANSWER}{WORDS.get(error.code(), error.code().name)}"
    return str(HealthCheckResponse.ServingStatus.Name(answer.status))


def find_why_closed(address: str) -> str:
    """Return why no connection can be made to an address; empty where one can."""
    try:
        _connect(address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return f"nothing listens at {address}"
    except TimeoutError:
        return f"{address} does not answer within {ASK_TIMEOUT_S:g} s"
    except socket.gaierror:
        return f"{address}: there is no host of this name"
    except OSError as error:
        return f"{address}: {error.strerror or error}"
    return ""


# -- certificates


def _open_tls_channel(address: str, *, chain: bytes, key: bytes) -> grpc.Channel:
    leaf = x509.load_pem_x509_certificates(chain)[0]
    shown = (key, chain) if allows_usage(leaf, ExtendedKeyUsageOID.CLIENT_AUTH) else (None, None)
    credentials = grpc.ssl_channel_credentials(chain, *shown)
    options = [NO_PROXY, ("grpc.ssl_target_name_override", _name_in(leaf))]
    return grpc.secure_channel(address, credentials, options=options)


def _explain(address: str, *, chain: bytes, asks_for_client: bool) -> str:
    """Return why a server with TLS does not answer, as far as its certificate says; empty where it does not."""
    served = _get_served(address)
    if served is None:
        return "nothing speaks TLS there"
    if _has_expired(served):
        return _describe_expiry(served)
    if served != x509.load_pem_x509_certificates(chain)[0]:
        return "the server shows another certificate than that of STOREKEEP_TLS_CERTIFICATE_FILE"
    if asks_for_client:
        return (
            "the server asks for a certificate of a client, and takes its own for none; "
            "without --address its own socket is asked, on its machine"
        )
    return ""


def _find_port_problem(settings: Settings) -> str:
    """Return what is wrong with the port of a server that serves; empty where callers can reach it."""
    if settings.tls_certificate_file is None or settings.listen.endswith(":0"):
        return ""
    served = _get_served(settings.listen)
    if served is None:
        return f"nothing speaks TLS on {settings.listen}"
    return _describe_expiry(served) if _has_expired(served) else ""


def _get_served(address: str) -> x509.Certificate | None:
    """Return the certificate that a port shows, whoever issued it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with _connect(address) as plain, context.wrap_socket(plain) as secured:
            shown = secured.getpeercert(binary_form=True)
    except OSError:
        return None
    return None if shown is None else x509.load_der_x509_certificate(shown)


def _connect(address: str) -> socket.socket:
    if not address.startswith(UNIX):
        return socket.create_connection(split_address(address), timeout=ASK_TIMEOUT_S)
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(ASK_TIMEOUT_S)
    scheme, _, path = address.partition(":")
    try:
        made.connect(f"\0{path}" if scheme == "unix-abstract" else path.removeprefix("//"))
    except OSError:
        made.close()
        raise
    return made


def _has_expired(certificate: x509.Certificate) -> bool:
    return certificate.not_valid_after_utc < datetime.now(UTC)


def _describe_expiry(certificate: x509.Certificate) -> str:
    return f"its certificate expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%SZ}"


def _name_in(certificate: x509.Certificate) -> str:
    """Return a name that the certificate is for: the server asked is this very one, whatever its address is called."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return str(next(iter(names)).value).replace("*", "any", 1)
    except (x509.ExtensionNotFound, StopIteration):
        return certificate.subject.rfc4514_string().removeprefix("CN=")
