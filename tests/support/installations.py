"""An installation for tests: a real database in a folder of its own, served over real gRPC by the real chain."""

from __future__ import annotations

import contextlib
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from storekeep.server.app import EXPIRERS
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
from storekeep.v1 import audit_pb2_grpc, auth_pb2, auth_pb2_grpc
from tests.support.databases import Database

SECRET = b"a secret for tests, 32 bytes long, at least"
ISSUER = "https://storekeep.test"
AUDIENCE = "storekeep"


@dataclass(frozen=True)
class Refusal:
    """What a refused call said."""

    code: grpc.StatusCode
    reason: str
    metadata: dict[str, str]
    text: str


class Installation:
    """One database with everything that decides who may call."""

    def __init__(self, database: Database, *, poll_interval_s: float = 0.05, verified_max: int = 100) -> None:
        self.database = database
        self.contract = read_contract()
        self.known = self.contract.permissions
        self.store = open_store(database.url)
        set_expirers(self.store, EXPIRERS)
        settings = Settings(
            token_issuer=ISSUER,
            token_audience=AUDIENCE,
            revocation_poll_s=poll_interval_s,
            token_cache_max=verified_max,
        )
        self.keyring = Keyring.of(SECRET)
        self.access = make_access(settings, self.store, self.contract, keyring=self.keyring)
        self.version = self.access.version
        self.signing_keys = self.access.signing_keys
        self.key_secrets = self.access.key_secrets
        self.tokens = self.access.tokens
        self.authenticator = self.access.authenticator
        install_access(self.store, keyring=self.keyring, known=self.known, signing_keys=self.signing_keys)
        kept: list[str] = []
        bootstrap_admin(self.store, key_secrets=self.key_secrets, known=self.known, keep=kept.append)
        (self.admin_key,) = kept

    def serve(self) -> grpc.Server:
        """Start serving AuthService and AuditService; the address is in `address`."""
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
            refuse=lambda path, metadata: None,
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
    """Calls a served installation with one token, or with none."""

    def __init__(self, channel: grpc.Channel, access_token: str = "") -> None:
        self.auth = auth_pb2_grpc.AuthServiceStub(channel)
        self.audit = audit_pb2_grpc.AuditServiceStub(channel)
        self._channel = channel
        self.access_token = access_token

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """What goes with every call."""
        return [("authorization", f"Bearer {self.access_token}")] if self.access_token else []

    def __call__(self, method: str, request):
        """Call a method of AuthService or AuditService by its name."""
        stub = self.auth if hasattr(self.auth, method) else self.audit
        return getattr(stub, method)(request, metadata=self.metadata, timeout=60)

    def refusal(self, method: str, request) -> Refusal:
        """How a call is refused; fails where it is not."""
        try:
            self(method, request)
        except grpc.RpcError as error:
            return refusal_of(error)
        raise AssertionError(f"{method} was not refused")

    def with_token(self, access_token: str) -> Caller:
        """The same connection, with another token."""
        return Caller(self._channel, access_token)

    def issue(self, api_key: str) -> auth_pb2.TokenSet:
        """New tokens for an API key."""
        return self.auth.IssueToken(auth_pb2.IssueTokenRequest(api_key=api_key), timeout=60)

    def with_key(self, api_key: str) -> Caller:
        """The same connection, as whoever has this API key."""
        return self.with_token(self.issue(api_key).access_token)

    def make_account(self, account_id: str, *, roles=(), scopes=()) -> Caller:
        """A new service account with a key; gives what calls in its name."""
        return self.with_key(self.make_key(account_id, roles=roles, scopes=scopes))

    def make_key(self, account_id: str, *, roles=(), scopes=()) -> str:
        """A new service account and the secret of its key, `main`."""
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


def refusal_of(error: grpc.RpcError) -> Refusal:
    """What an error carries."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    with contextlib.suppress(StopIteration):
        next(detail for detail in status.details if detail.Is(info.DESCRIPTOR)).Unpack(info)
    assert info.domain == "storekeep"
    return Refusal(error.code(), info.reason, dict(info.metadata), error.details())


def new_request_id() -> str:
    """As callers make one."""
    return str(uuid.uuid4())
