"""An identity provider for tests: its keys as a file that a server reads, and tokens of any content."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from google.protobuf.timestamp_pb2 import Timestamp

from storekeep.client import IdentityProviderUnavailable, NotAuthenticated, Storekeep, TokenSet, WhoAmIResponse
from storekeep.client.statuses import from_rpc_error
from storekeep.server.runtime import base64url
from storekeep.v1 import auth_pb2_grpc
from storekeep.v1.auth_pb2 import WhoAmIRequest
from tests.support.shops import new_id

WAIT_S = 60.0
ISSUER = "https://login.example.com"
CLIENT_ID = "storekeep-console"
AUDIENCE = "https://shop.example/api"
NONCE_SECRET = "a secret of the program that signs in"
NONCE = base64url.encode(hashlib.sha256(NONCE_SECRET.encode()).digest())
GROUPS = "staff=operator bosses=admin bosses=viewer"


def make_key() -> rsa.RSAPrivateKey:
    """Return a new RSA key."""
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


def describe_key(key: Any, kid: str, **members: str) -> dict[str, Any]:
    """Return the public half of a key as a JSON Web Key."""
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    described: dict[str, Any] = algorithm.to_jwk(key.public_key(), as_dict=True)
    return described | {"kid": kid, "use": "sig"} | members


@dataclass
class Provider:
    """An identity provider.

    Attributes:
        file: the file with its public keys.
    """

    file: Path
    key: rsa.RSAPrivateKey = field(default_factory=make_key)
    ec_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def publish(self, *others: dict[str, Any]) -> None:
        """Write the public keys, with others."""
        keys = [describe_key(self.key, "rsa"), describe_key(self.ec_key, "ec"), *others]
        self.file.write_text(json.dumps({"keys": keys}))

    def get_settings(self) -> dict[str, str]:
        """Return the settings of a server that trusts this provider."""
        self.publish()
        return {
            "oidc_issuer": ISSUER,
            "oidc_client_id": CLIENT_ID,
            "oidc_audience": AUDIENCE,
            "oidc_jwks_file": str(self.file),
            "oidc_roles": GROUPS,
        }

    def sign(
        self,
        claims: dict[str, Any],
        *,
        key: Any = None,
        algorithm: str = "RS256",
        kid: str = "rsa",
        header: dict[str, Any] | None = None,
    ) -> str:
        """Return a token with these claims; one that is None is left out."""
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(kept, key or self.key, algorithm=algorithm, headers={"kid": kid} | (header or {}))

    def make_id_token(self, *, subject: str = "", **claims: Any) -> str:
        """Return an ID token of a person in the group `staff`."""
        return self.sign(make_claims(subject, aud=CLIENT_ID, nonce=NONCE) | claims)

    def make_access_token(self, *, subject: str, **claims: Any) -> str:
        """Return an access token of a person in the group `staff`."""
        return self.sign(make_claims(subject, aud=AUDIENCE, jti=new_id()) | claims, header={"typ": "at+jwt"})


def make_claims(subject: str = "", **claims: Any) -> dict[str, Any]:
    """Return claims that are valid now, for one audience."""
    now_s = int(time.time())
    subject = subject or new_id("subject")
    own = {"iss": ISSUER, "sub": subject, "iat": now_s, "exp": now_s + 300, "groups": ["staff"], "name": "Ann Example"}
    return own | claims


def wait_for_keys(address: str) -> None:
    """Wait until a server has the keys of its provider: it looks for the one of a forged token."""
    forged = jwt.encode({}, make_key(), algorithm="RS256", headers={"kid": "rsa"})
    deadline_s = time.monotonic() + WAIT_S
    with Storekeep(address, api_key="") as nobody:
        while time.monotonic() < deadline_s:
            try:
                nobody.users.sign_in_with_identity_token(forged, nonce_secret=NONCE_SECRET)
            except NotAuthenticated:
                return
            except IdentityProviderUnavailable:
                time.sleep(0.1)
    raise TimeoutError("the server has no keys")


def ask_who_it_is(address: str, access_token: str) -> WhoAmIResponse:
    """Return whom the server takes an access token for, without a refresh if it is rejected.

    Raises: StorekeepError.
    """
    with grpc.insecure_channel(address) as channel:
        metadata = [("authorization", f"Bearer {access_token}")]
        try:
            return auth_pb2_grpc.AuthServiceStub(channel).WhoAmI(WhoAmIRequest(), metadata=metadata, timeout=WAIT_S)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None


def use_token(address: str, access_token: str) -> Storekeep:
    """Return a client that sends an access token as it is."""
    expire_time = Timestamp(seconds=int(time.time()) + 3_600)
    return Storekeep(address, tokens=TokenSet(access_token=access_token, expire_time=expire_time))
