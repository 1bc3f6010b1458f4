"""UserService: sign-ins, users, their passwords, second factors and sessions."""

from __future__ import annotations

import grpc

from storekeep.server.domain.access import user_sessions, users
from storekeep.server.domain.access.identities import Identities
from storekeep.server.domain.access.password_links import PasswordLinks
from storekeep.server.domain.access.permissions import AccessVersion
from storekeep.server.domain.access.sessions import Session
from storekeep.server.domain.access.sign_ins import SignIns
from storekeep.server.domain.access.user_updates import update_user
from storekeep.server.domain.access.users import STAYS_LINKED, USERS, User
from storekeep.server.domain.standard.pages import PageTokens
from storekeep.server.domain.standard.resources import make_etag, new_id
from storekeep.server.runtime.durations import DAY_US
from storekeep.server.runtime.emails import normalize_email
from storekeep.server.servicers.accounts import build_token_set
from storekeep.server.servicers.calls import build_call, build_list_request, build_own_call, build_page_fields
from storekeep.server.servicers.converters import (
    build_optional_timestamp,
    build_timestamp,
    parse_id,
    parse_key,
    parse_update_mask,
)
from storekeep.server.store.engine import Store
from storekeep.v1 import auth_pb2, users_pb2_grpc
from storekeep.v1 import users_pb2 as pb

USER_FIELDS = {name: name for name in ("display_name", "email", "roles", "disabled")} | {"identity_linked": "identity"}
LINK_LIFETIME_DEFAULT_US = 3 * DAY_US
"""How long a password link works by default, as the contract states."""


def build_user(user: User) -> pb.User:
    """Build the message of a user."""
    return pb.User(
        name=user.name,
        display_name=user.display_name,
        email=user.email,
        roles=[f"roles/{role}" for role in user.roles],
        disabled=user.disabled,
        has_password=user.has_password,
        totp_enabled=user.totp_enabled,
        identity_linked=bool(user.identity),
        create_time=build_timestamp(user.create_time_us),
        update_time=build_timestamp(user.update_time_us),
        delete_time=build_optional_timestamp(user.delete_time_us),
        etag=make_etag(user.version),
    )


def parse_user(message: pb.User, user_id: str) -> User:
    """Parse a user from a request."""
    return User(
        user_id,
        display_name=message.display_name,
        email=normalize_email(message.email),
        roles=tuple(parse_id(role) for role in message.roles),
        disabled=message.disabled,
        identity=STAYS_LINKED if message.identity_linked else "",
    )


def build_user_session(session: Session) -> pb.UserSession:
    """Build the message of a session of a user."""
    return pb.UserSession(
        name=session.name,
        program=session.program,
        create_time=build_timestamp(session.create_time_us),
        expire_time=build_timestamp(session.expire_time_us),
        revoke_time=build_optional_timestamp(session.revoke_time_us),
    )


