"""Each mutation of users once, as a request that succeeds."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from storekeep.v1 import users_pb2 as pb
from storekeep.v1 import users_pb2_grpc
from tests.support.order_cases import Prepare
from tests.support.people import PASSWORD, SECRET, make_code
from tests.support.shops import TIMEOUT_S, Shop, new_id


def _build_user(**fields: Any) -> pb.User:
    return pb.User(**{"display_name": "Ann", "email": f"{new_id()}@example.com", "roles": ["roles/viewer"]} | fields)


def _make_user(shop: Shop) -> pb.User:
    return shop.users.CreateUser(pb.CreateUserRequest(user=_build_user(), user_id=new_id("u")))


def _start_session(shop: Shop) -> tuple[pb.User, str]:
    """Return a user with a session, and the access token of the session."""
    user = _make_user(shop)
    link = shop.users.CreatePasswordLink(pb.CreatePasswordLinkRequest(name=user.name))
    public = users_pb2_grpc.UserServiceStub(shop.bare_channel)
    password = pb.RedeemPasswordLinkRequest(link_token=link.link_token, new_password=PASSWORD)
    public.RedeemPasswordLink(password, timeout=TIMEOUT_S)
    tokens = public.SignIn(pb.SignInRequest(email=user.email, password=PASSWORD), timeout=TIMEOUT_S)
    return user, tokens.access_token


def _deleted(shop: Shop) -> Message:
    name = _make_user(shop).name
    shop.users.DeleteUser(pb.DeleteUserRequest(name=name))
    return pb.UndeleteUserRequest(name=name)


def _with_second_factor(shop: Shop) -> Message:
    user, token = _start_session(shop)
    users_pb2_grpc.UserServiceStub(shop.bare_channel).EnableTotp(
        pb.EnableTotpRequest(password=PASSWORD, totp_secret=SECRET, code=make_code()),
        metadata=[("authorization", f"Bearer {token}")],
        timeout=TIMEOUT_S,
    )
    return pb.ResetUserTotpRequest(name=user.name)


def _session(shop: Shop) -> Message:
    user, _ = _start_session(shop)
    sessions = shop.users.ListUserSessions(pb.ListUserSessionsRequest(parent=user.name)).sessions
    return pb.RevokeUserSessionRequest(name=sessions[0].name)


USERS: dict[str, Prepare] = {
    "CreateUser": lambda _shop: pb.CreateUserRequest(user=_build_user(), user_id=new_id("u")),
    "UpdateUser": lambda shop: pb.UpdateUserRequest(user=_build_user(name=_make_user(shop).name)),
    "DeleteUser": lambda shop: pb.DeleteUserRequest(name=_make_user(shop).name),
    "UndeleteUser": _deleted,
    "CreatePasswordLink": lambda shop: pb.CreatePasswordLinkRequest(name=_make_user(shop).name),
    "ResetUserTotp": _with_second_factor,
    "RevokeUserSession": _session,
    "RevokeUserSessions": lambda shop: pb.RevokeUserSessionsRequest(name=_start_session(shop)[0].name),
}
"""RPC -> function that creates the required resources and returns a request that succeeds."""
