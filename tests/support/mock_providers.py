"""`oidc-provider-mock` over HTTPS, and a person who signs in there."""

from __future__ import annotations

import http.client
import io
import ssl
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import oidc_provider_mock
import werkzeug.serving

from tests.support.authorities import issue, make_authority

CLIENT_ID = "storekeep-console"
TIMEOUT_S = 60.0
STAFF, BOSS, STRANGER = "subject-staff", "subject-boss", "subject-stranger"
PEOPLE = {
    STAFF: {"name": "Ann Example", "email": "ann@example.com", "email_verified": True, "groups": ["staff"]},
    BOSS: {"name": "Bo Boss", "email": "bo@example.com", "groups": ["bosses"]},
    STRANGER: {"name": "Eve Else", "groups": ["others"]},
}


class MockProvider:
    """A provider at an address of its own. Use it as a context manager.

    Attributes:
        issuer: its issuer.
        exchanges: the fields of each request for tokens.
        replaced: bodies sent in place of the provider's replies, by path.
        delays_s: how long replies wait, by path.
    """

    def __init__(self, folder: Path) -> None:
        authority = make_authority(folder, "authority")
        identity = issue(folder, "provider", by=authority)
        self.ca_file = authority.file
        self.secret_file = folder / "secret"
        self.secret_file.write_text("any secret\n")
        self.exchanges: list[dict[str, str]] = []
        self.replaced: dict[str, bytes] = {}
        self.delays_s: dict[str, float] = {}
        users = [oidc_provider_mock.User(sub=sub, claims=dict(claims)) for sub, claims in PEOPLE.items()]
        self._app = oidc_provider_mock.app(user_claims=users)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(identity.certificate, identity.private_key)
        self._server = werkzeug.serving.make_server("127.0.0.1", 0, self._answer, threaded=True, ssl_context=tls)
        self.issuer = f"https://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)

    def __enter__(self) -> MockProvider:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(TIMEOUT_S)

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.endswith("/token"):
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            self.exchanges.append({name: values[-1] for name, values in parse_qs(body.decode()).items()})
        time.sleep(self.delays_s.get(path, 0.0))
        if path in self.replaced:
            start_response("200 OK", [("content-type", "application/json")])
            return [self.replaced[path]]
        replies: Iterable[bytes] = self._app(environ, start_response)
        return replies

    def get_server_settings(self) -> dict[str, str]:
        """Return the settings of a server that trusts this provider."""
        return {
            "oidc_issuer": self.issuer,
            "oidc_client_id": CLIENT_ID,
            "oidc_roles": "staff=operator bosses=admin",
            "oidc_allowed_networks": "127.0.0.0/8",
            "oidc_ca_file": str(self.ca_file),
        }

    def get_gateway_settings(self) -> dict[str, str]:
        """Return the settings of a gateway whose console sends people here."""
        return {
            "console_url": "http://127.0.0.1",
            "oidc_issuer": self.issuer,
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret_file": str(self.secret_file),
            "oidc_ca_file": str(self.ca_file),
            "oidc_label": "Example Works",
        }

    def sign_in(self, url: str, subject: str, **fields: str) -> str:
        """Sign in as a person, and return where the provider sends the person: path and query."""
        parts = urlsplit(url)
        tls = ssl.create_default_context(cafile=str(self.ca_file))
        connection = http.client.HTTPSConnection(str(parts.hostname), parts.port, timeout=TIMEOUT_S, context=tls)
        try:
            headers = {"content-type": "application/x-www-form-urlencoded"}
            connection.request("POST", f"{parts.path}?{parts.query}", urlencode({"sub": subject} | fields), headers)
            location = urlsplit(connection.getresponse().headers["location"])
        finally:
            connection.close()
        return f"{location.path}?{location.query}"
