"""A key management service (KMS) over HTTP: encrypts and decrypts the key-encryption key, which stays in a file.

It speaks the transit API of OpenBao and HashiCorp Vault. It is called when a key file is made or first read, never for
a call of a client and never in the writer's thread.
"""

from __future__ import annotations

import base64
import json
from collections import OrderedDict
from pathlib import Path

import httpx

from storekeep.server.runtime.file_modes import read_private_file
from storekeep.server.runtime.secrets import KmsFailed

TIMEOUT_S = 5.0
BODY_BYTES_MAX = 64 * 1024
CACHED_MAX = 4
"""Maximum number of decrypted keys that are remembered: the current one, the one before, and new ones of a rotation."""


class KmsCodec:
    """Encodes keys as the ciphertext of a KMS. Threads may share it.

    Args:
        url: URL of the transit engine, such as `https://bao.example:8200/v1/transit`.
        key: name of the key in the KMS.
        token_file: file with the token, read for each request, so that it can be replaced.
        timeout_s: time limit of each step of a request.
    """

    def __init__(self, url: str, *, key: str, token_file: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._token_file = token_file
        self._timeout_s = timeout_s
        self._decoded: OrderedDict[bytes, bytes] = OrderedDict()

    def encode(self, secret: bytes) -> str:
        """Return the ciphertext of a secret, as one line.

        Raises: KmsFailed, ExposedFile, OSError.
        """
        return self._post("encrypt", {"plaintext": base64.b64encode(secret).decode()}, "ciphertext")

    def decode(self, text: bytes) -> bytes:
        """Return the secret of a ciphertext.

        Raises: KmsFailed, ExposedFile, OSError.
        """
        secret = self._decoded.get(text)
        if secret is None:
            plaintext = self._post("decrypt", {"ciphertext": text.decode(errors="replace")}, "plaintext")
            try:
                secret = base64.b64decode(plaintext, validate=True)
            except ValueError:
                raise KmsFailed(f"{self._url}: the reply has no valid plaintext") from None
            self._decoded[text] = secret
            while len(self._decoded) > CACHED_MAX:
                self._decoded.popitem(last=False)
        return secret

    def _post(self, action: str, body: dict[str, str], member: str) -> str:
        """Send a request, and return a member of the data in the reply.

        Raises: KmsFailed, ExposedFile, OSError.
        """
        token = read_private_file(self._token_file).decode(errors="replace").strip()
        url = f"{self._url}/{action}/{self._key}"
        try:
            with (
                httpx.Client(timeout=self._timeout_s, trust_env=False, follow_redirects=False) as client,
                client.stream("POST", url, json=body, headers={"X-Vault-Token": token}) as reply,
            ):
                content = b""
                for chunk in reply.iter_bytes():
                    content += chunk
                    if len(content) > BODY_BYTES_MAX:
                        raise KmsFailed(f"{url}: the reply has more than {BODY_BYTES_MAX} bytes")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise KmsFailed(f"{url}: the key management service cannot be used: {type(error).__name__}") from None
        if reply.status_code != httpx.codes.OK:
            raise KmsFailed(f"{url}: the key management service replied with status {reply.status_code}")
        try:
            value = json.loads(content)["data"][member]
        except (KeyError, TypeError, ValueError):
            value = None
        if not isinstance(value, str) or not value or len(value.split()) != 1:
            raise KmsFailed(f"{url}: the reply has no {member}")
        return value
