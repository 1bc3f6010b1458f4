"""Passwords and links of a release that did not store what they give: they give what their users had at the upgrade."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import pytest

from storekeep.client import CredentialsInvalid, Storekeep
from storekeep.v1 import users_pb2 as pb
from tests.support.people import OTHER_PASSWORD, PASSWORD, Person, make_person
from tests.support.processes import ServerProcess
from tests.support.shops import Shop

ROLES = {"admin": ("roles/admin",), "operator": ("roles/operator", "roles/viewer"), "nobody": ()}


def undo_upgrade(server: ServerProcess) -> None:
    """Leave the database as the release before `0056_password_permissions` had it, except for the encrypted values."""
    with server.database.opened() as session:
        session.run("ALTER TABLE user_secrets DROP COLUMN permissions")
        session.run("ALTER TABLE password_links DROP COLUMN permissions")
        session.run("DELETE FROM schema_migrations WHERE name LIKE '0056%'")


def test_password_and_link_from_before_give_what_their_user_has(make_server: Callable[..., ServerProcess]):
    server = make_server()
    with Storekeep(server.address, api_key=server.admin_key) as client:
        people = {level: make_person(client, roles=roles) for level, roles in ROLES.items()}
        held = {level: sorted(sign_in(person)) for level, person in people.items()}
        token = client.users.create_password_link(people["operator"].name).link_token
    server.stop()
    undo_upgrade(server)
    migrated = server.run("migrate")
    assert (migrated.returncode, migrated.stderr) == (0, "")
    server.start()
    with Storekeep(server.address, api_key=server.admin_key) as client:
        now = {level: Person(one.name, one.email, server.address) for level, one in people.items()}
        assert {level: sorted(sign_in(person)) for level, person in now.items()} == held
        with Storekeep(server.address, api_key="") as nobody:
            nobody.users.redeem_password_link(token, OTHER_PASSWORD)
        assert sorted(sign_in(now["operator"], OTHER_PASSWORD)) == held["operator"]
        with grpc.insecure_channel(server.address) as channel:
            admin = Shop(channel, api_key=server.admin_key)
            for person in (now["operator"], now["nobody"]):
                user = admin.users.GetUser(pb.GetUserRequest(name=person.name))
                user.roles.append("roles/admin")
                assert not admin.users.UpdateUser(pb.UpdateUserRequest(user=user)).has_password
                with pytest.raises(CredentialsInvalid):
                    sign_in(person, OTHER_PASSWORD)
    verified = server.run("verify")
    assert verified.returncode == 0, verified.stdout


def sign_in(person: Person, password: str = PASSWORD) -> list[str]:
    """Return the permissions of a new session."""
    with person.sign_in(password=password) as session:
        return list(session.auth.who_am_i().permissions)
