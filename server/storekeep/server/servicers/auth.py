"""AuthService: tokens, service accounts, API keys, roles and signing keys."""

from __future__ import annotations

import grpc

from storekeep.server.domain.access import accounts, api_keys, roles
from storekeep.server.domain.access.accounts import SERVICE_ACCOUNTS
from storekeep.server.domain.access.api_keys import API_KEYS, KeySecrets, lookup_id_of
from storekeep.server.domain.access.permissions import AccessVersion
from storekeep.server.domain.access.roles import ROLES
from storekeep.server.domain.access.signing_keys import SigningKeys
from storekeep.server.domain.access.tokens import Tokens
from storekeep.server.domain.calls import Call
from storekeep.server.domain.errors import AccessRefused
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.standard.resources import new_id
from storekeep.server.servicers.accounts import (
    ACCOUNT_FIELDS,
    ROLE_FIELDS,
    account_from,
    account_message,
    jwk_message,
    key_from,
    key_ids,
    key_message,
    role_from,
    role_message,
    tokens_message,
)
from storekeep.server.servicers.calls import call_of, list_request_of
from storekeep.server.servicers.converters import MICROS, id_of, key_of, masked_fields, timestamp_of
from storekeep.server.store.engine import Store
from storekeep.server.transport.rpc import CURRENT
from storekeep.v1 import auth_pb2 as pb
from storekeep.v1 import auth_pb2_grpc

OVERLAP_DEFAULT_US = 24 * 3600 * MICROS
"""How long a rotated key works on where the caller does not say, as the contract has it."""


def _own_call() -> Call:
    """The call that this thread serves, for a method that takes no `request_id`."""
    rpc = CURRENT.get()
    return Call(caller=rpc.caller, method=rpc.method, deadline=rpc.deadline)


