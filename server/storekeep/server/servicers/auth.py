"""AuthService: tokens, service accounts, API keys, roles and signing keys."""

from __future__ import annotations

import grpc

from storekeep.server.domain.access import accounts, api_keys, roles
from storekeep.server.domain.access.accounts import SERVICE_ACCOUNTS
from storekeep.server.domain.access.api_keys import API_KEYS, KeySecrets, parse_lookup_id
from storekeep.server.domain.access.permissions import AccessVersion
from storekeep.server.domain.access.roles import ROLES
from storekeep.server.domain.access.signing_keys import SigningKeys
from storekeep.server.domain.access.tokens import Tokens
from storekeep.server.domain.access_errors import AccessRefused, TokenRevoked
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.standard.resources import MICROS, new_id
from storekeep.server.servicers.accounts import (
    ACCOUNT_FIELDS,
    ROLE_FIELDS,
    build_account,
    build_api_key,
    build_jwk,
    build_role,
    build_token_set,
    parse_account,
    parse_api_key,
    parse_key_ids,
    parse_role,
)
from storekeep.server.servicers.calls import build_call, build_list_request, build_own_call, build_page_fields
from storekeep.server.servicers.converters import build_timestamp, parse_id, parse_key, parse_update_mask
from storekeep.server.store.engine import Store
from storekeep.server.transport.rpc import CURRENT
from storekeep.v1 import auth_pb2 as pb
from storekeep.v1 import auth_pb2_grpc

OVERLAP_DEFAULT_US = 24 * 3600 * MICROS
"""How long a rotated key stays valid by default, as the contract states."""


