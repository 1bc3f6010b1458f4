"""What account managers may do to users: role of the actor by role of the subject by method.

The list of methods comes from the contract, so that a new one fails here until it has an act.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from storekeep.client import Storekeep
from storekeep.server.transport.contract import read_contract
from storekeep.v1 import auth_pb2, users_pb2_grpc
from storekeep.v1 import users_pb2 as pb
from tests.hostile.test_rights import ACTORS, LEVELS, check_acts
from tests.support.hostile.accounts import MANAGER, make_account, make_key, make_role, sign_in
from tests.support.people import PASSWORD, SECRET, make_code, make_person
from tests.support.processes import ServerProcess
from tests.support.records import Records
from tests.support.shops import TIMEOUT_S, Shop, new_id

STATES = ("active", "disabled", "deleted")
PREFIX = "storekeep.v1.UserService/"
pytestmark = pytest.mark.engine("sqlite", reason="a permission does not depend on the engine")


@pytest.fixture(scope="module")
def actors(admin: Shop, channel: grpc.Channel) -> dict[str, Shop]:
    """Sign in the actors, by level."""
    return {level: sign_in(channel, admin, make_account(admin, permissions=LEVELS[level])) for level in ACTORS}


class Subject:
    """A user to be changed by actors, with a password, a second factor and a session."""

    def __init__(self, admin: Shop, level: str, state: str) -> None:
        self.role = make_role(admin, LEVELS[level])
        self.email = f"{new_id()}@example.com"
        user = pb.User(display_name="Ann", email=self.email, roles=[self.role])
        self.name = admin.users.CreateUser(pb.CreateUserRequest(user=user)).name
        self._use(admin)
        sessions = admin.users.ListUserSessions(pb.ListUserSessionsRequest(parent=self.name)).sessions
        self.session = sessions[0].name
        if state == "disabled":
            admin.users.UpdateUser(self.change(disabled=True))
        if state == "deleted":
            admin.users.DeleteUser(pb.DeleteUserRequest(name=self.name))

    def _use(self, admin: Shop) -> None:
        link = admin.users.CreatePasswordLink(pb.CreatePasswordLinkRequest(name=self.name))
        public = users_pb2_grpc.UserServiceStub(admin.bare_channel)
        public.RedeemPasswordLink(
            pb.RedeemPasswordLinkRequest(link_token=link.link_token, new_password=PASSWORD), timeout=TIMEOUT_S
        )
        tokens = public.SignIn(pb.SignInRequest(email=self.email, password=PASSWORD), timeout=TIMEOUT_S)
        public.EnableTotp(
            pb.EnableTotpRequest(password=PASSWORD, totp_secret=SECRET, code=make_code()),
            metadata=[("authorization", f"Bearer {tokens.access_token}")],
            timeout=TIMEOUT_S,
        )

    def change(self, **fields: Any) -> pb.UpdateUserRequest:
        """Build a request that sets these fields."""
        return pb.UpdateUserRequest(user=pb.User(name=self.name, **fields), update_mask={"paths": list(fields)})


ACTS: dict[str, tuple[str, Callable[[Subject], Any]]] = {
    "make its like": (
        "CreateUser",
        lambda s: pb.CreateUserRequest(user=pb.User(display_name="x", email=f"{new_id()}@example.com", roles=[s.role])),
    ),
    "rename": ("UpdateUser", lambda s: s.change(display_name=new_id("n"))),
    "readdress": ("UpdateUser", lambda s: s.change(email=f"{new_id()}@example.com")),
    "enable": ("UpdateUser", lambda s: s.change(disabled=False)),
    "disable": ("UpdateUser", lambda s: s.change(disabled=True)),
    "strip": ("UpdateUser", lambda s: s.change(roles=[])),
    "unlink": ("UpdateUser", lambda s: s.change(identity_linked=False)),
    "delete": ("DeleteUser", lambda s: pb.DeleteUserRequest(name=s.name)),
    "undelete": ("UndeleteUser", lambda s: pb.UndeleteUserRequest(name=s.name)),
    "make a link": ("CreatePasswordLink", lambda s: pb.CreatePasswordLinkRequest(name=s.name)),
    "reset its second factor": ("ResetUserTotp", lambda s: pb.ResetUserTotpRequest(name=s.name)),
    "end a session": ("RevokeUserSession", lambda s: pb.RevokeUserSessionRequest(name=s.session)),
    "end all sessions": ("RevokeUserSessions", lambda s: pb.RevokeUserSessionsRequest(name=s.name)),
}


def test_each_method_that_changes_users_has_an_act():
    changing = {
        method.name.removeprefix(PREFIX)
        for method in read_contract().methods.values()
        if method.name.startswith(PREFIX) and method.permission == "accounts.write"
    }
    assert changing == {rpc for rpc, _ in ACTS.values()}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("level", LEVELS)
def test_users_are_touched_only_by_who_holds_all_that_they_hold(
    admin: Shop, actors: dict[str, Shop], records: Records, level: str, state: str
):
    check_acts(Subject(admin, level, state), ACTS, actors, records, level=level, reasons=["USER_NOT_FOUND"])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("actor", ACTORS)
def test_password_gives_no_more_than_the_creator_of_its_link_had(
    admin: Shop, server: ServerProcess, actor: str, level: str
):
    held, more = set(LEVELS[actor]), set(LEVELS[level])
    role, other = make_role(admin, MANAGER), make_role(admin, more)
    key = make_key(admin, make_account(admin, permissions=held)).secret
    with Storekeep(server.address, api_key=key) as program:
        first, second = make_person(program, roles=(role,)), make_person(program, roles=())
    with first.sign_in() as session:
        third = make_person(session, roles=())  # first has the permissions of a manager only
        change = auth_pb2.Role(name=role, permissions={*MANAGER, *more})
        admin.auth.UpdateRole(auth_pb2.UpdateRoleRequest(role=change, update_mask={"paths": ["permissions"]}))
        assert set(session.auth.who_am_i().permissions) == {*MANAGER, *more} & held
    for person, limit in ((second, held), (third, set(MANAGER))):
        request = pb.UpdateUserRequest(user=pb.User(name=person.name, roles=[other]), update_mask={"paths": ["roles"]})
        assert admin.users.UpdateUser(request).has_password == (more <= limit)
        if more <= limit:
            with person.sign_in() as session:
                assert set(session.auth.who_am_i().permissions) == more