class UserServicer(users_pb2_grpc.UserServiceServicer):
    """The RPCs of UserService; the contract documents each one.

    Args:
        store: The database.
        page_tokens: Encodes the page tokens of lists.
        sign_ins: Signs users in and changes their secrets.
        links: Creates password links.
        identities: Signs people of the identity provider in.
        access_version: Expired after each change, so that it takes effect in this process at once.
    """

    def __init__(
        self,
        store: Store,
        page_tokens: PageTokens,
        sign_ins: SignIns,
        links: PasswordLinks,
        identities: Identities,
        access_version: AccessVersion,
    ) -> None:
        self._store = store
        self._page_tokens = page_tokens
        self._sign_ins = sign_ins
        self._links = links
        self._identities = identities
        self._access_version = access_version

    # -- the own account

    def SignIn(self, request: pb.SignInRequest, context: grpc.ServicerContext) -> auth_pb2.TokenSet:
        tokens = self._sign_ins.sign_in(
            build_own_call(),
            email=request.email,
            password=request.password,
            code=request.code,
            program=request.program,
        )
        return build_token_set(tokens)

    def SignInWithIdentityToken(
        self, request: pb.SignInWithIdentityTokenRequest, context: grpc.ServicerContext
    ) -> auth_pb2.TokenSet:
        try:
            tokens = self._identities.sign_in(
                build_own_call(),
                id_token=request.id_token,
                nonce_secret=request.nonce_secret,
                program=request.program,
            )
        finally:
            self._access_version.expire()  # a refused person may have lost roles and sessions
        return build_token_set(tokens)

    def RedeemPasswordLink(
        self, request: pb.RedeemPasswordLinkRequest, context: grpc.ServicerContext
    ) -> pb.RedeemPasswordLinkResponse:
        self._sign_ins.redeem_link(build_own_call(), token=request.link_token, new_password=request.new_password)
        self._access_version.expire()
        return pb.RedeemPasswordLinkResponse()

    def ChangePassword(
        self, request: pb.ChangePasswordRequest, context: grpc.ServicerContext
    ) -> pb.ChangePasswordResponse:
        self._sign_ins.change_password(build_own_call(), password=request.password, new_password=request.new_password)
        self._access_version.expire()
        return pb.ChangePasswordResponse()

    def EnableTotp(self, request: pb.EnableTotpRequest, context: grpc.ServicerContext) -> pb.EnableTotpResponse:
        codes = self._sign_ins.enable_totp(
            build_own_call(), password=request.password, secret=request.totp_secret, code=request.code
        )
        self._access_version.expire()
        return pb.EnableTotpResponse(recovery_codes=codes)

    def DisableTotp(self, request: pb.DisableTotpRequest, context: grpc.ServicerContext) -> pb.DisableTotpResponse:
        self._sign_ins.disable_totp(build_own_call(), password=request.password, code=request.code)
        self._access_version.expire()
        return pb.DisableTotpResponse()

    def GetOwnUser(self, request: pb.GetOwnUserRequest, context: grpc.ServicerContext) -> pb.GetOwnUserResponse:
        call = build_own_call()
        user, sessions = user_sessions.find_own_user(self._store, call)
        return pb.GetOwnUserResponse(
            user=build_user(user),
            sessions=[build_user_session(session) for session in sessions],
            current_session=user_sessions.get_current_name(call.caller),
        )

    def EndOwnSessions(
        self, request: pb.EndOwnSessionsRequest, context: grpc.ServicerContext
    ) -> pb.EndOwnSessionsResponse:
        session_id = user_sessions.parse_own_session(build_own_call().caller, request.name)
        ended = user_sessions.end_own_sessions(
            self._store, build_own_call(), session_id=session_id, keep_current=request.keep_current
        )
        self._access_version.expire()
        return pb.EndOwnSessionsResponse(ended=ended)

    # -- users

    def GetUser(self, request: pb.GetUserRequest, context: grpc.ServicerContext) -> pb.User:
        return build_user(USERS.get(self._store, parse_key(request.name)))

    def ListUsers(self, request: pb.ListUsersRequest, context: grpc.ServicerContext) -> pb.ListUsersResponse:
        page = USERS.page(self._store, build_list_request(request), listing=users.LISTING, tokens=self._page_tokens)
        return pb.ListUsersResponse(users=[build_user(item) for item in page.items], **build_page_fields(page))

    def BatchGetUsers(
        self, request: pb.BatchGetUsersRequest, context: grpc.ServicerContext
    ) -> pb.BatchGetUsersResponse:
        items = USERS.batch_get(self._store, [parse_key(name) for name in request.names])
        return pb.BatchGetUsersResponse(users=[build_user(item) for item in items])

    def CreateUser(self, request: pb.CreateUserRequest, context: grpc.ServicerContext) -> pb.User:
        user = parse_user(request.user, request.user_id or new_id())
        return build_user(users.create_user(self._store, build_call(request), user))

    def UpdateUser(self, request: pb.UpdateUserRequest, context: grpc.ServicerContext) -> pb.User:
        message = request.user
        fields = parse_update_mask(request.update_mask, message, USER_FIELDS)
        user = parse_user(message, parse_id(message.name))
        result = update_user(self._store, build_call(request), user, fields=fields, etag=message.etag)
        self._access_version.expire()
        return build_user(result)

    def DeleteUser(self, request: pb.DeleteUserRequest, context: grpc.ServicerContext) -> pb.User:
        result = users.delete_user(self._store, build_call(request), parse_id(request.name), etag=request.etag)
        self._access_version.expire()
        return build_user(result)

    def UndeleteUser(self, request: pb.UndeleteUserRequest, context: grpc.ServicerContext) -> pb.User:
        result = users.undelete_user(self._store, build_call(request), parse_id(request.name), etag=request.etag)
        self._access_version.expire()
        return build_user(result)

    def CreatePasswordLink(
        self, request: pb.CreatePasswordLinkRequest, context: grpc.ServicerContext
    ) -> pb.CreatePasswordLinkResponse:
        lifetime_us = LINK_LIFETIME_DEFAULT_US
        if request.HasField("lifetime"):
            lifetime_us = request.lifetime.ToMicroseconds()
        issued = self._links.create(build_call(request), parse_id(request.name), lifetime_us=lifetime_us)
        return pb.CreatePasswordLinkResponse(
            link_token=issued.token, expire_time=build_timestamp(issued.link.expire_time_us)
        )

    def ResetUserTotp(self, request: pb.ResetUserTotpRequest, context: grpc.ServicerContext) -> pb.User:
        result = self._sign_ins.reset_totp(build_call(request), parse_id(request.name), etag=request.etag)
        self._access_version.expire()
        return build_user(result)

    # -- sessions

    def ListUserSessions(
        self, request: pb.ListUserSessionsRequest, context: grpc.ServicerContext
    ) -> pb.ListUserSessionsResponse:
        listed = build_list_request(request, parent=parse_id(request.parent))
        page = self._store.snapshot(lambda tx: user_sessions.LISTING.page(tx, listed, tokens=self._page_tokens))
        return pb.ListUserSessionsResponse(
            sessions=[build_user_session(item) for item in page.items], **build_page_fields(page)
        )

    def RevokeUserSession(self, request: pb.RevokeUserSessionRequest, context: grpc.ServicerContext) -> pb.UserSession:
        user_id, session_id = parse_key(request.name)
        session = user_sessions.revoke_user_session(self._store, build_call(request), user_id, session_id)
        self._access_version.expire()
        return build_user_session(session)

    def RevokeUserSessions(
        self, request: pb.RevokeUserSessionsRequest, context: grpc.ServicerContext
    ) -> pb.RevokeUserSessionsResponse:
        ended = user_sessions.revoke_user_sessions(self._store, build_call(request), parse_id(request.name))
        self._access_version.expire()
        return pb.RevokeUserSessionsResponse(ended=ended)
