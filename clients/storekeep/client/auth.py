"""Authentication and access: tokens, service accounts, API keys and roles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Unpack

import grpc

from storekeep.client.calls import CallOptions, Calls, GetOptions, WriteOptions
from storekeep.client.masks import build_field_mask
from storekeep.client.pages import DeletableQuery, Listing, Query, build_query
from storekeep.v1.auth_pb2 import (
    ApiKey,
    BatchGetServiceAccountsRequest,
    CreateApiKeyRequest,
    CreateApiKeyResponse,
    CreateRoleRequest,
    CreateServiceAccountRequest,
    DeleteRoleRequest,
    DeleteServiceAccountRequest,
    GetApiKeyRequest,
    GetJwksRequest,
    GetRoleRequest,
    GetServiceAccountRequest,
    IssueTokenRequest,
    JsonWebKey,
    ListApiKeysRequest,
    ListRolesRequest,
    ListServiceAccountsRequest,
    RefreshTokenRequest,
    RevokeApiKeyRequest,
    RevokeTokenRequest,
    Role,
    RotateApiKeyRequest,
    RotateApiKeyResponse,
    RotateSigningKeyRequest,
    ServiceAccount,
    TestPermissionsRequest,
    TokenSet,
    UndeleteServiceAccountRequest,
    UpdateRoleRequest,
    UpdateServiceAccountRequest,
    WhoAmIRequest,
    WhoAmIResponse,
)
from storekeep.v1.auth_pb2_grpc import AuthServiceStub


class Auth:
    """Issues tokens and manages service accounts, API keys and roles."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = AuthServiceStub(channel)

    def issue_token(self, api_key: str, **options: Unpack[CallOptions]) -> TokenSet:
        """Exchange an API key for an access token and a refresh token. The client does this for its own key.

        Raises: ApiKeyInvalid.
        """
        return self._calls.read_public(self._stub.IssueToken, IssueTokenRequest(api_key=api_key), **options)

    def refresh_token(self, refresh_token: str, **options: Unpack[CallOptions]) -> TokenSet:
        """Exchange a refresh token for a new pair of tokens. A second use revokes all tokens derived from it.

        Raises: Unauthenticated, TokenExpired, TokenRevoked.
        """
        request = RefreshTokenRequest(refresh_token=refresh_token)
        return self._calls.send_once(self._stub.RefreshToken, request, **options)

    def revoke_token(self, token: str, **options: Unpack[CallOptions]) -> None:
        """Revoke an access or refresh token. An unknown or expired token is not an error (RFC 7009)."""
        self._calls.read_public(self._stub.RevokeToken, RevokeTokenRequest(token=token), **options)

    def who_am_i(self, **options: Unpack[CallOptions]) -> WhoAmIResponse:
        """Return the identity, roles and permissions of the caller."""
        return self._calls.read_current(self._stub.WhoAmI, WhoAmIRequest(), **options)

    def test_permissions(self, permissions: Iterable[str], **options: Unpack[CallOptions]) -> Sequence[str]:
        """Return those of up to 100 permissions, as `noun.verb`, that the caller holds."""
        request = TestPermissionsRequest(permissions=permissions)
        return self._calls.read_current(self._stub.TestPermissions, request, **options).permissions

    def rotate_signing_key(self, **options: Unpack[WriteOptions]) -> JsonWebKey:
        """Create a new token-signing key. The previous key verifies tokens until the last one it signed expires.

        Raises: PrivilegeEscalation, unless the caller holds every permission.
        """
        return self._calls.write(self._stub.RotateSigningKey, RotateSigningKeyRequest(), **options).key

    def get_jwks(self, **options: Unpack[CallOptions]) -> Sequence[JsonWebKey]:
        """Return the public keys that verify tokens (RFC 7517), the current one first."""
        return self._calls.read_public(self._stub.GetJwks, GetJwksRequest(), **options).keys

    def get_service_account(self, name: str, **options: Unpack[GetOptions]) -> ServiceAccount:
        """Get one service account, deleted or not.

        Raises: ServiceAccountNotFound.
        """
        return self._calls.get(self._stub.GetServiceAccount, GetServiceAccountRequest(name=name), **options)

    def list_service_accounts(
        self, *, timeout_s: float | None = None, max_staleness_s: float | None = None, **query: Unpack[DeletableQuery]
    ) -> Listing[ServiceAccount]:
        """List service accounts; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListServiceAccountsRequest(**build_query(query))
        return self._calls.list_pages(
            self._stub.ListServiceAccounts,
            request,
            items=lambda page: page.service_accounts,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def batch_get_service_accounts(
        self, names: Iterable[str], **options: Unpack[GetOptions]
    ) -> Sequence[ServiceAccount]:
        """Get up to 1000 service accounts from one snapshot, in the order of `names`; fail if one is missing.

        Raises: ServiceAccountNotFound.
        """
        request = BatchGetServiceAccountsRequest(names=names)
        return self._calls.get(self._stub.BatchGetServiceAccounts, request, **options).service_accounts

    def create_service_account(
        self, service_account: ServiceAccount, *, service_account_id: str = "", **options: Unpack[WriteOptions]
    ) -> ServiceAccount:
        """Create a service account. Output-only fields are ignored.

        `service_account_id` becomes the last segment of its name; the server generates one if it is empty.

        Raises: RoleNotFound, PrivilegeEscalation, AlreadyExists.
        """
        request = CreateServiceAccountRequest(service_account=service_account, service_account_id=service_account_id)
        return self._calls.write(self._stub.CreateServiceAccount, request, **options)

    def update_service_account(
        self, service_account: ServiceAccount, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]
    ) -> ServiceAccount:
        """Update a service account: the fields in `update_mask`, or all fields set in the message if it is empty.

        If the message has an `etag`, the update succeeds only if it is still the current one.

        Raises: InvalidUpdateMask, ServiceAccountNotFound, RoleNotFound, PrivilegeEscalation, ResourceDeleted,
        EtagMismatch.
        """
        mask = build_field_mask(update_mask)
        request = UpdateServiceAccountRequest(service_account=service_account, update_mask=mask)
        return self._calls.write(self._stub.UpdateServiceAccount, request, **options)

    def delete_service_account(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> ServiceAccount:
        """Soft-delete a service account: lists omit it, and it can be undeleted.

        Raises: ServiceAccountNotFound, PrivilegeEscalation, EtagMismatch.
        """
        return self._calls.write(
            self._stub.DeleteServiceAccount, DeleteServiceAccountRequest(name=name, etag=etag), **options
        )

    def undelete_service_account(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> ServiceAccount:
        """Restore a deleted service account.

        Raises: ServiceAccountNotFound, PrivilegeEscalation, ResourceNotDeleted, EtagMismatch.
        """
        return self._calls.write(
            self._stub.UndeleteServiceAccount, UndeleteServiceAccountRequest(name=name, etag=etag), **options
        )

    def get_api_key(self, name: str, **options: Unpack[GetOptions]) -> ApiKey:
        """Get one API key, active, revoked or expired.

        Raises: ApiKeyNotFound.
        """
        return self._calls.get(self._stub.GetApiKey, GetApiKeyRequest(name=name), **options)

    def list_api_keys(
        self,
        parent: str = "serviceAccounts/-",
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        **query: Unpack[Query],
    ) -> Listing[ApiKey]:
        """List API keys; pages are fetched as you iterate.

        `parent` is the account, as `serviceAccounts/{account}`; `serviceAccounts/-` lists those of all accounts.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListApiKeysRequest(parent=parent, **build_query(query))
        return self._calls.list_pages(
            self._stub.ListApiKeys,
            request,
            items=lambda page: page.api_keys,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def create_api_key(
        self, parent: str, api_key: ApiKey, *, api_key_id: str = "", **options: Unpack[WriteOptions]
    ) -> CreateApiKeyResponse:
        """Create an API key. Only this response contains its secret. Output-only fields are ignored.

        Without scopes, the key gets the account's current permissions, and none that are granted later. With the scope
        `*` it always has the permissions of its account. `api_key_id` becomes the last segment of its name; the server
        generates one if it is empty.

        Raises: ServiceAccountNotFound, UnknownPermission, PrivilegeEscalation, ResourceDeleted, AlreadyExists,
        ReplyExpired.
        """
        request = CreateApiKeyRequest(parent=parent, api_key=api_key, api_key_id=api_key_id)
        return self._calls.write(self._stub.CreateApiKey, request, **options)

    def rotate_api_key(
        self, name: str, *, overlap: timedelta | None = None, etag: str = "", **options: Unpack[WriteOptions]
    ) -> RotateApiKeyResponse:
        """Replace an API key by a new one with the same scopes. Only this response contains its secret.

        The old key remains valid for `overlap`, 0 to 30 days (default: 24 hours).

        Raises: ApiKeyNotFound, PrivilegeEscalation, EtagMismatch, IllegalState, ReplyExpired.
        """
        request = RotateApiKeyRequest(name=name, etag=etag)
        if overlap is not None:
            request.overlap.FromTimedelta(overlap)
        return self._calls.write(self._stub.RotateApiKey, request, **options)

    def revoke_api_key(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> ApiKey:
        """Revoke an API key permanently. Tokens issued for it stop working within 5 seconds.

        Raises: ApiKeyNotFound, PrivilegeEscalation, EtagMismatch, IllegalState.
        """
        return self._calls.write(self._stub.RevokeApiKey, RevokeApiKeyRequest(name=name, etag=etag), **options)

    def get_role(self, name: str, **options: Unpack[GetOptions]) -> Role:
        """Get one role.

        Raises: RoleNotFound.
        """
        return self._calls.get(self._stub.GetRole, GetRoleRequest(name=name), **options)

    def list_roles(
        self, *, timeout_s: float | None = None, max_staleness_s: float | None = None, **query: Unpack[Query]
    ) -> Listing[Role]:
        """List roles; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        request = ListRolesRequest(**build_query(query))
        return self._calls.list_pages(
            self._stub.ListRoles,
            request,
            items=lambda page: page.roles,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def create_role(self, role: Role, *, role_id: str = "", **options: Unpack[WriteOptions]) -> Role:
        """Create a role. Output-only fields are ignored.

        `role_id` becomes the last segment of its name; the server generates one if it is empty.

        Raises: UnknownPermission, PrivilegeEscalation, AlreadyExists.
        """
        request = CreateRoleRequest(role=role, role_id=role_id)
        return self._calls.write(self._stub.CreateRole, request, **options)

    def update_role(self, role: Role, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]) -> Role:
        """Update a role: the fields in `update_mask`, or all fields set in the message if it is empty.

        If the message has an `etag`, the update succeeds only if it is still the current one.

        Raises: InvalidUpdateMask, RoleNotFound, UnknownPermission, PrivilegeEscalation, EtagMismatch, RoleBuiltIn.
        """
        request = UpdateRoleRequest(role=role, update_mask=build_field_mask(update_mask))
        return self._calls.write(self._stub.UpdateRole, request, **options)

    def delete_role(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> None:
        """Delete a role that no service account has. It cannot be undeleted.

        Raises: RoleNotFound, PrivilegeEscalation, EtagMismatch, RoleBuiltIn, ResourceInUse.
        """
        self._calls.write(self._stub.DeleteRole, DeleteRoleRequest(name=name, etag=etag), **options)
