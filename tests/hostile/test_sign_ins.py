"""Attacks on sign-ins: floods, guesses by time, and what others see of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from storekeep.client import (
    CredentialsInvalid,
    NotAuthenticated,
    PermissionDenied,
    PrivilegeEscalation,
    RateLimited,
    Storekeep,
    User,
)
from storekeep.client.error_families import Refused
from storekeep.client.statuses import from_rpc_error
from storekeep.v1 import auth_pb2, users_pb2_grpc
from storekeep.v1 import users_pb2 as pb
from tests.support.hostile.accounts import MANAGER, make_account, make_key, make_role
from tests.support.hostile.usage import read_cpu_ms
from tests.support.people import OTHER_PASSWORD, PASSWORD, SECRET, Person, make_code, make_person
from tests.support.processes import ServerProcess
from tests.support.refusals import parse_refusal
from tests.support.shops import Shop, new_id

MakeServer = Callable[..., ServerProcess]
TIMEOUT_S = 120.0
FLOOD = 1_000


def fail_to_sign_in(nobody: Storekeep, email: str) -> str:
    """Return the reason for which a wrong password is refused."""
    with pytest.raises(Refused) as caught:
        nobody.users.sign_in(email, OTHER_PASSWORD)
    return caught.value.reason


@pytest.mark.engine("sqlite", reason="hashing has nothing to do with the database")
def test_flood_of_sign_ins_stops_no_other_calls_and_is_rejected_in_words(make_server: MakeServer):
    server = make_server(password_queue_max="20")
    with (
        Storekeep(server.address, api_key=server.admin_key) as client,
        grpc.insecure_channel(server.address) as channel,
    ):
        person = make_person(client)
        sign_in = users_pb2_grpc.UserServiceStub(channel).SignIn
        calls = [
            sign_in.future(pb.SignInRequest(email=person.email, password=f"wrong {number}"), timeout=TIMEOUT_S)
            for number in range(FLOOD)
        ]
        assert client.users.get_user(person.name).has_password
        assert client.auth.issue_token(server.admin_key).access_token
        reasons = {from_rpc_error(call.exception()).reason for call in calls}
    assert reasons <= {"CREDENTIALS_INVALID", "OVERLOADED", "RATE_LIMITED"}
    assert reasons & {"OVERLOADED", "RATE_LIMITED"}


@pytest.mark.engine("sqlite", reason="the limits have nothing to do with the database")
def test_guesses_at_the_same_time_count_as_guesses_one_after_the_other(make_server: MakeServer):
    """All are admitted before the first one has failed; each takes 0.2 s."""
    burst, per_s = 5, 0.001
    server = make_server(failed_credentials_burst=str(burst), failed_credentials_per_s=str(per_s), password_passes="20")
    with grpc.insecure_channel(server.address) as channel:
        sign_in = users_pb2_grpc.UserServiceStub(channel).SignIn
        calls = [
            sign_in.future(pb.SignInRequest(email=f"{new_id()}@example.com", password="wrong"), timeout=TIMEOUT_S)
            for _ in range(3 * burst)
        ]
        reasons = [from_rpc_error(call.exception()).reason for call in calls]
        owed = min(reasons.count("CREDENTIALS_INVALID") - burst, burst)
        with pytest.raises(grpc.RpcError) as caught:
            sign_in(pb.SignInRequest(email="ann@example.com", password="wrong"), timeout=TIMEOUT_S)
    refusal = parse_refusal(caught.value)
    assert refusal.reason == "RATE_LIMITED"
    assert refusal.retry_after_s > owed / per_s


@pytest.mark.engine("sqlite", reason="hashing has nothing to do with the database")
def test_unknown_person_takes_as_long_as_a_wrong_password(make_server: MakeServer):
    """In CPU time of the server, which other load on the host changes little."""
    server = make_server(failed_credentials_burst="1000", password_passes="5")
    with Storekeep(server.address, api_key=server.admin_key) as client, Storekeep(server.address, api_key="") as nobody:
        person = make_person(client)

        def measure_ms(email: str) -> float:
            start_ms = read_cpu_ms(server.process.pid)
            assert fail_to_sign_in(nobody, email) == "CREDENTIALS_INVALID"
            return read_cpu_ms(server.process.pid) - start_ms

        known, unknown = [], []
        for _ in range(60):  # the cheapest of several: other load only adds to a measurement
            known.append(measure_ms(person.email))
            unknown.append(measure_ms(f"{new_id()}@example.com"))
            if len(known) >= 4 and 0.7 < min(known) / min(unknown) < 1.4:
                return
        pytest.fail(f"known {min(known):.1f} ms, unknown {min(unknown):.1f} ms")


def test_attacker_at_another_address_does_not_lock_a_person_out(make_server: MakeServer):
    server = make_server(
        failed_credentials_burst="3",
        failed_credentials_per_s="0.001",
        listen="[::]:0",
        insecure_listen="yes-plaintext",
    )
    port = server.address.rpartition(":")[2]
    with Storekeep(f"127.0.0.1:{port}", api_key=server.admin_key, tls=False) as client:
        person = make_person(client)
    with Storekeep(f"[::1]:{port}", api_key="", tls=False) as attacker:
        reasons = [fail_to_sign_in(attacker, person.email) for _ in range(8)]
    assert reasons[0] == "CREDENTIALS_INVALID"
    assert reasons[-1] == "RATE_LIMITED"
    with Storekeep(f"127.0.0.1:{port}", api_key="", tls=False) as owner:
        assert owner.users.sign_in(person.email, PASSWORD).access_token


@pytest.mark.engine("sqlite", reason="the limits have nothing to do with the database")
def test_limit_of_guesses_holds_for_a_password_that_worked_before(make_server: MakeServer):
    server = make_server(
        failed_credentials_burst="3",
        failed_credentials_per_s="0.001",
        listen="[::]:0",
        insecure_listen="yes-plaintext",
    )
    port = server.address.rpartition(":")[2]
    with Storekeep(f"127.0.0.1:{port}", api_key=server.admin_key, tls=False) as client:
        person = make_person(client)
    with (
        Storekeep(f"127.0.0.1:{port}", api_key="", tls=False) as owner,
        Storekeep(f"[::1]:{port}", api_key="", tls=False) as attacker,
    ):
        assert owner.users.sign_in(person.email, PASSWORD).access_token
        while fail_to_sign_in(attacker, person.email) != "RATE_LIMITED":
            pass
        with pytest.raises(RateLimited):  # else the answer would tell that the guess is right
            attacker.users.sign_in(person.email, PASSWORD)
        while fail_to_sign_in(owner, person.email) != "RATE_LIMITED":  # now at the address of the person
            pass
        assert owner.users.sign_in(person.email, PASSWORD).access_token
        for _ in range(3):
            assert fail_to_sign_in(owner, person.email) == "RATE_LIMITED"
        with pytest.raises(RateLimited):
            owner.users.sign_in(person.email, PASSWORD)


@pytest.mark.parametrize("inviter", ["manager", "limited key", "administrator"])
def test_password_that_a_lesser_one_may_have_set_ends_when_its_user_gets_more(
    client: Storekeep, channel: grpc.Channel, server: ServerProcess, inviter: str
):
    admin = Shop(channel, api_key=server.admin_key)
    keys = {
        "manager": lambda: make_key(admin, make_account(admin, permissions=MANAGER)).secret,
        "limited key": lambda: make_key(admin, "serviceAccounts/admin", scopes=MANAGER).secret,
        "administrator": lambda: server.admin_key,
    }
    with Storekeep(server.address, api_key=keys[inviter]()) as owner:
        person = make_person(owner, roles=())
    client.users.create_password_link(person.name)  # one that nobody has used vouches for nothing
    session = person.sign_in()
    changed = pb.User(name=person.name, display_name="Ann", email=person.email)
    assert admin.users.UpdateUser(pb.UpdateUserRequest(user=changed)).has_password
    changed.roles.append("roles/admin")
    raised = admin.users.UpdateUser(pb.UpdateUserRequest(user=changed))
    assert raised.has_password == (inviter == "administrator")
    if inviter == "administrator":
        assert session.auth.who_am_i().permissions
    else:
        with pytest.raises(NotAuthenticated):
            session.auth.who_am_i()
        with pytest.raises(CredentialsInvalid):
            person.sign_in()
    token = client.users.create_password_link(person.name).link_token  # the way on for the person
    with Storekeep(server.address, api_key="") as nobody:
        nobody.users.redeem_password_link(token, OTHER_PASSWORD)
    with person.sign_in(password=OTHER_PASSWORD) as renewed:
        assert renewed.auth.who_am_i().permissions
    session.close()


def give_admin(admin: Shop, person: Person) -> bool:
    """Make a user an administrator; return whether it has a password still."""
    user = admin.users.GetUser(pb.GetUserRequest(name=person.name))
    user.roles.append("roles/admin")
    return admin.users.UpdateUser(pb.UpdateUserRequest(user=user)).has_password


@pytest.fixture
def manager(client: Storekeep, channel: grpc.Channel, server: ServerProcess) -> Iterator[Storekeep]:
    """Sign in a program that may do nothing but manage accounts."""
    admin = Shop(channel, api_key=server.admin_key)
    with Storekeep(server.address, api_key=make_key(admin, make_account(admin, permissions=MANAGER)).secret) as program:
        yield program


def test_password_from_a_link_of_the_user_itself_ends_when_the_user_gets_more(
    channel: grpc.Channel, server: ServerProcess, manager: Storekeep
):
    admin = Shop(channel, api_key=server.admin_key)
    person = make_person(manager, roles=(make_role(admin, MANAGER),))
    with person.sign_in() as session, Storekeep(server.address, api_key="") as nobody:
        link = session.users.create_password_link(person.name)
        nobody.users.redeem_password_link(link.link_token, OTHER_PASSWORD)
    with person.sign_in(password=OTHER_PASSWORD) as session:
        session.users.change_password(OTHER_PASSWORD, PASSWORD)  # gives no more than the password that it replaces
    with person.sign_in() as session:
        assert not give_admin(admin, person)
        with pytest.raises(NotAuthenticated):
            session.auth.who_am_i()
    with pytest.raises(CredentialsInvalid):
        person.sign_in()


def test_password_from_a_link_of_a_user_who_was_a_manager_then_ends_when_its_user_gets_more(
    channel: grpc.Channel, server: ServerProcess, manager: Storekeep
):
    admin = Shop(channel, api_key=server.admin_key)
    middle = make_person(manager, roles=(make_role(admin, MANAGER),))
    with middle.sign_in() as session:
        person = make_person(session, roles=())
    assert not give_admin(admin, middle)
    assert not give_admin(admin, person)
    with pytest.raises(CredentialsInvalid):
        person.sign_in()


def test_permissions_that_a_role_gets_are_withheld_from_a_password_of_a_lesser_one(
    client: Storekeep, channel: grpc.Channel, server: ServerProcess, manager: Storekeep
):
    admin = Shop(channel, api_key=server.admin_key)
    role = make_role(admin, MANAGER)
    planted = make_person(manager, roles=(role,))
    invited = make_person(client, roles=(role,))
    account = make_account(admin, permissions=MANAGER)
    with planted.sign_in() as before, invited.sign_in() as usual:
        more = (*MANAGER, "orders.read", "products.read")
        admin.auth.UpdateRole(
            auth_pb2.UpdateRoleRequest(
                role=auth_pb2.Role(name=role, permissions=more), update_mask={"paths": ["permissions"]}
            )
        )
        assert set(usual.auth.who_am_i().permissions) == set(more)
        with planted.sign_in() as after:
            for session in (before, after):
                check_withheld(session, planted, role, account=account)
            after.users.change_password(PASSWORD, OTHER_PASSWORD)
            after.users.enable_totp(OTHER_PASSWORD, totp_secret=SECRET, code=make_code())
            assert set(after.auth.who_am_i().permissions) == set(MANAGER)
    reset_and_renew(client, planted)
    with planted.sign_in() as renewed:
        assert set(renewed.auth.who_am_i().permissions) == set(more)


def check_withheld(session: Storekeep, person: Person, role: str, *, account: str) -> None:
    """Check that a session has the permissions of a manager only, and can grant no others."""
    assert set(session.auth.who_am_i().permissions) == set(MANAGER)
    with pytest.raises(PermissionDenied, match="ask for a new link"):
        list(session.orders.list())
    with pytest.raises(PrivilegeEscalation):
        session.users.create_password_link(person.name)
    with pytest.raises(PrivilegeEscalation):
        session.users.create_user(User(display_name="Ann", email=f"{new_id()}@example.com", roles=(role,)))
    with pytest.raises(PrivilegeEscalation):
        session.auth.create_api_key(account, auth_pb2.ApiKey(scopes=["orders.read"]))


def reset_and_renew(client: Storekeep, person: Person) -> None:
    """Give a person a new password with a link, without a second factor."""
    client.users.reset_user_totp(person.name)
    link = client.users.create_password_link(person.name)
    with Storekeep(person.address, api_key="") as nobody:
        nobody.users.redeem_password_link(link.link_token, PASSWORD)


def test_database_and_logs_hold_no_secret_in_plain_text(make_server: MakeServer):
    server = make_server()
    with Storekeep(server.address, api_key=server.admin_key) as client:
        person = make_person(client)
        with person.sign_in() as session:
            codes = list(session.users.enable_totp(PASSWORD, totp_secret=SECRET, code=make_code()))
        token = client.users.create_password_link(person.name).link_token
    texts = str(server.database.everything()) + server.log_file.read_text() + server.output_file.read_text()
    assert person.name.removeprefix("users/") in texts
    assert person.email not in str(server.database.everything())
    assert [text for text in (PASSWORD, SECRET, codes[0], token, "$argon2") if text in texts] == []


def test_parallel_sign_ins_of_one_person_all_work(make_server: MakeServer):
    server = make_server()
    with Storekeep(server.address, api_key=server.admin_key) as client:
        person = make_person(client)
        with ThreadPoolExecutor(10) as threads:
            sessions = list(threads.map(lambda _: person.sign_in(), range(20)))
        names = {session.users.get_own_user().current_session for session in sessions}
        assert len(names) == 20
        assert client.users.revoke_user_sessions(person.name) == 20
        for session in sessions:
            session.close()
