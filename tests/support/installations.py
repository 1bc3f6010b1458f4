"""An installation for tests: a real database in its own folder, served over gRPC with the real interceptor chain."""

from __future__ import annotations

import contextlib
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from pydantic import SecretStr

from storekeep.server.config import Settings
from storekeep.server.domain.access.bootstrap import bootstrap_admin, install_access
from storekeep.server.domain.keys.keyrings import Keyring
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.stock.expiry import set_expirers
from storekeep.server.interceptors.auth import authenticate_calls
from storekeep.server.interceptors.chain import Chain
from storekeep.server.interceptors.errors import map_errors
from storekeep.server.interceptors.request_log import request_log
from storekeep.server.interceptors.validation import validate_requests
from storekeep.server.servicers.audit import AuditServicer
from storekeep.server.servicers.auth import AuthServicer
from storekeep.server.store.opening import open_store
from storekeep.server.transport.contract import read_contract
from storekeep.server.wiring.access import make_access
from storekeep.server.wiring.expirers import EXPIRERS
from storekeep.v1 import audit_pb2_grpc, auth_pb2, auth_pb2_grpc
from tests.support.databases import Database
from tests.support.stores import KEK

SECRET = b"a secret for tests, 32 bytes long, at least"
ISSUER = "https://storekeep.test"
AUDIENCE = "storekeep"


@dataclass(frozen=True)
class Refusal:
    """The status of a refused call."""

    code: grpc.StatusCode
    reason: str
    metadata: dict[str, str]
    text: str


class Installation:
    """A database with everything that decides on access."""

    def __init__(self, database: Database, *, poll_interval_s: float = 0.05, verified_max: int = 100) -> None:
        self.database = database
        self.contract = read_contract()
        self.known = self.contract.permissions
        self.store = open_store(database.url)
        set_expirers(self.store, EXPIRERS)
        settings = Settings(
            kek=SecretStr(KEK.decode()),
            token_issuer=ISSUER,
            token_audience=AUDIENCE,
            revocation_poll_s=poll_interval_s,
            token_cache_max=verified_max,
        )
        self.keyring = Keyring.from_secret(SECRET)
        self.access = make_access(settings, self.store, self.contract, keyring=self.keyring)
        self.version = self.access.version
        self.signing_keys = self.access.signing_keys
        self.key_secrets = self.access.key_secrets
        self.tokens = self.access.tokens
        self.authenticator = self.access.authenticator
        install_access(self.store, keyring=self.keyring, known=self.known, signing_keys=self.signing_keys)
        api_keys: list[str] = []
        bootstrap_admin(self.store, key_secrets=self.key_secrets, known=self.known, keep=api_keys.append)
        (self.admin_key,) = api_keys

    def serve(self) -> grpc.Server:
        """Start serving AuthService and AuditService; sets `address`."""
        reads, writes = ThreadPoolExecutor(4), ThreadPoolExecutor(4)
        chain = Chain(
            outermost=request_log(lambda line, **_: None),
            layers=[
                map_errors,
                authenticate_calls(self.authenticator),
                validate_requests(message_size_max_bytes=2**20),
            ],
            methods=self.contract.methods,
            mutations=self.contract.changes,
            read_pool=reads,
            write_pool=writes,
            reject=lambda path, metadata: None,
        )
        server = grpc.server(reads, interceptors=[chain], options=[("grpc.max_metadata_size", 32_768)])
        pages = PageTokens(self.keyring)
        auth = AuthServicer(
            self.store,
            pages,
            tokens=self.tokens,
            signing_keys=self.signing_keys,
            key_secrets=self.key_secrets,
            access_version=self.version,
            permissions=self.known,
        )
        auth_pb2_grpc.add_AuthServiceServicer_to_server(auth, server)
        audit_pb2_grpc.add_AuditServiceServicer_to_server(AuditServicer(self.store, pages), server)
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        return server


class Caller:
    """Calls a served installation with one token, or without a token."""

    def __init__(self, channel: grpc.Channel, access_token: str = "") -> None:
        self.auth = auth_pb2_grpc.AuthServiceStub(channel)
        self.audit = audit_pb2_grpc.AuditServiceStub(channel)
        self._channel = channel
        self.access_token = access_token

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """Return the metadata of every call."""
        return [("authorization", f"Bearer {self.access_token}")] if self.access_token else []

    def __call__(self, method: str, request):
        """Call a method of AuthService or AuditService by name."""
        stub = self.auth if hasattr(self.auth, method) else self.audit
        return getattr(stub, method)(request, metadata=self.metadata, timeout=60)

    def refusal(self, method: str, request) -> Refusal:
        """Return the error of a call; fail if it succeeds."""
        try:
            self(method, request)
        except grpc.RpcError as error:
            return parse_refusal(error)
        raise AssertionError(f"{method} was not refused")

    def with_token(self, access_token: str) -> Caller:
        """Return a caller with another token on the same connection."""
        return Caller(self._channel, access_token)

    def issue(self, api_key: str) -> auth_pb2.TokenSet:
        """Issue new tokens for an API key."""
        return self.auth.IssueToken(auth_pb2.IssueTokenRequest(api_key=api_key), timeout=60)

    def with_key(self, api_key: str) -> Caller:
        """Return a caller with this API key on the same connection."""
        return self.with_token(self.issue(api_key).access_token)

    def make_account(self, account_id: str, *, roles=(), scopes=()) -> Caller:
        """Create a service account with a key; return a caller with that key."""
        return self.with_key(self.make_key(account_id, roles=roles, scopes=scopes))

    def make_key(self, account_id: str, *, roles=(), scopes=()) -> str:
        """Create a service account and return the secret of its key `main`."""
        self(
            "CreateServiceAccount",
            auth_pb2.CreateServiceAccountRequest(
                service_account=auth_pb2.ServiceAccount(display_name=account_id, roles=[f"roles/{r}" for r in roles]),
                service_account_id=account_id,
            ),
        )
        made = self(
            "CreateApiKey",
            auth_pb2.CreateApiKeyRequest(
                parent=f"serviceAccounts/{account_id}", api_key=auth_pb2.ApiKey(scopes=scopes), api_key_id="main"
            ),
        )
        return made.secret


def parse_refusal(error: grpc.RpcError) -> Refusal:
    """Parse the status of an error."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    with contextlib.suppress(StopIteration):
        next(detail for detail in status.details if detail.Is(info.DESCRIPTOR)).Unpack(info)
    assert info.domain == "storekeep"
    return Refusal(error.code(), info.reason, dict(info.metadata), error.details())


def new_request_id() -> str:
    """Create a request id."""
    return str(uuid.uuid4())
