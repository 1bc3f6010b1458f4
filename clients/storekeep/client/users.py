"""Users: people who sign in, their passwords, second factors and sessions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Unpack

import grpc

from storekeep.client.calls import CallOptions, Calls, GetOptions, WriteOptions
from storekeep.client.masks import build_field_mask
from storekeep.client.pages import DeletableQuery, Listing, Query, build_query
from storekeep.v1.auth_pb2 import TokenSet
from storekeep.v1.users_pb2 import (
    BatchGetUsersRequest,
    ChangePasswordRequest,
    CreatePasswordLinkRequest,
    CreatePasswordLinkResponse,
    CreateUserRequest,
    DeleteUserRequest,
    DisableTotpRequest,
    EnableTotpRequest,
    EndOwnSessionsRequest,
    GetOwnUserRequest,
    GetOwnUserResponse,
    GetUserRequest,
    ListUserSessionsRequest,
    ListUsersRequest,
    RedeemPasswordLinkRequest,
    ResetUserTotpRequest,
    RevokeUserSessionRequest,
    RevokeUserSessionsRequest,
    SignInRequest,
    SignInWithIdentityTokenRequest,
    UndeleteUserRequest,
    UpdateUserRequest,
    User,
    UserSession,
)
from storekeep.v1.users_pb2_grpc import UserServiceStub


class Users:
    """Signs users in and manages them."""

    def __init__(self, calls: Calls, *, channel: grpc.Channel) -> None:
        self._calls = calls
        self._stub = UserServiceStub(channel)

    def sign_in(
        self, email: str, password: str, *, code: str = "", program: str = "", **options: Unpack[CallOptions]
    ) -> TokenSet:
        """Start a session of a user. Pass the tokens to `Storekeep(tokens=...)`.

        `code` is one of the authenticator app, or a recovery code. `program` is how the list of sessions names it.

        Raises: CredentialsInvalid.
        """
        request = SignInRequest(email=email, password=password, code=code, program=program)
        return self._calls.send_once(self._stub.SignIn, request, **options)

    def sign_in_with_identity_token(
        self, id_token: str, *, nonce_secret: str, program: str = "", **options: Unpack[CallOptions]
    ) -> TokenSet:
        """Start a session with an ID token of the identity provider. Pass the tokens to `Storekeep(tokens=...)`.

        `nonce_secret` is a random text of 32 to 128 characters, whose SHA-256 in base64url was the `nonce` of the
        request to the provider. An ID token works once.

        Raises: IdentityTokenInvalid, IdentityProviderUnavailable, IdentityNotAllowed.
        """
        request = SignInWithIdentityTokenRequest(id_token=id_token, nonce_secret=nonce_secret, program=program)
        return self._calls.send_once(self._stub.SignInWithIdentityToken, request, **options)

    def redeem_password_link(self, link_token: str, new_password: str, **options: Unpack[CallOptions]) -> None:
        """Set the password of a user with the token of an invitation or a reset, which works once.

        Raises: PasswordLinkInvalid, PasswordNotAllowed.
        """
        request = RedeemPasswordLinkRequest(link_token=link_token, new_password=new_password)
        self._calls.send_once(self._stub.RedeemPasswordLink, request, **options)

    def change_password(self, password: str, new_password: str, **options: Unpack[CallOptions]) -> None:
        """Change the password of the signed-in user. All other sessions of the user end.

        Raises: CredentialsInvalid, PasswordNotAllowed.
        """
        request = ChangePasswordRequest(password=password, new_password=new_password)
        self._calls.read_current(self._stub.ChangePassword, request, **options)

    def enable_totp(
        self, password: str, *, totp_secret: str, code: str, **options: Unpack[CallOptions]
    ) -> Sequence[str]:
        """Enable an authenticator app as the second factor of the signed-in user, and return the recovery codes.

        `totp_secret` is what the app holds: 20 to 40 random bytes, in base 32 without padding.

        Raises: CredentialsInvalid, IllegalState.
        """
        request = EnableTotpRequest(password=password, totp_secret=totp_secret, code=code)
        return self._calls.read_current(self._stub.EnableTotp, request, **options).recovery_codes

    def disable_totp(self, password: str, *, code: str, **options: Unpack[CallOptions]) -> None:
        """Disable the second factor of the signed-in user.

        Raises: CredentialsInvalid, IllegalState.
        """
        self._calls.read_current(self._stub.DisableTotp, DisableTotpRequest(password=password, code=code), **options)

    def get_own_user(self, **options: Unpack[CallOptions]) -> GetOwnUserResponse:
        """Get the signed-in user with its sessions.

        Raises: UserNotFound if a program calls.
        """
        return self._calls.read_current(self._stub.GetOwnUser, GetOwnUserRequest(), **options)

    def end_own_sessions(self, name: str = "", *, keep_current: bool = False, **options: Unpack[CallOptions]) -> int:
        """End one session of the signed-in user, or all of them; return their number.

        Raises: UserNotFound, UserSessionNotFound.
        """
        request = EndOwnSessionsRequest(name=name, keep_current=keep_current)
        return self._calls.read_current(self._stub.EndOwnSessions, request, **options).ended

    def get_user(self, name: str, **options: Unpack[GetOptions]) -> User:
        """Get one user, deleted or not.

        Raises: UserNotFound.
        """
        return self._calls.get(self._stub.GetUser, GetUserRequest(name=name), **options)

    def list_users(
        self, *, timeout_s: float | None = None, max_staleness_s: float | None = None, **query: Unpack[DeletableQuery]
    ) -> Listing[User]:
        """List users; pages are fetched as you iterate.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        return self._calls.list_pages(
            self._stub.ListUsers,
            ListUsersRequest(**build_query(query)),
            items=lambda page: page.users,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def batch_get_users(self, names: Iterable[str], **options: Unpack[GetOptions]) -> Sequence[User]:
        """Get up to 1000 users from one snapshot, in the order of `names`; fail if one is missing.

        Raises: UserNotFound.
        """
        return self._calls.get(self._stub.BatchGetUsers, BatchGetUsersRequest(names=names), **options).users

    def create_user(self, user: User, *, user_id: str = "", **options: Unpack[WriteOptions]) -> User:
        """Create a user without a password. Output-only fields are ignored.

        `user_id` becomes the last segment of its name; the server generates one if it is empty.

        Raises: RoleNotFound, PrivilegeEscalation, AlreadyExists.
        """
        return self._calls.write(self._stub.CreateUser, CreateUserRequest(user=user, user_id=user_id), **options)

    def update_user(self, user: User, *, update_mask: Iterable[str] = (), **options: Unpack[WriteOptions]) -> User:
        """Update a user: the fields in `update_mask`, or all fields set in the message if it is empty.

        If the message has an `etag`, the update succeeds only if it is still the current one.

        Raises: InvalidUpdateMask, UserNotFound, RoleNotFound, PrivilegeEscalation, ResourceDeleted, EtagMismatch,
        AlreadyExists.
        """
        request = UpdateUserRequest(user=user, update_mask=build_field_mask(update_mask))
        return self._calls.write(self._stub.UpdateUser, request, **options)

    def delete_user(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> User:
        """Soft-delete a user: lists omit it, its sessions stop working, and it can be undeleted.

        Raises: UserNotFound, PrivilegeEscalation, EtagMismatch.
        """
        return self._calls.write(self._stub.DeleteUser, DeleteUserRequest(name=name, etag=etag), **options)

    def undelete_user(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> User:
        """Restore a deleted user.

        Raises: UserNotFound, PrivilegeEscalation, ResourceNotDeleted, EtagMismatch.
        """
        return self._calls.write(self._stub.UndeleteUser, UndeleteUserRequest(name=name, etag=etag), **options)

    def create_password_link(
        self, name: str, *, lifetime: timedelta | None = None, **options: Unpack[WriteOptions]
    ) -> CreatePasswordLinkResponse:
        """Create the token of an invitation or a password reset. Only this response contains it.

        It works for `lifetime`, 1 minute to 30 days (default: 3 days).

        Raises: UserNotFound, PrivilegeEscalation, ResourceDeleted, IllegalState, ReplyExpired.
        """
        request = CreatePasswordLinkRequest(name=name)
        if lifetime is not None:
            request.lifetime.FromTimedelta(lifetime)
        return self._calls.write(self._stub.CreatePasswordLink, request, **options)

    def reset_user_totp(self, name: str, *, etag: str = "", **options: Unpack[WriteOptions]) -> User:
        """Remove the second factor of a user, and end all its sessions.

        Raises: UserNotFound, PrivilegeEscalation, EtagMismatch, IllegalState.
        """
        return self._calls.write(self._stub.ResetUserTotp, ResetUserTotpRequest(name=name, etag=etag), **options)

    def list_user_sessions(
        self,
        parent: str = "users/-",
        *,
        timeout_s: float | None = None,
        max_staleness_s: float | None = None,
        **query: Unpack[Query],
    ) -> Listing[UserSession]:
        """List sessions of users; pages are fetched as you iterate.

        `parent` is the user, as `users/{user}`; `users/-` lists those of all users.

        Raises: InvalidFilter, InvalidOrderBy, InvalidPageToken.
        """
        return self._calls.list_pages(
            self._stub.ListUserSessions,
            ListUserSessionsRequest(parent=parent, **build_query(query)),
            items=lambda page: page.sessions,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def revoke_user_session(self, name: str, **options: Unpack[WriteOptions]) -> UserSession:
        """End a session of a user.

        Raises: UserNotFound, UserSessionNotFound, PrivilegeEscalation, IllegalState.
        """
        return self._calls.write(self._stub.RevokeUserSession, RevokeUserSessionRequest(name=name), **options)

    def revoke_user_sessions(self, name: str, **options: Unpack[WriteOptions]) -> int:
        """End all sessions of a user; return their number.

        Raises: UserNotFound, PrivilegeEscalation.
        """
        request = RevokeUserSessionsRequest(name=name)
        return self._calls.write(self._stub.RevokeUserSessions, request, **options).ended
