"""A key management service: it encrypts the file of the key-encryption key; outages, refusals and odd replies."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storekeep.server.integrations.kms import KmsCodec
from storekeep.server.process.kek_rotations import KMS_WAIT_S
from storekeep.server.runtime.file_modes import ExposedFile
from storekeep.server.runtime.secrets import KEY_ENCRYPTION_KEY, KmsFailed, begin_rotation
from tests.conftest import MakeServer
from tests.support.shops import Shop

TOKEN = "s.u5rPq0wXK2vT9mLb"
SECRET = b"93d1c7be5f00a6a1" * 2
NONCE = bytes(12)


class Transit(ThreadingHTTPServer):
    """A small service with the transit API.

    Attributes:
        calls: the paths of the requests so far.
        override: returns status and body of a reply; None to work.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), TransitHandler)
        self.cipher = AESGCM(b"k" * 32)
        self.calls: list[str] = []
        self.override: Callable[[], tuple[int, bytes]] | None = None
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/transit"


class TransitHandler(BaseHTTPRequestHandler):
    server: Transit

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.calls.append(self.path)
        status, content = self.server.override() if self.server.override else self._work(body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _work(self, body: dict[str, str]) -> tuple[int, bytes]:
        if self.headers["X-Vault-Token"] != TOKEN:
            return 403, b'{"errors": ["permission denied"]}'
        if self.path == "/v1/transit/encrypt/shop":
            encrypted = self.server.cipher.encrypt(NONCE, body["plaintext"].encode(), None)
            return 200, json.dumps(
                {"data": {"ciphertext": "vault:v1:" + base64.b64encode(encrypted).decode()}}
            ).encode()
        try:
            encrypted = base64.b64decode(body["ciphertext"].removeprefix("vault:v1:"))
            plaintext = self.server.cipher.decrypt(NONCE, encrypted, None)
        except (InvalidTag, ValueError):
            return 400, b'{"errors": ["invalid ciphertext"]}'
        return 200, json.dumps({"data": {"plaintext": plaintext.decode()}}).encode()

    def log_message(self, *_arguments: object) -> None:
        """Print nothing."""


@pytest.fixture
def transit() -> Iterator[Transit]:
    service = Transit()
    yield service
    service.shutdown()
    service.server_close()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "kms.token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


def make_codec(transit: Transit, token_file: Path) -> KmsCodec:
    return KmsCodec(transit.url, key="shop", token_file=token_file, timeout_s=5)


def test_decode_of_what_encode_made_is_the_secret_and_is_remembered(transit: Transit, token_file: Path) -> None:
    codec = make_codec(transit, token_file)
    text = codec.encode(SECRET)
    assert text.startswith("vault:v1:")
    assert SECRET.decode() not in text
    assert [codec.decode(text.encode()) for _ in range(3)] == [SECRET] * 3
    assert len(transit.calls) == 2


@pytest.mark.parametrize(
    "reply",
    [
        (500, b""),
        (302, b""),
        (200, b""),
        (200, b"[]"),
        (200, b'{"data": null}'),
        (200, b'{"data": {"plaintext": 7}}'),
        (200, b'{"data": {"plaintext": "no base64!"}}'),
        (200, b'{"data": {"plaintext": "' + b"A" * 100_000 + b'"}}'),
    ],
)
def test_odd_reply_is_one_clear_error(transit: Transit, token_file: Path, reply: tuple[int, bytes]) -> None:
    codec = make_codec(transit, token_file)
    transit.override = lambda: reply
    with pytest.raises(KmsFailed, match="127"):
        codec.decode(b"vault:v1:AAAA")


def test_wrong_token_foreign_ciphertext_and_outage_are_refused(transit: Transit, token_file: Path) -> None:
    codec = make_codec(transit, token_file)
    with pytest.raises(KmsFailed, match="status 400"):
        codec.decode(b"vault:v1:AAAA")
    token_file.write_text("s.other")
    with pytest.raises(KmsFailed, match="status 403"):
        codec.encode(SECRET)
    token_file.chmod(0o644)
    with pytest.raises(ExposedFile):
        codec.encode(SECRET)
    token_file.chmod(0o600)
    transit.shutdown()
    transit.server_close()
    with pytest.raises(KmsFailed, match="cannot be used"):
        codec.encode(SECRET)


@pytest.mark.engine("sqlite", reason="the file of the key does not depend on the database")
def test_server_with_a_service_starts_rotates_and_survives_its_outage(
    make_server: MakeServer, transit: Transit, token_file: Path
) -> None:
    settings = {"kms_url": transit.url, "kms_key": "shop", "kms_token_file": str(token_file)}
    server = make_server(**settings)
    path = server.data_dir / KEY_ENCRYPTION_KEY.current
    first = path.read_text()
    assert first.startswith("vault:v1:")
    with grpc.insecure_channel(server.address) as channel:
        shop = Shop(channel, api_key=server.admin_key)
        shop.customer()
        rotated = server.run("rotate-kek")
        assert rotated.returncode == 0, rotated.stderr
        assert path.read_text() != first
        assert server.run("rotate-kek", "--finish").returncode == 0
        begin_rotation(server.data_dir, files=KEY_ENCRYPTION_KEY._replace(codec=make_codec(transit, token_file)))
        made_s = path.stat().st_mtime
        resumed = server.run("rotate-kek")  # after a rotation that was killed when the new key was in its file
        assert resumed.returncode == 0, resumed.stderr
        with server.database.opened() as session:
            ((named_us,),) = session.rows("SELECT MAX(create_time_us) FROM key_encryption_keys")
        assert named_us / 1e6 - made_s >= KMS_WAIT_S - 1, "the running server had no time to read the new key"
        transit.override = lambda: (503, b"")
        shop.customer()
    server.stop()
    refused = server.run("serve")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1), refused.stderr
    assert "status 503" in refused.stderr
    transit.override = None
    server.restart()
