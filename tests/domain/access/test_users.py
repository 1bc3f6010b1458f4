"""Users over the wire: invitations, sign-ins, passwords, the second factor and sessions."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from storekeep.client import (
    AlreadyExists,
    ApiKey,
    CredentialsInvalid,
    EtagMismatch,
    IllegalState,
    InvalidField,
    InvalidFilter,
    InvalidOrderBy,
    Location,
    NotAuthenticated,
    PasswordLinkInvalid,
    PasswordNotAllowed,
    PermissionDenied,
    PrivilegeEscalation,
    ResourceDeleted,
    ResourceInUse,
    ResourceNotDeleted,
    Role,
    RoleNotFound,
    ServiceAccount,
    Storekeep,
    StorekeepError,
    User,
    UserNotFound,
    UserSessionNotFound,
)
from tests.support.people import OTHER_PASSWORD, PASSWORD, SECRET, Person, make_code, make_person
from tests.support.processes import ServerProcess
from tests.support.shops import new_id


@pytest.fixture(scope="module")
def nobody(server: ServerProcess) -> Any:
    """A client without credentials."""
    with Storekeep(server.address, api_key="") as opened:
        yield opened


@pytest.fixture(scope="module")
def manager(client: Storekeep, server: ServerProcess) -> Any:
    """A program that manages accounts, and may nothing else."""
    role = client.auth.create_role(
        Role(display_name="Managers", permissions=["accounts.read", "accounts.write"]), role_id=new_id("r")
    )
    account = client.auth.create_service_account(ServiceAccount(display_name="Manager", roles=[role.name]))
    secret = client.auth.create_api_key(account.name, ApiKey(scopes=["accounts.read", "accounts.write"])).secret
    with Storekeep(server.address, api_key=secret) as opened:
        yield opened


def draft(**fields: Any) -> User:
    """Return a new user with an address of its own."""
    return User(**{"display_name": "A", "email": f"{new_id()}@example.com"} | fields)


def enable_totp(client: Storekeep, *, code: str = "") -> list[str]:
    return list(client.users.enable_totp(PASSWORD, totp_secret=SECRET, code=code or make_code()))


# -- users


def test_create_user_keeps_the_email_address_in_lower_case_and_no_password(client: Storekeep):
    user_id = new_id("u")
    user = client.users.create_user(
        User(display_name="Zoë", email=f"Zo\u0308e.{user_id}@Example.COM", roles=["roles/viewer"]), user_id=user_id
    )
    assert user.name == f"users/{user_id}"
    assert user.email == f"zöe.{user_id}@example.com"
    assert (user.has_password, user.totp_enabled, user.disabled) == (False, False, False)
    assert client.users.get_user(user.name) == user
    assert client.users.batch_get_users([user.name]) == [user]
    assert user in list(client.users.list_users(filter=f'email = "{user.email}"'))
    assert user in list(client.users.list_users(filter=f'display_name = "{user.display_name}"'))
    with pytest.raises(InvalidFilter, match="encrypted"):
        client.users.list_users(filter='email : "ann"').page()
    with pytest.raises(InvalidOrderBy):
        client.users.list_users(order_by="display_name").page()


def test_create_user_with_the_address_of_another_in_other_letters_is_refused(client: Storekeep):
    email = f"{new_id('Twice')}@example.com"
    first = client.users.create_user(User(display_name="A", email=email))
    with pytest.raises(AlreadyExists) as caught:
        client.users.create_user(User(display_name="B", email=email.upper()))
    assert first.name in str(caught.value)
    other = client.users.create_user(User(display_name="C", email=f"{new_id('other')}@example.com"))
    with pytest.raises(AlreadyExists):
        client.users.update_user(User(name=other.name, email=email), update_mask=["email"])


def test_user_is_updated_deleted_and_undeleted_by_its_etag(client: Storekeep):
    user = client.users.create_user(User(display_name="A", email=f"{new_id('e')}@example.com"))
    changed = client.users.update_user(User(name=user.name, display_name="B", etag=user.etag))
    assert changed.display_name == "B"
    with pytest.raises(EtagMismatch):
        client.users.update_user(User(name=user.name, display_name="C", etag=user.etag))
    with pytest.raises(RoleNotFound):
        client.users.update_user(User(name=user.name, roles=["roles/nothing"]), update_mask=["roles"])
    deleted = client.users.delete_user(user.name, etag=changed.etag)
    assert deleted.delete_time.seconds
    with pytest.raises(ResourceDeleted):
        client.users.update_user(User(name=user.name, display_name="D"))
    with pytest.raises(ResourceDeleted):
        client.users.create_password_link(user.name)
    assert client.users.undelete_user(user.name).delete_time.seconds == 0
    with pytest.raises(ResourceNotDeleted):
        client.users.undelete_user(user.name)


def test_missing_users_and_sessions_are_reported(client: Storekeep):
    for call in (client.users.get_user, client.users.delete_user, client.users.create_password_link):
        with pytest.raises(UserNotFound):
            call("users/nobody")
    for end in (client.users.revoke_user_sessions, client.users.reset_user_totp, client.users.undelete_user):
        with pytest.raises(UserNotFound):
            end("users/nobody")
    with pytest.raises(UserNotFound):
        client.users.batch_get_users(["users/nobody"])
    person = make_person(client)
    with pytest.raises(UserSessionNotFound):
        client.users.revoke_user_session(f"{person.name}/sessions/none")


@pytest.mark.parametrize("email", ["", "ann", "ann@", "a b@example.com", "a@b\n", "a" * 250 + "@example.com"])
def test_create_user_without_an_email_address_is_refused(client: Storekeep, email: str):
    with pytest.raises(InvalidField):
        client.users.create_user(User(display_name="A", email=email))


def test_nobody_makes_or_changes_a_user_above_himself(client: Storekeep, manager: Storekeep):
    admin = make_person(client, roles=("roles/admin",))
    mine = manager.users.create_user(User(display_name="A", email=f"{new_id('m')}@example.com"))
    attempts: list[Callable[[], object]] = [
        lambda: manager.users.create_user(draft(roles=["roles/admin"])),
        lambda: manager.users.update_user(User(name=mine.name, roles=["roles/admin"]), update_mask=["roles"]),
        lambda: manager.users.update_user(
            User(name=admin.name, email=f"{new_id()}@example.com"), update_mask=["email"]
        ),
        lambda: manager.users.update_user(User(name=admin.name, disabled=True), update_mask=["disabled"]),
        lambda: manager.users.delete_user(admin.name),
        lambda: manager.users.undelete_user(admin.name),
        lambda: manager.users.create_password_link(admin.name),
        lambda: manager.users.reset_user_totp(admin.name),
        lambda: manager.users.revoke_user_sessions(admin.name),
        lambda: manager.users.revoke_user_session(f"{admin.name}/sessions/x"),
    ]
    for attempt in attempts:
        with pytest.raises(PrivilegeEscalation):
            attempt()
    assert manager.users.create_password_link(mine.name).link_token


def test_role_of_a_user_cannot_be_deleted_or_raised_by_less(client: Storekeep, manager: Storekeep):
    role = client.auth.create_role(Role(display_name="R", permissions=["accounts.read"]), role_id=new_id("r"))
    user = client.users.create_user(
        User(display_name="A", email=f"{new_id()}@example.com", roles=[role.name, "roles/admin"])
    )
    with pytest.raises(ResourceInUse) as caught:
        client.auth.delete_role(role.name)
    assert user.name in str(caught.value)
    with pytest.raises(PrivilegeEscalation):
        manager.auth.update_role(Role(name=role.name, display_name="S"))


# -- password links


def test_link_sets_a_password_once(client: Storekeep, nobody: Storekeep):
    user = client.users.create_user(draft())
    link = client.users.create_password_link(user.name, lifetime=timedelta(hours=1))
    nobody.users.redeem_password_link(link.link_token, PASSWORD)
    assert client.users.get_user(user.name).has_password
    with pytest.raises(PasswordLinkInvalid):
        nobody.users.redeem_password_link(link.link_token, OTHER_PASSWORD)


def test_link_sent_many_times_at_once_sets_one_password(client: Storekeep, server: ServerProcess):
    user = client.users.create_user(draft())
    token = client.users.create_password_link(user.name).link_token

    def redeem(number: int) -> bool:
        try:
            with Storekeep(server.address, api_key="") as racer:
                racer.users.redeem_password_link(token, f"{PASSWORD} number {number}")
        except StorekeepError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(redeem, range(8))) == 1


def test_newer_link_ends_the_older_and_a_retry_gets_the_same(client: Storekeep, nobody: Storekeep):
    user = client.users.create_user(draft())
    older = client.users.create_password_link(user.name)
    request_id = "3f2b8c1e-6f8a-4a39-9d0e-7a1f6f0c5b11"
    newer = client.users.create_password_link(user.name, request_id=request_id)
    assert client.users.create_password_link(user.name, request_id=request_id) == newer
    with pytest.raises(PasswordLinkInvalid):
        nobody.users.redeem_password_link(older.link_token, PASSWORD)
    nobody.users.redeem_password_link(newer.link_token, PASSWORD)


def test_link_from_before_more_permissions_or_another_address_is_worthless(
    client: Storekeep, nobody: Storekeep, manager: Storekeep
):
    low = client.auth.create_role(Role(display_name="Low", permissions=["accounts.read"]), role_id=new_id("r"))

    def raise_role(_: str) -> None:
        permissions = ["accounts.read", "audit.read"]
        client.auth.update_role(Role(name=low.name, permissions=permissions), update_mask=["permissions"])

    changes: list[Callable[[str], object]] = [
        lambda name: client.users.update_user(User(name=name, roles=["roles/admin"]), update_mask=["roles"]),
        lambda name: client.users.update_user(User(name=name, email=f"{new_id()}@example.com"), update_mask=["email"]),
        raise_role,
    ]
    for change in changes:
        user = client.users.create_user(draft(roles=[low.name]))
        link = manager.users.create_password_link(user.name)
        change(user.name)
        with pytest.raises(PasswordLinkInvalid):
            nobody.users.redeem_password_link(link.link_token, PASSWORD)


def test_link_of_a_disabled_user_is_worthless(client: Storekeep, nobody: Storekeep):
    user = client.users.create_user(draft())
    token = client.users.create_password_link(user.name).link_token
    client.users.update_user(User(name=user.name, disabled=True), update_mask=["disabled"])
    for text in (token, token[:-1], "pl_", "x" * 100):
        with pytest.raises(PasswordLinkInvalid):
            nobody.users.redeem_password_link(text, PASSWORD)


def test_link_from_before_a_user_was_away_is_worthless(client: Storekeep, nobody: Storekeep):
    def disable(name: str) -> None:
        for disabled in (True, False):
            client.users.update_user(User(name=name, disabled=disabled), update_mask=["disabled"])

    def delete(name: str) -> None:
        client.users.delete_user(name)
        client.users.undelete_user(name)

    for leave in (disable, delete):
        user = client.users.create_user(draft())
        token = client.users.create_password_link(user.name).link_token
        leave(user.name)
        with pytest.raises(PasswordLinkInvalid):
            nobody.users.redeem_password_link(token, PASSWORD)
        newer = client.users.create_password_link(user.name)
        nobody.users.redeem_password_link(newer.link_token, PASSWORD)


def test_reset_ends_the_sessions_and_the_old_password(client: Storekeep, nobody: Storekeep):
    person = make_person(client)
    with person.sign_in() as session:
        nobody.users.redeem_password_link(client.users.create_password_link(person.name).link_token, OTHER_PASSWORD)
        with pytest.raises(NotAuthenticated):
            session.users.get_own_user()
    with pytest.raises(CredentialsInvalid):
        person.sign_in()
    person.sign_in(password=OTHER_PASSWORD).close()


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "fourteen chars",
        "password1234567",
        "passwordpassword",
        "qwertyuiopqwertyuiop",
        "aaaaaaaaaaaaaaaaaaaa",
        "abcdefghijklmnopqrst",
        "1234512345123451",
        "ann examplestorekeep",
        "storekeepstorekeep12",
    ],
)
def test_password_that_is_easy_to_guess_is_refused_with_the_rule(client: Storekeep, nobody: Storekeep, password: str):
    user = client.users.create_user(User(display_name="Ann Example", email=f"{new_id()}@example.com"))
    token = client.users.create_password_link(user.name).link_token
    with pytest.raises(PasswordNotAllowed) as caught:
        nobody.users.redeem_password_link(token, password)
    assert caught.value.metadata["rule"] in str(caught.value)
    nobody.users.redeem_password_link(token, PASSWORD)  # the refused password did not use up the link


# -- signing in


def test_user_signs_in_with_its_permissions_and_the_audit_names_the_person(client: Storekeep):
    person = make_person(client)
    with person.sign_in() as session:
        me = session.auth.who_am_i()
        assert (me.subject, me.display_name, list(me.roles)) == (person.name, "Ann Example", ["roles/viewer"])
        assert "products.read" in me.permissions
        assert "products.write" not in me.permissions
        with pytest.raises(PermissionDenied):
            session.users.get_user(person.name)
        own = session.users.get_own_user()
        assert (own.user.email, own.user.has_password) == (person.email, True)
        assert [one.name for one in own.sessions] == [own.current_session]
        assert own.sessions[0].program == "Tests"
    entries = list(client.audit.list(filter=f'actor = "{person.name}"'))
    rpcs = [entry.method.rpartition("/")[2] for entry in entries]
    assert rpcs == ["SignIn", "RedeemPasswordLink"]


def test_changes_by_a_user_are_audited_under_its_name(client: Storekeep):
    person = make_person(client, roles=("roles/operator",))
    with person.sign_in() as session:
        location = session.inventory.create_location(Location(display_name="L"), location_id=new_id("l"))
    (entry,) = client.audit.list(filter=f'resource = "{location.name}"')
    assert entry.actor == person.name


@pytest.mark.parametrize("wrong", ["password", "email", "spaces", "empty user", "case"])
def test_wrong_credentials_all_look_alike(client: Storekeep, nobody: Storekeep, wrong: str):
    person = make_person(client)
    without = client.users.create_user(draft())
    email, password = {
        "password": (person.email, OTHER_PASSWORD),
        "email": (f"{new_id()}@example.com", PASSWORD),
        "spaces": (person.email, f"{PASSWORD} "),
        "empty user": (without.email, PASSWORD),
        "case": (person.email, PASSWORD.upper()),
    }[wrong]
    with pytest.raises(CredentialsInvalid) as caught:
        nobody.users.sign_in(email, password)
    assert str(caught.value).startswith("the email address, the password or the code is wrong")


def test_password_and_address_are_compared_in_one_unicode_form(client: Storekeep, nobody: Storekeep):
    person = make_person(client, password="Blåbär och gräddfil åt alla")
    decomposed = "Bla\u030aba\u0308r och gra\u0308ddfil a\u030at alla"
    assert nobody.users.sign_in(f" {person.email.upper()} ", decomposed).access_token


def test_disabled_and_deleted_users_cannot_sign_in_and_their_sessions_stop(client: Storekeep):
    person = make_person(client)
    with person.sign_in() as session:
        client.users.update_user(User(name=person.name, disabled=True), update_mask=["disabled"])
        with pytest.raises(NotAuthenticated):
            session.auth.who_am_i()
        with pytest.raises(CredentialsInvalid):
            person.sign_in()
    client.users.update_user(User(name=person.name, disabled=False), update_mask=["disabled"])
    person.sign_in().close()
    client.users.delete_user(person.name)
    with pytest.raises(CredentialsInvalid):
        person.sign_in()


def test_huge_passwords_are_refused_before_any_work(nobody: Storekeep):
    for password in ("x" * 257, "ä" * 100_000):
        with pytest.raises(InvalidField):
            nobody.users.sign_in("a@example.com", password)


# -- the own account


def test_change_of_password_needs_the_old_one_and_ends_other_sessions(client: Storekeep):
    person = make_person(client)
    with person.sign_in() as session, person.sign_in() as other:
        with pytest.raises(CredentialsInvalid):
            session.users.change_password(OTHER_PASSWORD, "Four quiet lamps hum on")
        with pytest.raises(PasswordNotAllowed):
            session.users.change_password(PASSWORD, "tiny")
        session.users.change_password(PASSWORD, OTHER_PASSWORD)
        assert session.users.get_own_user().user.has_password
        with pytest.raises(NotAuthenticated):
            other.users.get_own_user()
    with pytest.raises(CredentialsInvalid):
        person.sign_in()


def test_stolen_session_cannot_guess_the_password(client: Storekeep):
    person = make_person(client)
    with person.sign_in() as session:
        for _ in range(10):
            with pytest.raises(CredentialsInvalid):
                session.users.change_password(OTHER_PASSWORD, "Four quiet lamps hum on")
        with pytest.raises(CredentialsInvalid):
            session.users.change_password(PASSWORD, OTHER_PASSWORD)
    person.sign_in().close()


def test_program_has_no_own_user(client: Storekeep):
    with pytest.raises(UserNotFound):
        client.users.get_own_user()
    with pytest.raises(UserNotFound):
        client.users.end_own_sessions()
    with pytest.raises(CredentialsInvalid):
        client.users.change_password(PASSWORD, OTHER_PASSWORD)
    with pytest.raises(CredentialsInvalid):
        client.users.disable_totp(PASSWORD, code="000000")


def test_totp_is_asked_for_and_no_code_works_twice(client: Storekeep):
    person = make_person(client)
    with person.sign_in() as session:
        with pytest.raises(CredentialsInvalid):
            session.users.enable_totp(PASSWORD, totp_secret=SECRET, code=make_code(50))
        with pytest.raises(IllegalState):
            session.users.disable_totp(PASSWORD, code=make_code())
        used = make_code()
        codes = enable_totp(session, code=used)
        assert len(set(codes)) == 10
        with pytest.raises(IllegalState):
            enable_totp(session)
    assert client.users.get_user(person.name).totp_enabled
    for code in ("", "000000", used, make_code(-9), make_code(9)):
        with pytest.raises(CredentialsInvalid):
            person.sign_in(code=code)
    code = make_code(1)
    person.sign_in(code=f"{code[:3]} {code[3:]}").close()
    with pytest.raises(CredentialsInvalid):
        person.sign_in(code=code)


def test_code_sent_many_times_at_once_works_once(client: Storekeep):
    person = make_person(client)
    with person.sign_in() as session:
        codes = enable_totp(session)

    def try_code(code: str) -> bool:
        try:
            person.sign_in(code=code).close()
        except CredentialsInvalid:
            return False
        return True

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(try_code, [make_code(1)] * 6)) == 1
        assert sum(threads.map(try_code, [codes[0].upper().replace("-", " ")] * 6)) == 1


def test_wrong_codes_are_limited_even_with_the_right_password(client: Storekeep):
    person = make_person(client)
    with person.sign_in() as session:
        enable_totp(session)
    for _ in range(10):
        with pytest.raises(CredentialsInvalid):
            person.sign_in(code="000000")
    with pytest.raises(CredentialsInvalid):
        person.sign_in(code=make_code(1))


def test_recovery_code_disables_totp_and_an_administrator_can_reset_it(client: Storekeep):
    person = make_person(client)
    with person.sign_in() as session:
        codes = enable_totp(session)
        session.users.disable_totp(PASSWORD, code=codes[3])
        assert not session.users.get_own_user().user.totp_enabled
        enable_totp(session, code=make_code(1))
        user = client.users.get_user(person.name)
        with pytest.raises(EtagMismatch):
            client.users.reset_user_totp(person.name, etag="v1")
        assert not client.users.reset_user_totp(person.name, etag=user.etag).totp_enabled
        with pytest.raises(IllegalState):
            client.users.reset_user_totp(person.name)
        with pytest.raises(NotAuthenticated):
            session.users.get_own_user()
    person.sign_in().close()


# -- sessions


def test_user_ends_its_own_sessions_and_no_others(client: Storekeep):
    person, stranger = make_person(client), make_person(client)
    with person.sign_in() as first, person.sign_in() as second, person.sign_in() as third, stranger.sign_in() as other:
        own = second.users.get_own_user().current_session
        with pytest.raises(UserSessionNotFound):
            other.users.end_own_sessions(own)
        assert first.users.end_own_sessions(own) == 1
        assert first.users.end_own_sessions(own) == 0
        with pytest.raises(NotAuthenticated):
            second.users.get_own_user()
        assert first.users.end_own_sessions(keep_current=True) == 1
        with pytest.raises(NotAuthenticated):
            third.users.get_own_user()
        assert len(first.users.get_own_user().sessions) == 1
        assert first.users.end_own_sessions() == 1
        with pytest.raises(NotAuthenticated):
            first.users.get_own_user()
        assert other.users.get_own_user().user.name == stranger.name


def test_administrator_lists_and_ends_sessions(client: Storekeep):
    person = make_person(client)
    with person.sign_in() as first, person.sign_in() as second:
        names = {session.name for session in client.users.list_user_sessions(person.name)}
        current = first.users.get_own_user().current_session
        assert len(names) == 2
        assert current in names
        assert client.users.revoke_user_session(current).revoke_time.seconds
        with pytest.raises(IllegalState):
            client.users.revoke_user_session(current)
        with pytest.raises(NotAuthenticated):
            first.users.get_own_user()
        assert client.users.revoke_user_sessions(person.name) == 1
        with pytest.raises(NotAuthenticated):
            second.users.get_own_user()
    assert client.users.revoke_user_sessions(person.name) == 0


def test_audit_log_and_rows_of_users_agree(client: Storekeep, server: ServerProcess):
    person: Person = make_person(client)
    with person.sign_in() as session:
        enable_totp(session)
    finished = server.run("verify")
    assert finished.returncode == 0, finished.stdout + finished.stderr
