"""The console behind the gateway: its clients of the server, its limits, and the link that signs in once."""

from __future__ import annotations

import asyncio
from functools import partial

from storekeep.client import Storekeep, Tls, TokenSet
from storekeep.console.app import Console
from storekeep.console.provider_sign_ins import ProviderSignIns
from storekeep.console.requests import BadRequest, Header
from storekeep.console.sessions import OneTimeCodes, Sessions
from storekeep.console.sign_ins import SignIns
from storekeep.gateway.access_log import AccessLog, describe_defect
from storekeep.gateway.addresses import get_limit_key
from storekeep.gateway.client_limits import ClientLimits
from storekeep.gateway.config import Settings
from storekeep.gateway.errors import Refused

CALL_TIMEOUT_S = 10.0
TOO_MANY_REQUESTS = 429


class SignInLimits:
    """The gateway's limits of each client address, for sign-ins. Create it in the event loop."""

    def __init__(self, limits: ClientLimits) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()

    def admit(self, address: str, credential: str) -> bool:
        """Admit a sign-in, and count it as a failure until `record`; return whether it was counted.

        Raises: BadRequest if the address has sent too many, or too many wrong credentials.
        """
        key = get_limit_key(address)
        try:
            return self._limits.reserve(key, credential)
        except Refused as refused:
            raise BadRequest(f"Not now: {refused}.", status=TOO_MANY_REQUESTS) from None

    def record(self, address: str, credential: str, reason: str, *, counted: bool) -> None:
        """Record the outcome of a sign-in, from any thread."""
        settle = partial(self._limits.settle, get_limit_key(address), credential, reason, reserved=counted)
        self._loop.call_soon_threadsafe(settle)


def build_console(settings: Settings, limits: ClientLimits, log: AccessLog) -> Console:
    """Return the console of this gateway."""
    has_files = settings.server_ca_file is not None or settings.server_certificate_file is not None
    tls = Tls(
        ca_file=settings.server_ca_file,
        cert_file=settings.server_certificate_file,
        key_file=settings.server_private_key_file,
    )

    def open_client(api_key: str, tokens: TokenSet | None = None) -> Storekeep:
        return Storekeep(
            settings.server_address,
            api_key=api_key,
            tokens=tokens,
            tls=tls if has_files else None,
            timeout_s=CALL_TIMEOUT_S,
        )

    def read_key() -> str:
        file = settings.console_key_file
        try:
            return "" if file is None else file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def report_error(what: str, error: Exception) -> None:
        log.write("unexpected error", level="error", what=what, error=describe_defect(error))

    sessions = Sessions(
        idle_s=settings.console_idle_timeout_s,
        lifetime_s=settings.console_session_lifetime_s,
        sessions_max=settings.console_sessions_max,
    )
    sign_ins = SignIns(
        open_client=open_client,
        sessions=sessions,
        codes=OneTimeCodes(lifetime_s=settings.console_link_lifetime_s),
        read_key=read_key,
        provider=_build_provider(settings),
    )
    return Console(
        limits=SignInLimits(limits),
        sessions=sessions,
        sign_ins=sign_ins,
        report_error=report_error,
        seller=[line for line in map(str.strip, settings.console_seller.split(";")) if line],
    )


def _build_provider(settings: Settings) -> ProviderSignIns | None:
    """Return the sign-ins by the identity provider; None without one. Raises: OSError."""
    if not settings.oidc_issuer:
        return None
    from storekeep.console.providers import ProviderClient, ProviderSettings  # imports much that few gateways need

    secret_file = settings.oidc_client_secret_file
    return ProviderSignIns(
        ProviderClient(
            ProviderSettings(
                issuer=settings.oidc_issuer,
                client_id=settings.oidc_client_id,
                client_secret="" if secret_file is None else secret_file.read_text(encoding="utf-8").strip(),
                label=settings.oidc_label,
                scope=" ".join(settings.oidc_scopes),
                console_url=settings.console_url,
                ca_file=settings.oidc_ca_file,
            )
        )
    )


def list_headers(raw: list[Header]) -> dict[str, str]:
    """Return headers by their name in lower case; the last of a repeated one, and all cookies."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}; {text}" if key == "cookie" and key in headers else text
    return headers