class AuthServicer(auth_pb2_grpc.AuthServiceServicer):
    """The RPCs of AuthService; the contract documents each one.

    Args:
        store: The database.
        page_tokens: Encodes the page tokens of lists.
        tokens: Issues, refreshes and revokes access tokens.
        signing_keys: Keys that sign the access tokens.
        key_secrets: Creates the secrets of API keys.
        access_version: Expired after each change, so that it takes effect in this process at once.
        permissions: All permissions that any RPC requires.
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
        CURRENT.get().lookup_id = parse_lookup_id(request.api_key)
        return build_token_set(self._tokens.issue(build_own_call(), request.api_key))

    def RefreshToken(self, request: pb.RefreshTokenRequest, context: grpc.ServicerContext) -> pb.TokenSet:
        try:
            return build_token_set(self._tokens.refresh(build_own_call(), request.refresh_token))
        except AccessRefused as error:
            CURRENT.get().session_id = error.session_id
            if isinstance(error, TokenRevoked):  # a token that is used twice ends its session
                self._access_version.expire()
            raise

    def RevokeToken(self, request: pb.RevokeTokenRequest, context: grpc.ServicerContext) -> pb.RevokeTokenResponse:
        if self._tokens.revoke(
            build_own_call(), request.token
        ):  # otherwise, anybody could make each call read it again
            self._access_version.expire()
        return pb.RevokeTokenResponse()

    def WhoAmI(self, request: pb.WhoAmIRequest, context: grpc.ServicerContext) -> pb.WhoAmIResponse:
        caller = CURRENT.get().caller
        return pb.WhoAmIResponse(
            subject=caller.subject,
            display_name=caller.display_name,
            roles=caller.roles,
            permissions=sorted(caller.permissions),
            expire_time=build_timestamp(caller.expire_us),
        )

    def TestPermissions(
        self, request: pb.TestPermissionsRequest, context: grpc.ServicerContext
    ) -> pb.TestPermissionsResponse:
        held = CURRENT.get().caller.permissions
        permissions = [permission for permission in request.permissions if permission in held]
        return pb.TestPermissionsResponse(permissions=permissions)

    # -- signing keys

    def RotateSigningKey(
        self, request: pb.RotateSigningKeyRequest, context: grpc.ServicerContext
    ) -> pb.RotateSigningKeyResponse:
        key = self._signing_keys.rotate(build_call(request), known=self._permissions)
        self._access_version.expire()
        return pb.RotateSigningKeyResponse(key=build_jwk(key))

    def GetJwks(self, request: pb.GetJwksRequest, context: grpc.ServicerContext) -> pb.GetJwksResponse:
        return pb.GetJwksResponse(keys=[build_jwk(key) for key in self._signing_keys.list_published()])

    # -- service accounts

    def GetServiceAccount(
        self, request: pb.GetServiceAccountRequest, context: grpc.ServicerContext
    ) -> pb.ServiceAccount:
        return build_account(SERVICE_ACCOUNTS.get(self._store, parse_key(request.name)))

    def ListServiceAccounts(
        self, request: pb.ListServiceAccountsRequest, context: grpc.ServicerContext
    ) -> pb.ListServiceAccountsResponse:
        page = SERVICE_ACCOUNTS.page(
            self._store, build_list_request(request), listing=accounts.LISTING, tokens=self._page_tokens
        )
        return pb.ListServiceAccountsResponse(
            service_accounts=[build_account(item) for item in page.items], **build_page_fields(page)
        )

    def BatchGetServiceAccounts(
        self, request: pb.BatchGetServiceAccountsRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetServiceAccountsResponse:
        items = SERVICE_ACCOUNTS.batch_get(self._store, [parse_key(name) for name in request.names])
        return pb.BatchGetServiceAccountsResponse(service_accounts=[build_account(item) for item in items])

    def CreateServiceAccount(
        self, request: pb.CreateServiceAccountRequest, context: grpc.ServicerContext
    ) -> pb.ServiceAccount:
        account = parse_account(request.service_account, request.service_account_id or new_id())
        return build_account(accounts.create_account(self._store, build_call(request), account))

    def UpdateServiceAccount(
        self, request: pb.UpdateServiceAccountRequest, context: grpc.ServicerContext
    ) -> pb.ServiceAccount:
        message = request.service_account
        fields = parse_update_mask(request.update_mask, message, ACCOUNT_FIELDS)
        account = parse_account(message, parse_id(message.name))
        result = accounts.update_account(self._store, build_call(request), account, fields=fields, etag=message.etag)
        self._access_version.expire()
        return build_account(result)

    def DeleteServiceAccount(
        self, request: pb.DeleteServiceAccountRequest, context: grpc.ServicerContext
    ) -> pb.ServiceAccount:
        result = accounts.delete_account(self._store, build_call(request), parse_id(request.name), etag=request.etag)
        self._access_version.expire()
        return build_account(result)

    def UndeleteServiceAccount(
        self, request: pb.UndeleteServiceAccountRequest, context: grpc.ServicerContext
    ) -> pb.ServiceAccount:
        result = accounts.undelete_account(self._store, build_call(request), parse_id(request.name), etag=request.etag)
        self._access_version.expire()
        return build_account(result)

    # -- API keys

    def GetApiKey(self, request: pb.GetApiKeyRequest, context: grpc.ServicerContext) -> pb.ApiKey:
        return build_api_key(API_KEYS.get(self._store, parse_key(request.name)))

    def ListApiKeys(self, request: pb.ListApiKeysRequest, context: grpc.ServicerContext) -> pb.ListApiKeysResponse:
        page = API_KEYS.page(
            self._store,
            build_list_request(request, parent=parse_id(request.parent)),
            listing=api_keys.LISTING,
            tokens=self._page_tokens,
        )
        return pb.ListApiKeysResponse(api_keys=[build_api_key(item) for item in page.items], **build_page_fields(page))

    def CreateApiKey(self, request: pb.CreateApiKeyRequest, context: grpc.ServicerContext) -> pb.CreateApiKeyResponse:
        api_key = parse_api_key(request.api_key, parent=request.parent, key_id=request.api_key_id or new_id())
        issued = api_keys.create_key(
            self._store, build_call(request), api_key, key_secrets=self._key_secrets, known=self._permissions
        )
        return pb.CreateApiKeyResponse(api_key=build_api_key(issued.api_key), secret=issued.secret)

    def RotateApiKey(self, request: pb.RotateApiKeyRequest, context: grpc.ServicerContext) -> pb.RotateApiKeyResponse:
        overlap_us = request.overlap.ToMicroseconds() if request.HasField("overlap") else OVERLAP_DEFAULT_US
        issued = api_keys.rotate_key(
            self._store,
            build_call(request),
            parse_key_ids(request.name),
            overlap_us=overlap_us,
            etag=request.etag,
            key_secrets=self._key_secrets,
            known=self._permissions,
        )
        self._access_version.expire()
        return pb.RotateApiKeyResponse(api_key=build_api_key(issued.api_key), secret=issued.secret)

    def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, context: grpc.ServicerContext) -> pb.ApiKey:
        api_key = api_keys.revoke_key(self._store, build_call(request), parse_key_ids(request.name), etag=request.etag)
        self._access_version.expire()
        return build_api_key(api_key)

    # -- roles

    def GetRole(self, request: pb.GetRoleRequest, context: grpc.ServicerContext) -> pb.Role:
        return build_role(ROLES.get(self._store, parse_key(request.name)))

    def ListRoles(self, request: pb.ListRolesRequest, context: grpc.ServicerContext) -> pb.ListRolesResponse:
        page = ROLES.page(self._store, build_list_request(request), listing=roles.LISTING, tokens=self._page_tokens)
        return pb.ListRolesResponse(roles=[build_role(item) for item in page.items], **build_page_fields(page))

    def CreateRole(self, request: pb.CreateRoleRequest, context: grpc.ServicerContext) -> pb.Role:
        role = parse_role(request.role, request.role_id or new_id())
        return build_role(roles.create_role(self._store, build_call(request), role, known=self._permissions))

    def UpdateRole(self, request: pb.UpdateRoleRequest, context: grpc.ServicerContext) -> pb.Role:
        result = roles.update_role(
            self._store,
            build_call(request),
            parse_role(request.role, parse_id(request.role.name)),
            fields=parse_update_mask(request.update_mask, request.role, ROLE_FIELDS),
            etag=request.role.etag,
            known=self._permissions,
        )
        self._access_version.expire()
        return build_role(result)

    def DeleteRole(self, request: pb.DeleteRoleRequest, context: grpc.ServicerContext) -> pb.DeleteRoleResponse:
        roles.delete_role(self._store, build_call(request), parse_id(request.name), etag=request.etag)
        self._access_version.expire()
        return pb.DeleteRoleResponse()
