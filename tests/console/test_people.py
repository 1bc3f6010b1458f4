"""People in the console: invitations, sign-ins with a password, the own account, and users."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storekeep.client import NotAuthenticated, Storekeep, User
from tests.support.gateways import GatewayProcess
from tests.support.people import OTHER_PASSWORD, PASSWORD, Person, make_code, make_person
from tests.support.processes import ServerProcess
from tests.support.shops import new_id
from tests.support.visitors import Page, Visitor

pytestmark = pytest.mark.engine("sqlite", reason="the console is a client; it never sees the database")
SIGN_IN = "/sign-in?with=password"


def sign_in(visitor: Visitor, person: Person, *, password: str = PASSWORD, totp: str = "") -> Page:
    form = visitor.get("/sign-in").form(SIGN_IN)
    return visitor.submit(form, email=person.email, password=password, totp=totp)


def read_codes(page: Page) -> list[str]:
    found = re.search(r'id="codes">([^<]*)<', page.body)
    assert found is not None
    return found[1].split()


def set_up_app(visitor: Visitor) -> tuple[str, list[str]]:
    """Set up an authenticator app; return its secret and the recovery codes."""
    form = visitor.get("/account?totp=new").form("/account/totp")
    secret = dict(form.fields)["totp_secret"]
    page = visitor.submit(form, password=PASSWORD, totp=make_code(secret=secret))
    return secret, read_codes(page)


def test_invited_person_sets_a_password_and_signs_in(gateway: GatewayProcess, admin: Visitor):
    email = f"{new_id('invited')}@example.com"
    form = admin.get("/users/new").form("/users/new")
    page = admin.post(
        form.action,
        [
            *[f for f in form.fields if f[0] not in ("display_name", "email")],
            ("display_name", "Ida Example"),
            ("email", email),
            ("role", "roles/viewer"),
        ],
    )
    link = re.search(r"http://[^<]*?(/password\?token=[^<]+)<", page.body)
    assert link is not None
    assert "Ida Example" in page.text
    visitor = Visitor(gateway.address)
    form = visitor.get(link[1]).form("/password")
    differs = visitor.submit(form, new_password=PASSWORD, repeated=OTHER_PASSWORD)
    assert "The two passwords differ" in differs.text
    weak = visitor.submit(differs.form("/password"), new_password="password1234567", repeated="password1234567")
    assert weak.status == 400
    assert "common" in weak.text
    done = visitor.submit(weak.form("/password"), new_password=PASSWORD, repeated=PASSWORD)
    assert "Your password is set" in done.text
    page = visitor.submit(done.form(SIGN_IN), email=email.upper(), password=PASSWORD)
    assert "Dashboard" in page.text
    assert "Ida Example" in page.text
    again = visitor.submit(form, new_password=OTHER_PASSWORD, repeated=OTHER_PASSWORD)
    assert again.status == 401
    assert "used or expired" in again.text
    assert "Ida Example" in admin.get("/users").text


def test_wrong_password_says_the_same_as_an_unknown_person_and_repeats_no_secret(visitor: Visitor, client: Storekeep):
    person = make_person(client)
    known = sign_in(visitor, person, password=OTHER_PASSWORD)
    unknown = sign_in(visitor, Person("", f"{new_id()}@example.com", ""), password=OTHER_PASSWORD)
    assert (known.status, unknown.status) == (401, 401)
    assert "CREDENTIALS_INVALID" in known.text
    assert OTHER_PASSWORD not in known.body
    assert person.email in known.body
    assert visitor.cookie == ""


def test_sign_in_again_ends_the_session_before_and_on_the_server_too(
    gateway: GatewayProcess, visitor: Visitor, client: Storekeep
):
    person = make_person(client)
    sign_in(visitor, person)
    first = visitor.cookie
    sign_in(visitor, person)
    assert visitor.cookie != first
    before = Visitor(gateway.address)
    before.cookie = first
    assert before.get("/account").text.startswith("Sign in")
    for _ in range(200):
        valid = [one for one in client.users.list_user_sessions(person.name) if not one.revoke_time.seconds]
        if len(valid) == 1:
            break
    assert len(valid) == 1


def test_chosen_cookie_is_not_taken_over_by_a_sign_in(visitor: Visitor, client: Storekeep):
    visitor.cookie = "__Host-storekeep=chosen-by-an-attacker"
    assert "Dashboard" in sign_in(visitor, make_person(client)).text
    assert "chosen-by-an-attacker" not in visitor.cookie


def test_account_page_changes_the_password_and_a_wrong_one_does_not_sign_out(visitor: Visitor, client: Storekeep):
    person = make_person(client)
    sign_in(visitor, person)
    form = visitor.get("/account").form("/account/password")
    third = "Four quiet lamps hum on"
    wrong = visitor.submit(form, password=OTHER_PASSWORD, new_password=third, repeated=third)
    assert wrong.status == 401
    assert "Your account" in wrong.text
    assert third not in wrong.body
    page = visitor.submit(
        wrong.form("/account/password"), password=PASSWORD, new_password=OTHER_PASSWORD, repeated=OTHER_PASSWORD
    )
    assert "Your password is changed" in page.text
    person.sign_in(password=OTHER_PASSWORD).close()


def test_app_is_set_up_with_a_qr_code_and_then_asked_for(gateway: GatewayProcess, visitor: Visitor, client: Storekeep):
    person = make_person(client)
    sign_in(visitor, person)
    page = visitor.get("/account?totp=new")
    assert "<svg" in page.body
    assert "style=" not in page.body
    wrong = visitor.submit(page.form("/account/totp"), password=PASSWORD, totp="000000")
    assert wrong.status == 401
    same = dict(page.form("/account/totp").fields)["totp_secret"]
    assert dict(wrong.form("/account/totp").fields)["totp_secret"] == same
    secret, codes = set_up_app(visitor)
    assert len(codes) == 10
    assert codes[0] not in visitor.get("/account").body
    other = Visitor(gateway.address)
    assert sign_in(other, person).status == 401
    assert "Dashboard" in sign_in(other, person, totp=make_code(1, secret=secret)).text
    form = other.get("/account").form("/account/totp/disable")
    assert "The app is removed" in other.submit(form, password=PASSWORD, totp=codes[2]).text


def test_sign_out_everywhere_ends_the_sessions_of_other_programs(visitor: Visitor, client: Storekeep):
    person = make_person(client)
    sign_in(visitor, person)
    with person.sign_in() as program:
        form = visitor.get("/account").form("/sign-out", button="Sign out everywhere")
        visitor.submit(form)
        assert visitor.get("/account").text.startswith("Sign in")
        with pytest.raises(NotAuthenticated):
            program.users.get_own_user()


def test_other_session_is_ended_from_the_account_page(visitor: Visitor, client: Storekeep):
    person = make_person(client)
    sign_in(visitor, person)
    with person.sign_in() as program:
        page = visitor.get("/account")
        assert "Tests" in page.text
        assert "The session has ended" in visitor.submit(page.form("/account/sessions/end")).text
        with pytest.raises(NotAuthenticated):
            program.users.get_own_user()


def test_administrator_changes_roles_disables_and_deletes(gateway: GatewayProcess, admin: Visitor, client: Storekeep):
    person = make_person(client)
    user = Visitor(gateway.address)
    sign_in(user, person)
    page = admin.get(f"/{person.name}")
    form = page.form(f"/{person.name}/roles")
    page = admin.post(form.action, [*form.fields, ("role", "roles/operator")])
    assert "The roles are saved" in page.text
    assert list(client.users.get_user(person.name).roles) == ["roles/operator"]
    page = admin.submit(page.form(f"/{person.name}/disable"))
    assert "can no longer sign in" in page.text
    assert sign_in(Visitor(gateway.address), person).status == 401
    page = admin.submit(page.form(f"/{person.name}/enable"))
    page = admin.submit(page.form(f"/{person.name}/sessions"))
    assert "ended" in page.text
    page = admin.submit(page.form(f"/{person.name}/link"))
    assert "/password?token=pl_" in page.body
    page = admin.submit(admin.get(f"/{person.name}").form(f"/{person.name}/delete"))
    assert "The user is deleted" in page.text


def test_viewer_sees_no_users_and_may_change_none(visitor: Visitor, client: Storekeep):
    person = make_person(client)
    sign_in(visitor, person)
    assert 'href="/users"' not in visitor.get("/").body
    assert visitor.get("/users").status == 403
    page = visitor.get("/account")
    token = dict(page.form("/account/password").fields)["csrf_token"]
    assert visitor.post(f"/{person.name}/roles", {"csrf_token": token, "role": "roles/admin"}).status == 403


def test_key_has_no_account_page(admin: Visitor):
    assert "signed in with an API key" in admin.get("/account").text


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7919*7907 }}"])
def test_name_of_a_person_is_text_on_every_page(gateway: GatewayProcess, admin: Visitor, client: Storekeep, text: str):
    person = make_person(client)
    client.users.update_user(User(name=person.name, display_name=text), update_mask=["display_name"])
    user = Visitor(gateway.address)
    pages = [admin.get("/users"), admin.get(f"/{person.name}"), sign_in(user, person), user.get("/account")]
    for page in pages:
        assert text not in page.body or "{{" in text
        assert "62615533" not in page.text or "{{" not in text


def test_many_wrong_sign_ins_at_once_are_limited_like_one_after_the_other(
    server: ServerProcess, client: Storekeep, tmp_path: Path
):
    person = make_person(client)
    gateway = GatewayProcess(
        tmp_path,
        server_address=server.address,
        api_key=server.admin_key,
        failed_credentials_burst="5",
        failed_credentials_per_s="0.01",
    )
    visitor = Visitor(gateway.address)
    form = visitor.get("/sign-in").form(SIGN_IN)

    def attempt(number: int) -> int:
        return Visitor(gateway.address).submit(form, email=person.email, password=f"wrong {number}").status

    with ThreadPoolExecutor(40) as threads:
        statuses = list(threads.map(attempt, range(40)))
    gateway.stop()
    # On a busy machine some find too many sign-ins waiting (503). None of these has checked a password.
    assert statuses.count(401) <= 5
    assert statuses.count(429) >= 1
    assert set(statuses) <= {401, 429, 503}
