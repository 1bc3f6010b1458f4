"""People of an identity provider: their users, the roles of their groups, and their sessions and access tokens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from storekeep.client import (
    CredentialsInvalid,
    IdentityNotAllowed,
    IllegalState,
    InvalidField,
    NotAuthenticated,
    PermissionDenied,
    Product,
    Storekeep,
    TokenRevoked,
    User,
)
from tests.conftest import MakeServer
from tests.support.databases import new_database
from tests.support.people import PASSWORD, make_person
from tests.support.processes import ServerProcess
from tests.support.providers import NONCE_SECRET, Provider, ask_who_it_is, use_token, wait_for_keys
from tests.support.shops import new_id

CALLERS = 4
"""Sign-ins at the same moment."""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Provider:
    return Provider(tmp_path_factory.mktemp("provider") / "keys.json")


@pytest.fixture(scope="module")
def server(engine: str, tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[ServerProcess]:
    """A server that trusts the provider."""
    folder = tmp_path_factory.mktemp("server")
    database = new_database(engine, folder)
    process = ServerProcess(folder, database=database, oidc_link_by_email="true", **provider.get_settings())
    wait_for_keys(process.address)
    yield process
    process.kill()
    database.remove()


def sign_in(server: ServerProcess, id_token: str) -> Storekeep:
    """Return a client with a new session of the person of an ID token."""
    with Storekeep(server.address, api_key="") as nobody:
        tokens = nobody.users.sign_in_with_identity_token(id_token, nonce_secret=NONCE_SECRET, program="Tests")
    return Storekeep(server.address, tokens=tokens)


def find_user(session: Storekeep) -> User:
    return session.users.get_own_user().user


def make_email() -> str:
    return f"{new_id('person')}@example.com"


def test_first_sign_in_creates_a_user_and_the_next_one_finds_it(server: ServerProcess, provider: Provider):
    subject, email = new_id("subject"), make_email()
    with sign_in(server, provider.make_id_token(subject=subject, email=email, email_verified=True)) as session:
        user = find_user(session)
        assert (user.display_name, user.email, list(user.roles)) == ("Ann Example", email, ["roles/operator"])
        assert (user.identity_linked, user.has_password) == (True, False)
        assert session.products.create(Product(display_name="Tea")).name
    with sign_in(server, provider.make_id_token(subject=subject, iat=int(time.time()) - 1)) as session:
        assert find_user(session).name == user.name


def test_audit_log_names_the_person(server: ServerProcess, provider: Provider, client: Storekeep):
    subject = new_id("subject")
    with sign_in(server, provider.make_id_token(subject=subject)) as session:
        user = find_user(session)
        product = session.products.create(Product(display_name="Tea"))
    token = provider.make_access_token(subject=subject)
    with use_token(server.address, token) as caller:
        caller.products.update(Product(name=product.name, display_name="Green tea"))
    entries = list(client.audit.list(filter=f'resource = "{product.name}"'))
    assert {entry.actor for entry in entries} == {user.name}
    assert [entry.actor for entry in client.audit.list(filter=f'resource = "{user.name}"')] == [user.name]


def test_roles_follow_the_groups_at_each_sign_in(server: ServerProcess, provider: Provider, client: Storekeep):
    subject = new_id("subject")
    with sign_in(server, provider.make_id_token(subject=subject, groups=["bosses", "staff", "others"])) as session:
        user = find_user(session)
        assert list(user.roles) == ["roles/admin", "roles/operator", "roles/viewer"]
        with sign_in(server, provider.make_id_token(subject=subject)) as later:
            assert list(find_user(later).roles) == ["roles/operator"]
        with pytest.raises(PermissionDenied):
            session.users.list_users().page()
    client.users.update_user(User(name=user.name, roles=["roles/admin"]), update_mask=["roles"])
    with sign_in(server, provider.make_id_token(subject=subject, groups="staff", sid="x")) as session:
        assert list(find_user(session).roles) == ["roles/operator"]


@pytest.mark.parametrize("groups", [None, [], ["others"], "Staff", [["staff"]], {"staff": True}, ["admin"]])
def test_person_without_a_mapped_group_stays_out(server: ServerProcess, provider: Provider, groups: Any):
    with pytest.raises(IdentityNotAllowed, match="none of your groups"):
        sign_in(server, provider.make_id_token(groups=groups))


def test_person_who_has_left_all_groups_loses_roles_and_sessions(
    server: ServerProcess, provider: Provider, client: Storekeep
):
    subject = new_id("subject")
    with sign_in(server, provider.make_id_token(subject=subject)) as session:
        name = find_user(session).name
        last = provider.make_id_token(subject=subject, groups=["others"], sid="1")
        with pytest.raises(IdentityNotAllowed, match="none of your groups"):
            sign_in(server, last)
        with pytest.raises(TokenRevoked):
            session.auth.who_am_i()
    assert list(client.users.get_user(name).roles) == []
    assert [entry.actor for entry in client.audit.list(filter=f'resource = "{name}"')] == [name, name]
    with sign_in(server, provider.make_id_token(subject=subject, sid="2")) as session:
        assert list(find_user(session).roles) == ["roles/operator"]
        with pytest.raises(NotAuthenticated, match="used before"):
            sign_in(server, last)
        assert session.auth.who_am_i().subject == name


def test_person_with_more_roles_than_a_user_can_have_loses_roles_and_sessions(
    make_server: MakeServer, provider: Provider
):
    many = [f"many=role-{number}" for number in range(21)]
    server = make_server(**provider.get_settings() | {"oidc_roles": " ".join(["staff=operator", *many])})
    wait_for_keys(server.address)
    subject = new_id("subject")
    with sign_in(server, provider.make_id_token(subject=subject)) as session:
        name = find_user(session).name
        with pytest.raises(IdentityNotAllowed, match="21 roles here, more than the 20"):
            sign_in(server, provider.make_id_token(subject=subject, groups=["many"], sid="1"))
        with pytest.raises(TokenRevoked):
            session.auth.who_am_i()
    with Storekeep(server.address, api_key=server.admin_key) as client:
        assert list(client.users.get_user(name).roles) == []


def test_first_sign_ins_of_a_person_at_the_same_moment_make_one_user(make_server: MakeServer, provider: Provider):
    server = make_server("--workers", "2", **provider.get_settings())
    wait_for_keys(server.address)
    for subject in (new_id("subject") for _ in range(5)):
        email = make_email()
        tokens = [
            provider.make_id_token(subject=subject, email=email, email_verified=True, sid=str(number))
            for number in range(CALLERS)
        ]
        begin = threading.Barrier(CALLERS)

        def sign_in_and_find(token: str, begin: threading.Barrier = begin) -> str:
            begin.wait(timeout=60)
            with sign_in(server, token) as session:
                return find_user(session).name

        with ThreadPoolExecutor(CALLERS) as pool:
            assert len(set(pool.map(sign_in_and_find, tokens))) == 1


def test_provider_token_ends_all_sessions_also_to_keep_the_current_one(server: ServerProcess, provider: Provider):
    subject = new_id("subject")
    with sign_in(server, provider.make_id_token(subject=subject)) as session:
        session.auth.who_am_i()
        with use_token(server.address, provider.make_access_token(subject=subject)) as caller:
            assert caller.users.get_own_user().current_session == ""
            assert caller.users.end_own_sessions(keep_current=True) == 1
            with pytest.raises(TokenRevoked):
                session.auth.who_am_i()
            assert caller.auth.who_am_i().subject


def test_linked_user_is_changed_as_it_was_read(server: ServerProcess, provider: Provider, client: Storekeep):
    with sign_in(server, provider.make_id_token(groups=["staff"])) as session:
        user = find_user(session)
        for mask in (["display_name"], ["*"], [], ["identity_linked", "display_name"]):
            user = client.users.get_user(user.name)
            user.display_name = f"Ann {len(mask)}"
            user.email = user.email or make_email()
            changed = client.users.update_user(user, update_mask=mask)
            assert (changed.identity_linked, changed.display_name) == (True, user.display_name)
        assert session.auth.who_am_i().subject == user.name


def test_no_request_links_a_user(client: Storekeep):
    person = make_person(client)
    user = client.users.get_user(person.name)
    user.identity_linked = True
    for mask in (["identity_linked"], ["*"], []):
        with pytest.raises(InvalidField, match="identity_linked"):
            client.users.update_user(user, update_mask=mask)
    assert not client.users.update_user(user, update_mask=["disabled"]).identity_linked
    with pytest.raises(InvalidField, match="identity_linked"):
        client.users.create_user(User(display_name="Bo", email=make_email(), identity_linked=True))


def test_disabled_or_deleted_user_stays_out(server: ServerProcess, provider: Provider, client: Storekeep):
    subject = new_id("subject")
    token = provider.make_access_token(subject=subject)
    with sign_in(server, provider.make_id_token(subject=subject)) as session:
        name = find_user(session).name
        assert ask_who_it_is(server.address, token).subject == name
        client.users.update_user(User(name=name, disabled=True), update_mask=["disabled"])
        with pytest.raises(IdentityNotAllowed, match="disabled"):
            sign_in(server, provider.make_id_token(subject=subject, sid="1"))
        with pytest.raises(TokenRevoked):
            session.auth.who_am_i()
        with pytest.raises(TokenRevoked):
            ask_who_it_is(server.address, token)
    client.users.update_user(User(name=name, disabled=False), update_mask=["disabled"])
    client.users.delete_user(name)
    with pytest.raises(IdentityNotAllowed, match="disabled"):
        sign_in(server, provider.make_id_token(subject=subject, sid="2"))


def test_verified_address_links_a_user_who_then_has_no_password(
    server: ServerProcess, provider: Provider, client: Storekeep
):
    person = make_person(client, roles=("roles/admin",))
    subject, link = new_id("subject"), client.users.create_password_link(person.name)
    old_session = person.sign_in()
    with sign_in(server, provider.make_id_token(subject=subject, email=person.email, email_verified=True)) as session:
        user = find_user(session)
        assert [one.program for one in session.users.get_own_user().sessions] == ["Tests"]
    with old_session, pytest.raises(TokenRevoked):
        old_session.auth.who_am_i()
    assert (user.name, list(user.roles), user.has_password) == (person.name, ["roles/operator"], False)
    with pytest.raises(CredentialsInvalid):
        person.sign_in()
    with pytest.raises(IllegalState):
        client.users.create_password_link(person.name)
    with Storekeep(server.address, api_key="") as nobody, pytest.raises(NotAuthenticated):
        nobody.users.redeem_password_link(link.link_token, PASSWORD)
    with pytest.raises(IdentityNotAllowed, match="another person"):
        sign_in(server, provider.make_id_token(email=person.email.upper(), email_verified=True))


@pytest.mark.parametrize("verified", [None, False, "true", 1])
def test_address_that_is_not_verified_links_nobody(
    server: ServerProcess, provider: Provider, client: Storekeep, verified: Any
):
    person = make_person(client)
    with sign_in(server, provider.make_id_token(email=person.email, email_verified=verified)) as session:
        user = find_user(session)
    assert user.name != person.name
    assert user.email == ""
    person.sign_in().close()


def test_unlinked_user_is_nobody_at_the_provider(server: ServerProcess, provider: Provider, client: Storekeep):
    subject = new_id("subject")
    session = sign_in(server, provider.make_id_token(subject=subject))
    name = find_user(session).name
    assert client.users.update_user(User(name=name, display_name="Ann")).email == ""
    assert session.auth.who_am_i().subject == name
    user = client.users.update_user(User(name=name), update_mask=["identity_linked"])
    assert not user.identity_linked
    with session, pytest.raises(TokenRevoked) as caught:
        session.auth.who_am_i()
    assert caught.value.metadata == {}
    assert client.users.update_user(User(name=name, display_name="Bo")).display_name == "Bo"
    with pytest.raises(NotAuthenticated):
        ask_who_it_is(server.address, provider.make_access_token(subject=subject))
    assert client.users.create_password_link(name).link_token
    with sign_in(server, provider.make_id_token(subject=subject, sid="1")) as session:
        assert find_user(session).name != name


@pytest.mark.parametrize(
    "email", ["root", "a b@example.com", f"{'x' * 300}@example.com", "ann@example.com\n", "\ud800@a.b"]
)
def test_verified_address_that_is_none_is_left_out(server: ServerProcess, provider: Provider, email: str):
    with sign_in(server, provider.make_id_token(email=email, email_verified=True)) as session:
        assert find_user(session).email == ""


def test_access_token_of_the_provider_has_no_session(server: ServerProcess, provider: Provider):
    subject = new_id("subject")
    with sign_in(server, provider.make_id_token(subject=subject)) as session:
        current = session.users.get_own_user().current_session
        with use_token(server.address, provider.make_access_token(subject=subject)) as caller:
            own = caller.users.get_own_user()
            assert (own.current_session, [one.name for one in own.sessions]) == ("", [current])
            assert caller.users.end_own_sessions(current) == 1
        with pytest.raises(TokenRevoked):
            session.auth.who_am_i()


def test_access_token_has_the_roles_of_its_own_groups(server: ServerProcess, provider: Provider):
    subject = new_id("subject")
    with sign_in(server, provider.make_id_token(subject=subject, groups=["bosses"])) as session:
        name = find_user(session).name
    with use_token(server.address, provider.make_access_token(subject=subject)) as caller:
        found = caller.auth.who_am_i()
        assert (found.subject, list(found.roles)) == (name, ["roles/operator"])
        with pytest.raises(PermissionDenied):
            caller.users.list_users().page()
    caller = use_token(server.address, provider.make_access_token(subject=subject, groups=[]))
    with caller, pytest.raises(PermissionDenied):
        caller.products.list().page()
    with pytest.raises(NotAuthenticated, match="sign in to the console once"):
        ask_who_it_is(server.address, provider.make_access_token(subject=new_id("new")))


def test_settings_decide_whether_users_are_created_or_linked(make_server: MakeServer, provider: Provider):
    settings = provider.get_settings() | {"oidc_roles": "staff=nothing staff=operator", "oidc_create_users": "false"}
    server = make_server(**settings)
    wait_for_keys(server.address)
    with pytest.raises(IdentityNotAllowed, match="role that does not exist"):
        sign_in(server, provider.make_id_token())
    server.stop()
    settings["oidc_roles"] = " ".join(["staff=operator", *(f"many=role-{number}" for number in range(21))])
    server = make_server(data_dir=server.data_dir, **settings)
    wait_for_keys(server.address)
    with pytest.raises(IdentityNotAllowed, match="no user here"):
        sign_in(server, provider.make_id_token())
    with pytest.raises(IdentityNotAllowed, match="21 roles here, more than the 20"):
        sign_in(server, provider.make_id_token(groups=["many"]))
    with Storekeep(server.address, api_key=server.admin_key) as client:
        email = make_person(client).email
    with pytest.raises(IdentityNotAllowed, match="another user has your email address"):
        sign_in(server, provider.make_id_token(email=email, email_verified=True))


def test_session_ends_with_its_lifetime_however_often_it_is_refreshed(make_server: MakeServer, provider: Provider):
    server = make_server(oidc_session_lifetime_s="60", **provider.get_settings())
    wait_for_keys(server.address)
    with Storekeep(server.address, api_key="") as nobody:
        start_s = time.time()
        tokens = nobody.users.sign_in_with_identity_token(provider.make_id_token(), nonce_secret=NONCE_SECRET)
        ends = [tokens.expire_time.seconds, tokens.refresh_expire_time.seconds]
        tokens = nobody.auth.refresh_token(tokens.refresh_token)
        ends += [tokens.expire_time.seconds, tokens.refresh_expire_time.seconds]
    assert all(end <= start_s + 65 for end in ends)