class AuthServicer(auth_pb2_grpc.AuthServiceServicer):
    """The RPCs of AuthService; what each does stands in the contract.

    Args:
        store: the database.
        page_tokens: of the lists.
        tokens: issues, refreshes and revokes access tokens.
        signing_keys: sign them.
        key_secrets: makes the secrets of API keys.
        access_version: told of every change, so that this process heeds it at once.
        permissions: all that any RPC asks for.
    """

    def __init__(
        self,
        store: Store,
        page_tokens: PageTokens,
        *,
        tokens: Tokens,
        signing_keys: SigningKeys,
        key_secrets: KeySecrets,
        access_version: AccessVersion,
        permissions: frozenset[str],
    ) -> None:
        self._store = store
        self._page_tokens = page_tokens
        self._tokens = tokens
        self._signing_keys = signing_keys
        self._key_secrets = key_secrets
        self._access_version = access_version
        self._permissions = permissions

    # -- tokens

    def IssueToken(self, request: pb.IssueTokenRequest, context: grpc.ServicerContext) -> pb.TokenSet:
        CURRENT.get().lookup_id = lookup_id_of(request.api_key)
        return tokens_message(self._tokens.issue(_own_call(), request.api_key))

    def RefreshToken(self, request: pb.RefreshTokenRequest, context: grpc.ServicerContext) -> pb.TokenSet:
        try:
            return tokens_message(self._tokens.refresh(_own_call(), request.refresh_token))
        except AccessRefused as refusal:
            CURRENT.get().session_id = refusal.session_id
            raise
        finally:  # a refusal may have ended a session
            self._access_version.expire()

    def RevokeToken(self, request: pb.RevokeTokenRequest, context: grpc.ServicerContext) -> pb.RevokeTokenResponse:
        self._tokens.revoke(_own_call(), request.token)
        self._access_version.expire()
        return pb.RevokeTokenResponse()

    def WhoAmI(self, request: pb.WhoAmIRequest, context: grpc.ServicerContext) -> pb.WhoAmIResponse:
        caller = CURRENT.get().caller
        return pb.WhoAmIResponse(
            subject=caller.subject,
            display_name=caller.display_name,
            roles=caller.roles,
            permissions=sorted(caller.permissions),
            expire_time=timestamp_of(caller.expire_us),
        )

    def TestPermissions(
        self, request: pb.TestPermissionsRequest, context: grpc.ServicerContext
    ) -> pb.TestPermissionsResponse:
        held = CURRENT.get().caller.permissions
        return pb.TestPermissionsResponse(permissions=[asked for asked in request.permissions if asked in held])

    # -- signing keys

    def RotateSigningKey(
        self, request: pb.RotateSigningKeyRequest, context: grpc.ServicerContext
    ) -> pb.RotateSigningKeyResponse:
        key = self._signing_keys.rotate(call_of(request), known=self._permissions)
        self._access_version.expire()
        return pb.RotateSigningKeyResponse(key=jwk_message(key))

    def GetJwks(self, request: pb.GetJwksRequest, context: grpc.ServicerContext) -> pb.GetJwksResponse:
        return pb.GetJwksResponse(keys=[jwk_message(key) for key in self._signing_keys.published()])

    # -- service accounts

    def GetServiceAccount(
        self, request: pb.GetServiceAccountRequest, context: grpc.ServicerContext
    ) -> pb.ServiceAccount:
        return account_message(SERVICE_ACCOUNTS.get(self._store, key_of(request.name)))

    def ListServiceAccounts(
        self, request: pb.ListServiceAccountsRequest, context: grpc.ServicerContext
    ) -> pb.ListServiceAccountsResponse:
        page = SERVICE_ACCOUNTS.page(
            self._store, list_request_of(request), listing=accounts.LISTING, tokens=self._page_tokens
        )
        return pb.ListServiceAccountsResponse(
            service_accounts=[account_message(item) for item in page.items], next_page_token=page.next_page_token
        )

    def BatchGetServiceAccounts(
        self, request: pb.BatchGetServiceAccountsRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetServiceAccountsResponse:
        found = SERVICE_ACCOUNTS.batch_get(self._store, [key_of(name) for name in request.names])
        return pb.BatchGetServiceAccountsResponse(service_accounts=[account_message(item) for item in found])

    def CreateServiceAccount(
        self, request: pb.CreateServiceAccountRequest, context: grpc.ServicerContext
    ) -> pb.ServiceAccount:
        draft = account_from(request.service_account, request.service_account_id or new_id())
        return account_message(accounts.create_account(self._store, call_of(request), draft))

    def UpdateServiceAccount(
        self, request: pb.UpdateServiceAccountRequest, context: grpc.ServicerContext
    ) -> pb.ServiceAccount:
        wanted = request.service_account
        fields = masked_fields(request.update_mask, wanted, ACCOUNT_FIELDS)
        draft = account_from(wanted, id_of(wanted.name))
        changed = accounts.update_account(self._store, call_of(request), draft, fields=fields, etag=wanted.etag)
        self._access_version.expire()
        return account_message(changed)

    def DeleteServiceAccount(
        self, request: pb.DeleteServiceAccountRequest, context: grpc.ServicerContext
    ) -> pb.ServiceAccount:
        changed = accounts.delete_account(self._store, call_of(request), id_of(request.name), etag=request.etag)
        self._access_version.expire()
        return account_message(changed)

    def UndeleteServiceAccount(
        self, request: pb.UndeleteServiceAccountRequest, context: grpc.ServicerContext
    ) -> pb.ServiceAccount:
        changed = accounts.undelete_account(self._store, call_of(request), id_of(request.name), etag=request.etag)
        self._access_version.expire()
        return account_message(changed)

    # -- API keys

    def GetApiKey(self, request: pb.GetApiKeyRequest, context: grpc.ServicerContext) -> pb.ApiKey:
        return key_message(API_KEYS.get(self._store, key_of(request.name)))

    def ListApiKeys(self, request: pb.ListApiKeysRequest, context: grpc.ServicerContext) -> pb.ListApiKeysResponse:
        page = API_KEYS.page(
            self._store,
            list_request_of(request, parent=id_of(request.parent)),
            listing=api_keys.LISTING,
            tokens=self._page_tokens,
        )
        return pb.ListApiKeysResponse(
            api_keys=[key_message(item) for item in page.items], next_page_token=page.next_page_token
        )

    def CreateApiKey(self, request: pb.CreateApiKeyRequest, context: grpc.ServicerContext) -> pb.CreateApiKeyResponse:
        draft = key_from(request.api_key, parent=request.parent, key_id=request.api_key_id or new_id())
        issued = api_keys.create_key(
            self._store, call_of(request), draft, key_secrets=self._key_secrets, known=self._permissions
        )
        return pb.CreateApiKeyResponse(api_key=key_message(issued.api_key), secret=issued.secret)

    def RotateApiKey(self, request: pb.RotateApiKeyRequest, context: grpc.ServicerContext) -> pb.RotateApiKeyResponse:
        overlap_us = request.overlap.ToMicroseconds() if request.HasField("overlap") else OVERLAP_DEFAULT_US
        issued = api_keys.rotate_key(
            self._store,
            call_of(request),
            key_ids(request.name),
            overlap_us=overlap_us,
            etag=request.etag,
            key_secrets=self._key_secrets,
            known=self._permissions,
        )
        self._access_version.expire()
        return pb.RotateApiKeyResponse(api_key=key_message(issued.api_key), secret=issued.secret)

    def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, context: grpc.ServicerContext) -> pb.ApiKey:
        revoked = api_keys.revoke_key(self._store, call_of(request), key_ids(request.name), etag=request.etag)
        self._access_version.expire()
        return key_message(revoked)

    # -- roles

    def GetRole(self, request: pb.GetRoleRequest, context: grpc.ServicerContext) -> pb.Role:
        return role_message(ROLES.get(self._store, key_of(request.name)))

    def ListRoles(self, request: pb.ListRolesRequest, context: grpc.ServicerContext) -> pb.ListRolesResponse:
        page = ROLES.page(self._store, list_request_of(request), listing=roles.LISTING, tokens=self._page_tokens)
        return pb.ListRolesResponse(
            roles=[role_message(item) for item in page.items], next_page_token=page.next_page_token
        )

    def CreateRole(self, request: pb.CreateRoleRequest, context: grpc.ServicerContext) -> pb.Role:
        draft = role_from(request.role, request.role_id or new_id())
        return role_message(roles.create_role(self._store, call_of(request), draft, known=self._permissions))

    def UpdateRole(self, request: pb.UpdateRoleRequest, context: grpc.ServicerContext) -> pb.Role:
        changed = roles.update_role(
            self._store,
            call_of(request),
            role_from(request.role, id_of(request.role.name)),
            fields=masked_fields(request.update_mask, request.role, ROLE_FIELDS),
            etag=request.role.etag,
            known=self._permissions,
        )
        self._access_version.expire()
        return role_message(changed)

    def DeleteRole(self, request: pb.DeleteRoleRequest, context: grpc.ServicerContext) -> pb.DeleteRoleResponse:
        roles.delete_role(self._store, call_of(request), id_of(request.name), etag=request.etag)
        self._access_version.expire()
        return pb.DeleteRoleResponse()
